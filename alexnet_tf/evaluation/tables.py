"""Tables for the terminal and for Markdown."""

from collections.abc import Collection, Sequence


def format_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: Collection[int] = (0,),
    markdown: bool = False,
) -> str:
    """Returns a table, in plain text with columns as wide as their cells.

    Args:
        header: Column titles.
        rows: Formatted cells; a row may have fewer than the header.
        left: Indices of the columns aligned to the left, not to the right.
        markdown: Whether to return a Markdown table.
    """
    lines = [list(header), *map(list, rows)]
    for line in lines:
        line += [""] * (len(header) - len(line))
    if markdown:
        lines.insert(1, ["---"] * len(header))
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = ["<" if index in left else ">" for index in range(len(header))]
    padded = [map("{:{}{}}".format, line, sides, widths) for line in lines]
    return "\n".join("  ".join(cells).rstrip() for cells in padded)
