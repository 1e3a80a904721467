"""`reload`: what a file says anew, compared with what is in force, and applied to the running container."""

from __future__ import annotations

import os
import resource

from hakoniwa.errors import HakoError
from hakoniwa.kernel import cgroup
from hakoniwa.known.idmaps.callerids import for_ordinary_user
from hakoniwa.record import Record, plain
from hakoniwa.run.control.messages import Change
from hakoniwa.run.start.groups import Groups, resolve_parameters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.spec.networks import Network
    from hakoniwa.spec.records import Barn, Container

# Fields of a container that belong to a group of `support_reload`, or are always applied; a change of any other needs a restart.
_GROUPS = {"cgroup": "cgroup", "limits": "resource", "hooks": "hooks", "background_hooks": "hooks"}
_ALWAYS = tuple(
    f"network.{word}" for word in ("published", "policy", "hosts", "dns_servers", "dns_search", "dns_options")
)
_PASSED_OVER = ("where", "reloadable", "places", "siblings")
# What settings are called in a file, if not as in the record.
_WORDS = {"command": "init_command", "own": "namespaces", "general": "hooks", "background": "background_hooks"}


def all_applied(changes: list[Change]) -> bool:
    """Whether the running container is now as the file says."""
    return all(change.outcome == "applied" for change in changes)


def find_container(barn: Barn, name: str) -> Container:
    """The container of a barn by its name, as this user has it. Raises HakoError."""
    for container in barn.containers:
        if container.name == name:
            return container if os.geteuid() == 0 else for_ordinary_user(container)
    names = " ".join(container.name for container in barn.containers)
    raise HakoError(f"container {name!r} is not in the file any more", where=barn.file, hint=f"there: {names}")


def needs_restart(old: Container, new: Container) -> list[Change]:
    """What cannot be changed in a running container, or not as `support_reload` has it."""
    before, after = _settings(old), _settings(new)
    applied = _ALWAYS if old.network is not None and new.network is not None else ()
    changed = [name for name, value in before.items() if name not in applied and _differs(value, after[name])]
    rebuilt = _needs_rebuild(old, new) if {"bootstrap", "provision", "rootfs"} & set(changed) else []
    words = [
        name for name in changed if _GROUPS.get(name) not in new.reloadable and name not in ("bootstrap", "provision")
    ]
    hint = 'needs a restart (or support_reload("{}"))'
    return [
        Change(
            what=_shown(name, before[name], after[name]),
            outcome=hint.format(_GROUPS[name]) if name in _GROUPS else "needs a restart",
        )
        for name in words
    ] + rebuilt


def _settings(container: Container) -> dict[str, object]:
    """The settings of a container by their words, without their groups."""
    found: dict[str, object] = {}
    for name in container._fields:
        value = getattr(container, name)
        if name == "network":
            found |= _settings_of_network(value)
        elif isinstance(value, Record):
            found |= {_WORDS.get(setting, setting): getattr(value, setting) for setting in value._fields}
        elif name not in _PASSED_OVER:
            found[name] = value
    return found


def _settings_of_network(network: Network | None) -> dict[str, object]:
    from hakoniwa.spec.networks import Network as Kind

    value = network or Kind()
    found = {f"network.{word}": getattr(value, word) for word in value._fields if word not in _PASSED_OVER}
    return {"network": network is not None, **found}


def _needs_rebuild(old: Container, new: Container) -> list[Change]:
    """What is said of the rootfs otherwise: a restart would not do for that."""
    from hakoniwa.spec import outline

    settings, steps = outline.differences(outline.outline(old), outline.outline(new))
    way = f"needs {outline.way_out(settings, steps, new.file)}, and a restart"
    return [Change(what=what, outcome=way) for what in (*settings, *steps)]


def _shown(name: str, old: object, new: object) -> str:
    """A setting, with both its values where these are short."""
    values = [repr(value) for value in (old, new)]
    plain = all(value is None or isinstance(value, (str, int, tuple)) for value in (old, new))
    return f"{name}: {values[0]} → {values[1]}" if plain and max(map(len, values)) <= 60 else name


def check_hooks(new: Container, groups: Groups | None) -> None:
    """Raise HakoError for a hook that the running container cannot have: one on a memory cgroup that it is not in."""
    for hook in new.hooks.background:
        if hook.event is not None and (groups is None or not groups.has("memory.stat")):
            raise HakoError("the container is in no memory cgroup", where=hook.where, hint="restart it for this hook")


def hooks_differ(old: Container, new: Container) -> bool:
    """Whether any hook was added, removed or written anew."""
    return _differs(old.hooks, new.hooks)


def _differs(old: object, new: object) -> bool:
    return bool(_comparable(old) != _comparable(new))


def _comparable(value: Any) -> Any:
    """A value without the lines that it was written at; a function by its code."""
    if isinstance(value, Record):
        return {name: _comparable(getattr(value, name)) for name in value._fields if name not in _PASSED_OVER}
    if isinstance(value, tuple):
        return [_comparable(item) for item in value]
    code = getattr(value, "__code__", None)
    return (code.co_code, code.co_consts, code.co_names) if code else plain(value)


def apply_cgroup(old: Container, new: Container, groups: Groups | None) -> list[Change]:
    """Write the parameters that differ; one that is no longer set goes back to what it was before we wrote it."""
    moved = [
        word
        for word in ("name", "assign_only")
        if getattr(old.resources.cgroup, word) != getattr(new.resources.cgroup, word)
    ]
    if moved:  # the processes stay in the groups that they are in
        return [Change(what=f"cgroup {word}", outcome="needs a restart") for word in moved]
    host = cgroup.find_hierarchies()
    before, after = (
        {parameter.name: parameter.value for every in resolve_parameters(container, host) for parameter in every}
        for container in (old, new)
    )
    changes = []
    for name in {**before, **after}:
        if before.get(name) == after.get(name):
            continue
        if groups is None or not groups.has(name):
            changes.append(Change(what=f"cgroup {name}", outcome="needs a restart: the container is not in that group"))
            continue
        value = after.get(name, groups.originals.get(name, ""))
        changes.append(_attempt(f"cgroup {name}", f"{before.get(name, 'unset')} → {value}", groups, name, value))
    return changes


def _attempt(what: str, shown: str, groups: Groups, name: str, value: str) -> Change:
    try:
        groups[name] = value
    except HakoError as error:
        return Change(what=what, outcome=error.message, failed=True)
    return Change(what=f"{what}: {shown}", outcome="applied")


def apply_limits(old: Container, new: Container, pids: list[int]) -> list[Change]:
    """Set the limits that differ on every process; one that is no longer set becomes the supervisor's own again."""
    before = {limit.name: (limit.soft, limit.hard) for limit in old.resources.limits}
    after = {limit.name: (limit.soft, limit.hard) for limit in new.resources.limits}
    changes: list[Change] = []
    for name in {**before, **after}:
        if before.get(name) == after.get(name):
            continue
        number = getattr(resource, f"RLIMIT_{name}")
        wanted = after.get(name) or resource.getrlimit(number)
        failures = [failure for pid in pids if (failure := _set_limit(pid, number, wanted))]
        for failure in failures:
            changes.append(Change(what=f"limit {name}", outcome=failure, failed=True))
        if len(failures) < len(pids):
            changes.append(Change(what=f"limit {name}: {wanted[0]}:{wanted[1]}", outcome="applied"))
    return changes


def _set_limit(pid: int, number: int, wanted: tuple[int, int]) -> str | None:
    """Set a limit of one process; why not, where the kernel refuses. A process that has ended needs none."""
    try:
        resource.prlimit(pid, number, wanted)
    except ProcessLookupError:
        return None
    except (OSError, ValueError) as error:
        return f"process {pid}: {getattr(error, 'strerror', None) or error}"
    return None


def processes_of(init: int, groups: Groups | None, *, has_pid_namespace: bool) -> list[int]:
    """Every process of a container: those of its pid namespace (and of those below it), or of its v2 group."""
    if not has_pid_namespace:
        assert groups is not None
        return groups.processes()
    namespace = os.readlink(f"/proc/{init}/ns/pid")
    return [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if _is_in(pid, namespace)]


def _is_in(pid: int, namespace: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid") == namespace
    except OSError:
        return False
