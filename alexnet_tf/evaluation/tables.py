"""Tables for the terminal and for Markdown."""

from collections.abc import Collection, Sequence


def format_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: Collection[int] = (0,),
    markdown: bool = False,
) -> str:
    """Returns a table whose columns are as wide as their longest cell.

    Args:
        header: Column titles.
        rows: Cells of each row, formatted; a row may have fewer cells than
            the header.
        left: Indices of the columns aligned to the left; others are aligned
            to the right, as numbers are.
        markdown: Whether to return a Markdown table.
    """
    lines = [list(header), *map(list, rows)]
    for line in lines:
        line += [""] * (len(header) - len(line))
    if markdown:
        lines.insert(1, ["---"] * len(header))
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:{'<' if index in left else '>'}{widths[index]}}"
            for index, cell in enumerate(line)
        ).rstrip()
        for line in lines
    )
