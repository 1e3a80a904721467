"""`hako version`: our own."""

from __future__ import annotations

from hakoniwa import __version__
from hakoniwa.options import Command, Given

COMMAND = Command(name="version", summary="Print hakoniwa's version.", file="")


def run(given: Given) -> int:
    """One line."""
    print(f"hakoniwa {__version__}")
    return 0
