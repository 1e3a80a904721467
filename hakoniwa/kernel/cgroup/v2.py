"""A group of the unified hierarchy. Documentation/admin-guide/cgroup-v2.rst."""

from __future__ import annotations

import errno
import os

from hakoniwa.kernel.filesystem.files import read_file


def is_group(path: str) -> bool:
    """Whether a folder is a group of this version (cgroup.events is in none of the other)."""
    return os.path.exists(f"{path}/cgroup.events")


def enable(root: str, controller: str) -> None:
    """Have the groups below `root` get a controller's files."""
    if controller not in read(root, "cgroup.subtree_control").split():
        write(root, "cgroup.subtree_control", f"+{controller}")


def read(path: str, parameter: str) -> str:
    """The content of a parameter's file."""
    return read_file(f"{path}/{parameter}").decode().strip()


def write(path: str, parameter: str, value: str) -> None:
    """Set a parameter, in one write as the kernel expects it. Raises OSError with what the kernel says."""
    file = os.open(f"{path}/{parameter}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, value.encode())
    finally:
        os.close(file)


def kill(path: str) -> None:
    """End every process of the group at once, frozen or not, and wait until it is empty."""
    import select

    with open(f"{path}/cgroup.events") as events:
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        write(path, "cgroup.kill", "1")
        while "populated 1" in events.read():
            poll.poll()
            events.seek(0)


def processes(path: str) -> list[int]:
    """Every process of the group and of those below it, of which a container makes as many and as deep as it likes."""
    from hakoniwa.kernel.filesystem import tree

    found = read(path, "cgroup.procs").split()
    with tree.Place(path) as place:
        for event, _ in place.walk():
            if event == tree.ENTERED:
                found += read_file("cgroup.procs", folder=place.folder).decode().split()
    return [int(pid) for pid in found]


def remove(path: str) -> None:
    """Empty the group and remove it with those below it. Raises FileNotFoundError when it is gone already."""
    kill(path)
    try:
        os.rmdir(path)
    except OSError as error:
        if error.errno != errno.EBUSY:  # there are groups below it
            raise
        _remove_below(path)
        os.rmdir(path)


def _remove_below(path: str) -> None:
    from hakoniwa.kernel.filesystem import tree

    with tree.Place(path) as place:
        for event, name in place.walk():
            if event == tree.LEFT:
                os.rmdir(name, dir_fd=place.folder)
