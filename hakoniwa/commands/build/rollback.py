"""`hako rollback`: put the rootfs of a stopped container back to what it was at a snapshot."""

from __future__ import annotations

from hakoniwa.commands.build.snapshot import checked_name, rootfs_of
from hakoniwa.options import NAME, Command, Given, usage_error

COMMAND = Command(
    name="rollback",
    summary="Put the rootfs of a stopped container back to what it was at a snapshot. What was done since is gone.",
    options=(NAME,),
    by_name=True,
    words=("SNAPSHOT",),
    undone=True,
)


def run(given: Given) -> int:
    """Go back."""
    from hakoniwa.rootfs.rootless import as_root
    from hakoniwa.rootfs.snapshots import rollback

    if not given.words:
        raise usage_error("to which snapshot?", "rollback", "hako snapshot FILE lists them")
    name = checked_name(given.words[0])
    for path in rootfs_of(given, "rollback"):
        as_root(lambda path=path: rollback(path, name))  # type: ignore[misc]
    return 0
