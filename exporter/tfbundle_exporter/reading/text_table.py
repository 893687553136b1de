"""Tables as plain text, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def format_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Write a table as lines: columns aligned, two spaces in front and between; nothing where there are no rows."""
    if not rows:
        return
    cells = [[str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    for row in cells:
        yield ("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()


def format_figure(figure: float | None) -> str:
    """Write a number briefly; "-" where there is none."""
    return "-" if figure is None else f"{figure:.4g}"
