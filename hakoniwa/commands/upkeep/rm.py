"""`hako rm`: forget a stopped container, and with `--rootfs` remove its rootfs."""

from __future__ import annotations

from hakoniwa.commands.selection import selected
from hakoniwa.options import ALL, NAME, Command, Given, Option
from hakoniwa.rootfs.forget import forget

COMMAND = Command(
    name="rm",
    summary="Forget a stopped container: its state and its log.",
    options=(NAME, ALL, Option(flags=("--rootfs",), help="remove its rootfs, too")),
    by_name=True,
    undone=True,
)


def run(given: Given) -> int:
    """Forget each container that is meant; refuse while one runs."""
    forget(selected(given, "rm"), rootfs=given.flag("rootfs"))
    return 0
