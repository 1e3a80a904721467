"""A group of the unified hierarchy. Documentation/admin-guide/cgroup-v2.rst."""

from __future__ import annotations

import os


def is_group(path: str) -> bool:
    """Whether a folder is a group of this version (cgroup.events is in none of the other)."""
    return os.path.exists(f"{path}/cgroup.events")


def enable(root: str, controller: str) -> None:
    """Have the groups below `root` get a controller's files."""
    if controller not in read(root, "cgroup.subtree_control").split():
        write(root, "cgroup.subtree_control", f"+{controller}")


def read(path: str, parameter: str) -> str:
    """The content of a parameter's file."""
    with open(f"{path}/{parameter}") as file:
        return file.read().strip()


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


def remove(path: str) -> None:
    """Empty the group and remove it with those below it. Raises FileNotFoundError when it is gone already."""
    kill(path)
    for folder, _, _ in os.walk(path, topdown=False):
        os.rmdir(folder)
