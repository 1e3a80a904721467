"""`hako check`: load and validate, and change nothing."""

from __future__ import annotations

import os

from hakoniwa.commands.build.checking import find_problems
from hakoniwa.errors import Problems, printable
from hakoniwa.haco.loader import load_given
from hakoniwa.options import Command, Given

COMMAND = Command(name="check", summary="Load and validate a container file. Needs no root and changes nothing.")


def run(given: Given) -> int:
    """Load the file; every problem of it is an error."""
    assert given.file is not None
    barn = load_given(given, "check")
    shown = given.file if os.path.exists(given.file) else barn.file
    if problems := find_problems(barn, shown):
        raise Problems(problems)
    for container in barn.containers:
        print(printable(f"{shown}: container {container.name!r} is well described"))
    return 0
