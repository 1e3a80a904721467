"""Control groups: where the hierarchies are mounted, and one file for each version. `man 7 cgroups`."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.cgroup import delegation, v2
from hakoniwa.kernel.filesystem.files import read_file
from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

__all__ = [
    "PREFIX",
    "Hierarchies",
    "delegation",
    "find_hierarchies",
    "make",
    "open_joining",
    "read",
    "remove",
    "thaw",
    "v2",
    "write",
]

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
    for line in os.fsdecode(read_file("/proc/self/mountinfo")).splitlines():
        before, _, after = line.partition(" - ")
        if not after.startswith("cgroup"):
            continue
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
    if v2.is_group(path):
        v2.remove(path)
    else:
        _v1().remove(path)


def read(path: str, parameter: str) -> str:
    """What a group has as a parameter, as text. Raises OSError."""
    return v2.read(path, parameter) if v2.is_group(path) else _v1().read(path, parameter)


def write(path: str, parameter: str, value: str) -> None:
    """Set a parameter of a group. Raises OSError with what the kernel says."""
    if v2.is_group(path):
        v2.write(path, parameter, value)
    else:
        _v1().write(path, parameter, value)


def thaw(paths: Sequence[str]) -> None:
    """Let the processes of frozen groups go on: until then not even KILL reaches those of the first version."""
    for path in paths:
        if not v2.is_group(path):
            _v1().thaw(path)


def _v1() -> Any:
    """The first version, where there is a group of it."""
    from hakoniwa.kernel.cgroup import v1

    return v1


def open_joining(paths: Sequence[str]) -> list[int]:
    """What joins each v1 group of a container, and last the folder of its v2 group (to clone into), or -1.

    Raises HakoError where a group is gone: somebody else has removed it.
    """
    unified, joining = -1, []
    for path in paths:
        if v2.is_group(path):
            unified = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            continue
        try:
            joining.append(os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            hint = "the container's processes were moved out of it; kill and start the container"
            raise HakoError(f"the cgroup {path} is gone", hint=hint) from None
    return [*joining, unified]
