"""`hako reload`: have the supervisors of running containers read their file again."""

from __future__ import annotations

from hakoniwa import log
from hakoniwa.commands.selection import alive
from hakoniwa.errors import printable
from hakoniwa.options import ALL, NAME, PID, Command, Given
from hakoniwa.run.control.asking import ask

COMMAND = Command(
    name="reload",
    summary="Read the file again and apply what may change in the running containers; tell what needs a restart.",
    options=(NAME, PID, ALL),
    by_name=True,
)


def run(given: Given) -> int:
    """Ask each supervisor, and print what it has done. 125 if anything failed."""
    running = alive(given, "reload")
    failed = False
    for known in running:
        answer = ask(known, {"command": "reload"})
        if "error" in answer:
            for line in answer["error"].splitlines():
                log.write(line, "error")
            failed = True
        for what, outcome, bad in answer.get("changes", []):
            print(printable(f"{known.name}: {what}: {outcome}"))
            failed = failed or bad
        if answer.get("changes") == []:
            print(f"{known.name}: nothing has changed")
    return 125 if failed else 0
