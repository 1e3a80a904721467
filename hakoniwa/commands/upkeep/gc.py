"""`hako gc`: clear whatever a crash has left."""

from __future__ import annotations

from hakoniwa import log
from hakoniwa.errors import FAILED, HakoError, printable
from hakoniwa.options import Command, Given, Option
from hakoniwa.rootfs.clearing import Used, clear_everything

COMMAND = Command(
    name="gc",
    summary="Clear whatever a crash has left: processes, cgroups, unfinished builds.",
    options=(Option(flags=("-v", "--verbose"), help="tell what is in use, too, and so stays"),),
    file="",
    undone=True,
)


def run(given: Given) -> int:
    """Clear, and print what was cleared."""
    nothing, failed = True, False
    for cleared in clear_everything():
        if isinstance(cleared, Used):
            if given.flag("verbose"):
                print(printable(f"in use: {cleared}"), flush=True)
            continue
        nothing = False
        if isinstance(cleared, HakoError):
            failed = True
            log.write(str(cleared), "warning")
        else:
            print(printable(cleared), flush=True)
    if nothing:
        print("nothing was left")
    return FAILED if failed else 0
