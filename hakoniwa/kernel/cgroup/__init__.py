"""Control groups: where the hierarchies are mounted, and one file for each version. `man 7 cgroups`."""

from __future__ import annotations

import os

from hakoniwa.kernel.cgroup import delegation, v1, v2
from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PREFIX", "Hierarchies", "delegation", "find_hierarchies", "make", "remove", "v1", "v2"]

PREFIX = "hakoniwa-"  # of the name of each group that we make
DELEGATE = "no cgroup is delegated to you: systemd-run --user --scope -p Delegate=yes hako start ..."


class Hierarchies(Record):
    """Where each v1 controller is mounted, and the v2 hierarchy with the group that ours are made in.

    For who is not root, only what was delegated to them.
    """

    v1: Mapping[str, str]
    v2: str | None
    v2_parent: str | None
    v2_controllers: tuple[str, ...]  # of the parent

    def described(self) -> str:
        """What is there, for an error."""
        old = " ".join(sorted(self.v1)) or "none"
        new = "not mounted" if self.v2 is None else " ".join(self.v2_controllers) or "none"
        return f"v1: {old}; v2: {new}" if self.v2_parent or self.v2 is None else DELEGATE


def find_hierarchies() -> Hierarchies:
    """Read the mounts of this namespace. `man 5 proc_pid_mountinfo`."""
    controllers: dict[str, str] = {}
    unified = None
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            kind, _, options = after.split(" ")[:3]
            point = before.split()[4].replace("\\040", " ")
            if kind == "cgroup2":
                unified = unified or point
            elif kind == "cgroup":
                names = options.strip().split(",")
                controllers |= {name: point for name in names if name not in ("rw", "ro") and "=" not in name}
    parent = delegation.parent_of_groups(unified) if unified else None
    available = tuple(v2.read(parent, "cgroup.controllers").split()) if parent else ()
    old = controllers if os.geteuid() == 0 else {}
    return Hierarchies(v1=old, v2=unified, v2_parent=parent, v2_controllers=available)


def make(root: str, name: str) -> str:
    """Make the group of a container and return its folder.

    One that a killed supervisor has left is emptied and made anew: in a v2 group that `cgroup.kill` was ever written to,
    Linux 6.18 kills each process that is cloned into it.
    """
    path = f"{root}/{name}"
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        remove(path)
        os.mkdir(path, 0o755)
    return path


def remove(path: str) -> None:
    """Empty a group of either version and remove it. Raises FileNotFoundError when it is gone already."""
    (v2 if v2.is_group(path) else v1).remove(path)
