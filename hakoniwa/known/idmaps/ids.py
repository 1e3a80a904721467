"""Which ids a container has in a user namespace of its own: chosen, and written. `man 7 user_namespaces`."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes import idmap
from hakoniwa.spec.records import NO_MAPS, Maps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.kernel.processes.idmap import Range
    from hakoniwa.spec.records import Container, IdRange


def choose_maps(container: Container) -> Maps:
    """The maps of a container: the file's, or where it names none what the caller has. Raises HakoError.

    Empty for root's where the file names none: a range is given once the container is locked (known/idmaps/ranges.py).
    """
    if "user" not in container.namespaces.own:
        return NO_MAPS if os.geteuid() == 0 else Maps(rootless=True)  # of an entered one, the ids are as they are
    uids, gids = _ranges(container.namespaces.uid_map), _ranges(container.namespaces.gid_map)
    if os.geteuid() != 0:
        from hakoniwa.known.idmaps.callerids import choose_rootless

        return choose_rootless(container, uids, gids)
    return Maps(uids=uids, gids=gids)


def establish(pid: int, maps: Maps) -> None:
    """Write the maps of the user namespace that a process is the first of. Raises HakoError."""
    try:
        if maps.rootless and not maps.helped:
            idmap.map_oneself(pid, maps.uids[0], maps.gids[0])
        elif maps.rootless:
            from hakoniwa.known.idmaps.callerids import run_helper

            run_helper("newuidmap", pid, maps.uids)
            run_helper("newgidmap", pid, maps.gids)
        else:
            idmap.write_maps(pid, maps.uids, maps.gids)
    except OSError as error:
        raise HakoError(f"cannot map the ids of the user namespace: {error.strerror}") from None


def _ranges(described: tuple[IdRange, ...]) -> tuple[Range, ...]:
    return tuple((one.inside, one.outside, one.count) for one in described)
