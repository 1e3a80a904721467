"""Plain tables for people."""

from __future__ import annotations

from hakoniwa.errors import printable


def show_table(head: list[str], rows: list[list[str]]) -> None:
    """Print columns, each as wide as its longest cell."""
    every = [head, *rows]
    if not "".join(map("".join, every)).isprintable():
        every = [[printable(cell) for cell in row] for row in every]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    line = "  ".join(f"%-{width}s" for width in widths)
    print("\n".join([(line % tuple(row)).rstrip() for row in every]))
