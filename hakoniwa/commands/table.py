"""Plain tables for people."""

from __future__ import annotations

from hakoniwa.errors import printable


def show_table(head: list[str], rows: list[list[str]]) -> None:
    """Print columns, each as wide as its longest cell."""
    every = [head, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in every) for column in range(len(head))]
    for row in every:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
