"""Work on a root file system as root of a user namespace of the caller's: its files belong to many ids.

What is built has the ids of the container that it is for, so that it is started as it was built; removing takes all ids of
the caller's (known/idmaps/ids.py).
"""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes import idmap, process
from hakoniwa.known.idmaps import callerids, ids
from hakoniwa.places import cache_dir, lib_dir, log_dir, run_dir
from hakoniwa.run.process.task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hakoniwa.spec.records import Maps


def as_root(action: Callable[[], object], maps: Maps | None = None) -> None:
    """Call `action` as root: here, or in a child that is root of a user namespace. Raises what it raises.

    `maps` are those of that namespace; without them it has all ids of the caller's.
    """
    if os.geteuid() == 0:
        action()
        return
    maps = maps if maps is not None and maps.uids else callerids.caller_maps()
    # For root, whom the child takes itself for, these would be others.
    places = {"RUN": run_dir(), "LIB": lib_dir(), "CACHE": cache_dir(), "LOG": log_dir()}
    go_reader, go_writer = os.pipe2(os.O_CLOEXEC)

    def act(report: int) -> None:
        os.close(go_writer)
        os.environ.update({f"HAKONIWA_{word}_DIR": folder for word, folder in places.items()})
        if os.read(go_reader, 1):  # the maps are written
            idmap.become_root_inside(idmap.may_set_groups())
            action()

    try:
        task = Task(act, process.NAMESPACES["user"] | process.NAMESPACES["mount"])
    except OSError as error:
        raise HakoError(
            f"cannot make a user namespace: {error.strerror}", hint=callerids.why_no_user_namespace()
        ) from None
    os.close(go_reader)
    try:
        ids.establish(task.pid, maps)
        os.write(go_writer, b".")
    finally:
        os.close(go_writer)  # without a word, if that has failed: then the child ends
        status = task.wait()
    if status:
        raise HakoError(f"the process that works on the rootfs has ended with status {status}")
