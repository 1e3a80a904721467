"""What is wrong with a parameter of a cgroup: by what the kernel has taken, and by what is there."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError, nearest
from hakoniwa.kernel.cgroup import v2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec.held import Parameter


def refused(path: str, parameter: Parameter, error: OSError) -> HakoError:
    """Why the kernel did not take a value, with its own reason and the file."""
    if fault := _fault_in(path, parameter):
        return fault
    told = f"cannot write {parameter.value!r} to {path}/{parameter.name}: {error.strerror}"
    return HakoError(told, where=parameter.where)


def _fault_in(path: str, parameter: Parameter) -> HakoError | None:
    """What is wrong with a parameter by what is in the folder of a group."""
    name, controller = parameter.name, _controller_of(parameter)
    writable = [
        entry for entry in sorted(os.listdir(path)) if entry.startswith(f"{controller}.") and _is_writable(path, entry)
    ]
    if not os.path.exists(f"{path}/{name}"):
        told = f"cgroup parameter {name!r} is unknown to this kernel"
    elif name not in writable:
        told = f"cgroup parameter {name!r} can only be read"
    else:
        return None
    hint = _IN_THE_OTHER_VERSION.get(name) or nearest(name, writable)
    return HakoError(told, where=parameter.where, hint=hint)


_MEMORY, _CPU = "config.limit(memory=) is for both versions", "config.limit(cpus=) is for both versions"
# What is written for one version of cgroups, and means the other: where an unknown parameter has one of these names.
_IN_THE_OTHER_VERSION = {
    "memory.max": _MEMORY,
    "memory.limit_in_bytes": _MEMORY,
    "cpu.max": _CPU,
    "cpu.cfs_quota_us": _CPU,
    "cpu.weight": "cpu.shares in v1",
    "cpu.shares": "cpu.weight in v2",
}


def _is_writable(path: str, entry: str) -> bool:
    return bool(os.stat(f"{path}/{entry}").st_mode & 0o222)


def find_fault(parameter: Parameter, root: str) -> HakoError | None:
    """What is wrong with a parameter before a group is made: told from the root of a hierarchy, or from a group in it.

    The root lacks some parameters; so what it has not, and no group is there to ask, is left to the start.
    """
    if os.path.exists(f"{root}/{parameter.name}"):
        return _fault_in(root, parameter)
    for entry in os.scandir(root):
        if entry.is_dir() and (not v2.is_group(entry.path) or _has_controller(entry.path, _controller_of(parameter))):
            return _fault_in(entry.path, parameter)
    return None


def _has_controller(path: str, controller: str) -> bool:
    return controller in ("cgroup", *v2.read(path, "cgroup.controllers").split())


def _controller_of(parameter: Parameter) -> str:
    return parameter.name.partition(".")[0]
