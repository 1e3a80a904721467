"""`hako check`: load and validate, and change nothing."""

from __future__ import annotations

from hakoniwa.checking import find_problems
from hakoniwa.errors import Problems, printable
from hakoniwa.loader import load
from hakoniwa.options import Command, Given

COMMAND = Command(name="check", summary="Load and validate a container file. Needs no root and changes nothing.")


def run(given: Given) -> int:
    """Load the file; every problem of it is an error."""
    assert given.file is not None
    barn = load(given.file, "check")
    if problems := find_problems(barn, given.file):
        raise Problems(problems)
    for container in barn.containers:
        print(printable(f"{given.file}: container {container.name!r} is well described"))
    return 0
