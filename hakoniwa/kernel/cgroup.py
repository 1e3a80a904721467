"""The unified (v2) cgroup hierarchy, as far as holding processes together goes.

Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os

PREFIX = "hakoniwa-"


def unified_mount() -> str | None:
    """Where the v2 hierarchy is mounted, or None."""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            if after.startswith("cgroup2 "):
                return before.split()[4].replace("\\040", " ")
    return None


def make(root: str, name: str) -> str:
    """Make the group of a container and return its folder.

    One that a killed supervisor has left is emptied and made anew: in a group that `cgroup.kill` was ever written to,
    Linux 6.18 kills each process that is cloned into it.
    """
    path = f"{root}/{PREFIX}{name}"
    try:
        os.mkdir(path)
    except FileExistsError:
        remove(path)
        os.mkdir(path)
    return path


def kill(path: str) -> None:
    """End every process of the group at once, frozen or not, and wait until it is empty."""
    import select

    with open(f"{path}/cgroup.events") as events:
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        with open(f"{path}/cgroup.kill", "w") as file:
            file.write("1")
        while "populated 1" in events.read():
            poll.poll()
            events.seek(0)


def remove(path: str) -> None:
    """Empty the group and remove it. Raises FileNotFoundError when it is gone already."""
    kill(path)
    for folder, _, _ in os.walk(path, topdown=False):
        os.rmdir(folder)
