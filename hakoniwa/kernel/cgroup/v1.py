"""A group of one controller of the first version, its parameters through cgroupspy.

Of cgroupspy only a controller of the one group is used: its trees read the whole hierarchy when they are built.
Documentation/admin-guide/cgroup-v1/.
"""

from __future__ import annotations

import errno
import os

from hakoniwa.kernel.filesystem.files import read_file
from hakoniwa.kernel.processes.pidfd import wait_end
from hakoniwa.kernel.processes.signals import SIGKILL, pidfd_send_signal

_PATIENCE = 2.0  # seconds that the kernel may take to let go of a group whose processes have ended
_FREEZER = "freezer.state"


class _Node:
    """What a controller of cgroupspy asks a node of its trees for."""

    def __init__(self, path: str) -> None:
        self.full_path = path


def read(path: str, parameter: str) -> str:
    """The content of a parameter's file."""
    from cgroupspy.controllers import Controller

    return Controller(_Node(path)).get_property(parameter)


def write(path: str, parameter: str, value: str) -> None:
    """Set a parameter. Raises OSError with what the kernel says."""
    from cgroupspy.controllers import Controller

    if not os.path.exists(f"{path}/{parameter}"):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{path}/{parameter}")
    Controller(_Node(path)).set_property(parameter, value)


def inherit(parent: str, path: str) -> None:
    """Give a new cpuset the processors and memory nodes of the one that it lies in.

    It begins with neither, and takes no process until it has both (`man 7 cpuset`); one of v2 needs none of that.
    """
    if not os.path.exists(f"{path}/cpuset.sched_load_balance"):  # a file of v1 alone
        return
    for parameter in ("cpuset.cpus", "cpuset.mems"):
        with open(f"{parent}/{parameter}") as theirs, open(f"{path}/{parameter}", "w") as ours:
            ours.write(theirs.read())


def thaw(path: str) -> None:
    """Let the processes of a frozen group go on: until then not even SIGKILL reaches them."""
    if os.path.exists(f"{path}/{_FREEZER}"):
        with open(f"{path}/{_FREEZER}", "w") as file:
            file.write("THAWED")


def _kill(folder: int) -> None:
    """End every process of one group, and wait until they have ended."""
    while pids := _processes(folder):
        for pid in pids:
            _end(pid)


def _processes(folder: int) -> list[int]:
    # 0 is a process of another pid namespace than ours, which has no number here.
    return [int(pid) for pid in read_file("cgroup.procs", folder=folder).split() if pid != b"0"]


def _end(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        pidfd_send_signal(pidfd, SIGKILL)
        wait_end(pidfd, None)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def remove(path: str) -> None:
    """End every process of the group and of those below it, and remove them all.

    Raises FileNotFoundError when it is gone already.
    """
    from hakoniwa.kernel.filesystem import tree

    thaw(path)
    with tree.Place(path) as place:
        _kill(place.folder)
        for event, name in place.walk():
            if event == tree.ENTERED:
                _kill(place.folder)
            elif event == tree.LEFT:
                _remove_folder(name, place.folder)
    _remove_folder(path)


def _remove_folder(path: str, above: int | None = None) -> None:
    """Busy is a group for a moment after its last process has ended, which no event of this version tells."""
    import select
    import time

    end = time.monotonic() + _PATIENCE
    while True:
        try:
            os.rmdir(path, dir_fd=above)
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > end:
                raise
            select.select([], [], [], 0.005)
        else:
            return
