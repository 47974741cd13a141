"""Tables of text and of Markdown."""

from alexnet_tf.evaluation.tables import format_table


def test_columns_are_as_wide_as_their_longest_cell():
    rows = [("conv1", "34,944", "CPU:0"), ("total", "60,965,224")]
    assert format_table(("layer", "size", "on"), rows, left=(0, 2)) == (
        "layer        size  on\nconv1      34,944  CPU:0\ntotal  60,965,224"
    )


def test_markdown_has_a_rule_below_its_header():
    table = format_table(("a", "b"), [("1", "2"), ("3",)], markdown=True)
    assert table == "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 |  |"
