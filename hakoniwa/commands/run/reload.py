"""`hako reload`: have the supervisors of running containers read their file again."""

from __future__ import annotations

from hakoniwa import log
from hakoniwa.commands.selection import alive
from hakoniwa.errors import FAILED, HakoError, printable
from hakoniwa.options import ALL, NAME, PID, Command, Given
from hakoniwa.run.control.asking import ask

COMMAND = Command(
    name="reload",
    summary="Read the file again and apply what may change in the running containers; tell what needs a restart.",
    options=(NAME, PID, ALL),
    by_name=True,
)


def run(given: Given) -> int:
    """Ask each supervisor, and print what it has done. FAILED if anything failed."""
    running = alive(given, "reload")
    failed = False
    for known in running:
        try:
            changes = ask(known, "reload").changes
        except HakoError as error:
            log.write_error(error)
            failed = True
            continue
        for change in changes:
            print(printable(f"{known.name}: {change.what}: {change.outcome}"))
            failed = failed or change.failed
        if not changes:
            print(f"{known.name}: nothing has changed")
    return FAILED if failed else 0
