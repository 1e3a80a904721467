"""The cgroups of a container: which it needs on this host, made, filled with values, and read and written while it runs."""

from __future__ import annotations

import errno
import os

from hakoniwa.errors import HakoError, nearest
from hakoniwa.kernel import cgroup
from hakoniwa.kernel.cgroup import Hierarchies, make, v2
from hakoniwa.kernel.processes import idmap
from hakoniwa.spec.held import Parameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hakoniwa.spec.records import Container, Maps

_PERIOD = 100_000  # microseconds, over which a share of the processors is counted


class Groups:
    """The groups of a running container."""

    def __init__(
        self, paths: list[str], assigned: str | None = None, note: Callable[[str], None] = lambda path: None
    ) -> None:
        """`note` is told each path before a group is made there."""
        self.paths = paths  # made for the container, and removed with it
        self.note = note
        self.assigned = assigned  # a v2 group that is somebody else's
        self.originals: dict[str, str] = {}  # what a parameter was before we wrote it

    def joined(self) -> list[str]:
        """Every group that the container's processes are in."""
        return [*self.paths, *([self.assigned] if self.assigned else [])]

    def hierarchies(self) -> tuple[str, ...]:
        """The controllers of each v1 hierarchy that the container has a group in, and "" for v2."""
        controllers = cgroup.find_hierarchies().v1
        found = []
        for path in self.joined():
            names = [name for name, root in controllers.items() if path.startswith(f"{root}/")]
            found.append(",".join(names) if not v2.is_group(path) else "")
        return tuple(found)

    def delegate(self, maps: Maps) -> None:
        """Give the v2 group to the root of the container's user namespace. Raises HakoError."""
        if maps.rootless:
            return  # it is the caller's, who is that root
        owner = idmap.outside_of(maps.uids, 0), idmap.outside_of(maps.gids, 0)
        for path in self.paths:
            if v2.is_group(path) and owner[0] is not None and owner[1] is not None:
                try:
                    cgroup.delegation.give(path, owner[0], owner[1])
                except OSError as error:
                    raise HakoError(f"cannot delegate {path} to the container: {error.strerror}") from None

    def _of(self, parameter: str) -> str:
        """The folder that has a parameter. Raises HakoError."""
        for path in self.joined():
            if os.path.exists(f"{path}/{parameter}"):
                return path
        have = sorted({entry for path in self.joined() for entry in os.listdir(path) if "." in entry})
        hint = nearest(parameter, have) if have else "the container has no cgroup: set a parameter in its file"
        raise HakoError(f"the container's cgroup has no parameter {parameter!r}", hint=hint)

    def __getitem__(self, parameter: str) -> int | str:
        """What the kernel says now: a number where it is one."""
        path = self._of(parameter)
        text = cgroup.read(path, parameter)
        return int(text) if text.removeprefix("-").isdecimal() else text

    def __setitem__(self, parameter: str, value: int | str) -> None:
        """Change it for the running container."""
        path = self._of(parameter)
        self.remember(path, parameter)
        try:
            cgroup.write(path, parameter, str(value))
        except OSError as error:
            raise HakoError(f"cannot write {value!r} to {path}/{parameter}: {error.strerror}") from None

    def remember(self, path: str, parameter: str) -> None:
        """Note what a parameter is before it is written for the first time; some can only be written."""
        if parameter not in self.originals:
            try:
                self.originals[parameter] = cgroup.read(path, parameter)
            except OSError:
                pass

    def has(self, parameter: str) -> bool:
        """Whether the container is in a group that has a parameter."""
        return any(os.path.exists(f"{path}/{parameter}") for path in self.joined())

    def find_shortage(self, container: Container) -> HakoError | None:
        """What to tell where the kernel has ended a process for want of memory; None where it has not."""
        for path in self.joined():
            for name, limit in (("memory.events", "memory.max"), ("memory.oom_control", "memory.limit_in_bytes")):
                try:
                    events = dict(line.split() for line in v2.read(path, name).splitlines())
                except OSError:
                    continue
                if events.get("oom_kill", "0") != "0":
                    set_by = [
                        one
                        for one in (*container.resources.cgroup.v1, *container.resources.cgroup.v2)
                        if one.name == limit
                    ]
                    where = set_by[0].where if set_by else container.place("memory")
                    told = f"{v2.read(path, limit)} bytes of memory are too few to start the container in"
                    return HakoError(told, where=where, hint="raise the limit")
        return None

    def processes(self) -> list[int]:
        """Every process of the v2 group and of those below it."""
        (path,) = (path for path in self.paths if v2.is_group(path))
        return v2.processes(path)

    def thaw(self) -> None:
        """Let frozen processes go on, so that a signal reaches them."""
        cgroup.thaw(self.paths)


def make_groups(container: Container, groups: Groups) -> None:
    """Make every group that the container asks for and set its parameters. Raises HakoError with the line of the file."""
    host = cgroup.find_hierarchies()
    old, new = resolve_parameters(container, host)
    assigned = groups.assigned = _find_assigned(container, host)
    name = cgroup.PREFIX + ((None if assigned else container.resources.cgroup.name) or container.name)
    if assigned is None and _needs_v2_group(container, new):
        parent = _parent(container, host, new)
        _make(groups, parent, name)
        for parameter in new:
            _enable(parent, _controller(parameter), parameter.where)
            _set(groups, groups.paths[0], parameter)
    for controller in dict.fromkeys(_controller(parameter) for parameter in old):
        if f"{host.v1[controller]}/{name}" not in groups.paths:  # cpu and cpuacct may be one mount
            _make(groups, host.v1[controller], name)
    if any(hook.event for hook in container.hooks.background):
        _make_memory_group(container, groups, host, name)
    for parameter in old:
        _set(groups, f"{host.v1[_controller(parameter)]}/{name}", parameter)


def _needs_v2_group(container: Container, parameters: list[Parameter]) -> bool:
    own = container.namespaces.own
    return bool(parameters) or container.resources.cgroup.assign_only or "pid" not in own or "cgroup" in own


def _find_assigned(container: Container, host: Hierarchies) -> str | None:
    """The v2 group that somebody else has made for the container, or None where one is to be made. Raises HakoError."""
    wanted = container.resources.cgroup
    if not wanted.assign_only or wanted.name is None:
        return None
    path = f"{host.v2}/{wanted.name}"
    if host.v2 is None or not v2.is_group(path):
        if "/" not in wanted.name:
            return None
        told = f"there is no v2 cgroup {path}"
        hint = "a path is one that is there already: make it first, or give a name, of which the group is made"
        raise HakoError(told, where=wanted.where, hint=hint)
    if not container.has_pid_namespace():
        told = f"the cgroup {path} is there already, and a container without a pid namespace needs one of its own"
        raise HakoError(told, where=wanted.where, hint='drop share("pid"), or another cgroup.name')
    return path


def _parent(container: Container, host: Hierarchies, parameters: list[Parameter]) -> str:
    """Where the container's v2 group is made. Raises HakoError."""
    if container.resources.cgroup.assign_only:
        what, where = "assign_only", container.resources.cgroup.where
    elif not container.has_pid_namespace():
        what, where = "a container without a pid namespace", container.place("pid")
    elif parameters:
        what, where = f"{parameters[0].name!r}", parameters[0].where
    else:
        what, where = "a container with a cgroup namespace", container.place("cgroup")
    if host.v2 is None:
        hint = "mount -t cgroup2 none /sys/fs/cgroup/unified"
        raise HakoError(f"{what} needs the v2 cgroup hierarchy", where=where, hint=hint)
    if host.v2_parent is None:
        raise HakoError(f"{what} needs a cgroup, and none can be made", where=where, hint=cgroup.DELEGATE)
    return host.v2_parent


def _make_memory_group(container: Container, groups: Groups, host: Hierarchies, name: str) -> None:
    """What a cgroup hook hears of: a group with the memory controller, where no parameter has asked for one already."""
    where = next(hook.where for hook in container.hooks.background if hook.event)
    if "memory" in host.v2_controllers and host.v2_parent is not None:
        if groups.assigned is not None:
            return  # what happens there is heard of
        if f"{host.v2_parent}/{name}" not in groups.paths:
            _make(groups, host.v2_parent, name)
        _enable(host.v2_parent, "memory", where)
    elif "memory" in host.v1:
        if f"{host.v1['memory']}/{name}" not in groups.paths:
            _make(groups, host.v1["memory"], name)
    else:
        raise _no_controller("memory", where, host)


def _make(groups: Groups, root: str, name: str) -> None:
    try:
        groups.note(f"{root}/{name}")
        path = make(root, name)
        groups.paths.append(path)
        if not v2.is_group(path):
            from hakoniwa.kernel.cgroup import v1

            v1.inherit(root, path)
    except OSError as error:
        raise HakoError(f"cannot make a cgroup below {root}: {error.strerror}") from None


def _controller(parameter: Parameter) -> str:
    return parameter.name.partition(".")[0]


def resolve_parameters(container: Container, host: Hierarchies) -> tuple[list[Parameter], list[Parameter]]:
    """The parameters for each version: those of `limit()` for the one that has the controller, then the named ones."""
    wanted = container.resources.cgroup
    old: list[Parameter] = []
    new: list[Parameter] = []

    def put(controller: str, limit: str, new_ones: dict[str, str], old_ones: dict[str, str]) -> None:
        where = container.place(limit)
        if controller in host.v2_controllers:
            new.extend(Parameter(name=name, value=value, where=where) for name, value in new_ones.items())
        elif controller in host.v1:
            old.extend(Parameter(name=name, value=value, where=where) for name, value in old_ones.items())
        else:
            raise _no_controller(controller, where, host)

    if wanted.memory is not None:
        put("memory", "memory", {"memory.max": str(wanted.memory)}, {"memory.limit_in_bytes": str(wanted.memory)})
    if wanted.pids is not None:
        put("pids", "pids", {"pids.max": str(wanted.pids)}, {"pids.max": str(wanted.pids)})
    if wanted.cpus is not None:
        quota = str(round(wanted.cpus * _PERIOD))
        period = {"cpu.cfs_period_us": str(_PERIOD), "cpu.cfs_quota_us": quota}
        put("cpu", "cpus", {"cpu.max": f"{quota} {_PERIOD}"}, period)
    for parameter in wanted.v1:
        if _controller(parameter) not in host.v1:
            raise _no_controller(_controller(parameter), parameter.where, host, version="v1 ")
    for parameter in wanted.v2:
        if _controller(parameter) not in (*host.v2_controllers, "cgroup"):
            raise _no_controller(_controller(parameter), parameter.where, host, version="v2 ")
    return [*old, *wanted.v1], [*new, *wanted.v2]


def _no_controller(name: str, where: str, host: Hierarchies, version: str = "") -> HakoError:
    return HakoError(f"this host has no {version}cgroup controller {name!r}", where=where, hint=host.described())


def _enable(parent: str, controller: str, where: str) -> None:
    """Have the groups below `parent` get a controller; processes in it are in the way, unless it is the root."""
    if controller == "cgroup":
        return
    try:
        try:
            v2.enable(parent, controller)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            cgroup.delegation.make_room(parent)
            v2.enable(parent, controller)
    except OSError as error:
        told = f"cannot enable the controller {controller!r} in {parent}: {error.strerror}"
        raise HakoError(told, where=where) from None


def _set(groups: Groups, path: str, parameter: Parameter) -> None:
    """Write a parameter of the file."""
    groups.remember(path, parameter.name)
    try:
        cgroup.write(path, parameter.name, parameter.value)
    except OSError as error:
        from hakoniwa.run.start.groupfaults import refused

        raise refused(path, parameter, error) from None
