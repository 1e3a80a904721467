"""A running container as far as who runs a further process in it has to know it, and the copy that is kept of that.

To read a state takes the classes of all that is in it and a scanner of JSON: a sixth of the time of a `hako attach`. So the
first one keeps what it has read, with the state itself, byte by byte. A later one takes the copy if the state is still the
same: then it says the same.
"""

from __future__ import annotations

import marshal

from hakoniwa.kernel.processes.pidfd import Identity
from hakoniwa.known.copied import content_of, finder_of_bundle, place_of, summed
from hakoniwa.known.glance import name_of_file, state_of
from hakoniwa.record import Record
from hakoniwa.spec import held
from hakoniwa.spec.held import Process, Resources, Security

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from hakoniwa.known.statefile import State


class Target(Record):
    """A running container. What its own program alone was given is left out: its command and its streams."""

    name: str
    init: Identity
    supervisor: Identity
    cgroups: tuple[str, ...]  # with the one that it has joined
    capabilities: int
    user_namespace: bool
    devpts: int | None
    filters: tuple[str, ...]
    has_firm_policy: bool  # of its network: it must not be lifted
    process: Process
    resources: Resources
    security: Security

    @classmethod
    def of(cls, state: State) -> Self:
        """That of a state."""
        init, supervisor = (
            Identity(boot=state.boot_id, pid=process.pid, started=process.started)
            for process in (state.init, state.supervisor)
        )
        definition, assigned = state.definition, state.assigned_cgroup
        policy = (definition.whole.get("network") or {}).get("policy")
        return cls(
            name=state.name,
            init=init,
            supervisor=supervisor,
            cgroups=(*state.cgroups, *([assigned] if assigned else [])),
            capabilities=state.capabilities,
            user_namespace=state.user_namespace,
            devpts=state.devpts,
            filters=state.filters,
            has_firm_policy=policy is not None and not policy["insist"] and policy["default"] != "any",
            process=definition.process.replace(command=None, init=None, streams=()),
            resources=definition.resources,
            security=definition.security,
        )


def take_of_file(file: str) -> Target | None:
    """The one container that is known of a file, by its real path, if it runs and was kept. None: the files have to be read."""
    name = name_of_file(file)
    return take(name) if name is not None else None


def take(name: str) -> Target | None:
    """The container of a name, if it runs and was kept. None: its state has to be read, or there is none."""
    finder = finder_of_bundle()
    if finder is None or finder.changed or (state := state_of(name)) is None:
        return None
    content = content_of(_place(name), finder.stamp)
    if content is None or content[0] != state:
        return None
    target = _unpacked(content[1])
    assert isinstance(target, Target)
    return target if target.supervisor.lives() else None


def keep(name: str) -> None:
    """Keep what the state of a container says, if that runs. Where it cannot be written it is done without."""
    from hakoniwa import fastjson, recordreader
    from hakoniwa.errors import HakoError
    from hakoniwa.known import SCHEMA, copies
    from hakoniwa.known.statefile import State

    finder = finder_of_bundle()
    if finder is None or finder.changed or (state := state_of(name)) is None:
        return
    try:
        found = recordreader.read(State, fastjson.read_document(state, SCHEMA))
        place = _place(name)
    except (ValueError, HakoError):
        return  # it is of another version, or damaged; or there is no cache folder that is ours
    if found.status == "running" and found.name == name:
        copies.write(place, summed(finder.stamp, marshal.dumps((state, _packed(Target.of(found))))))


def _place(name: str) -> str:
    return place_of(f"joining {name}")  # no description has such a name: its first part is a path


def _packed(value: Any) -> Any:
    """A value as `marshal` takes it: a record is a list of its kind and its fields, and nothing else is a list."""
    if isinstance(value, Record):
        return [type(value).__name__, {name: _packed(item) for name, item in vars(value).items()}]
    return tuple(map(_packed, value)) if type(value) is tuple else value


def _unpacked(value: Any) -> Any:
    if type(value) is tuple:
        return tuple(map(_unpacked, value))
    if type(value) is not list:
        return value
    name, fields = value
    kind: type[Record] = globals()[name] if name in _OWN else getattr(held, name)
    record = kind.__new__(kind)
    record.__dict__.update({name: _unpacked(item) for name, item in fields.items()})
    return record


_OWN = (Target.__name__, Identity.__name__)
