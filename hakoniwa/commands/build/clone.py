"""`hako clone`: make the rootfs of another container file a copy of one that is there."""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.commands.selection import selected
from hakoniwa.errors import HakoError
from hakoniwa.haco.loader import load
from hakoniwa.options import NAME, Command, Given, usage_error
from hakoniwa.run.prepare import check_real_id

COMMAND = Command(
    name="clone",
    summary="Make the rootfs that OTHER.haco.py describes a copy of the one of FILE as it is now.",
    options=(NAME,),
    by_name=True,
    words=("OTHER",),
    undone=True,
)


def run(given: Given) -> int:
    """Clone each container of FILE to the one of OTHER in the same place of the file."""
    if not given.words:
        raise usage_error("to which container file?", "clone", "hako clone FILE OTHER.haco.py")
    from hakoniwa.known.idmaps.callerids import for_ordinary_user
    from hakoniwa.known.idmaps.ids import choose_maps
    from hakoniwa.rootfs.rootless import as_root
    from hakoniwa.rootfs.snapshots import clone

    barn = load(given.words[0], "clone")
    check_real_id(barn)
    log.set_level(barn.log_level)
    sources = selected(given, "clone")
    if len(sources) != len(barn.containers):
        raise HakoError(
            f"{len(sources)} containers cannot be cloned to {len(barn.containers)}",
            where=given.words[0],
            hint="-n NAME chooses one",
        )
    for known, container in zip(sources, barn.containers, strict=True):
        maps = None if os.geteuid() == 0 else choose_maps(for_ordinary_user(container))
        as_root(lambda known=known, container=container: clone(known.rootfs, container), maps)  # type: ignore[misc]
    return 0
