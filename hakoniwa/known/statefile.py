"""The records that are kept of containers, and their files: written whole, and read with a check.

A file is one JSON object, whose first line holds all that lists show (`Head`). Lists read no more of it, and check that.
What cannot be read as the record that it should be is `Damaged`: a list tells that and goes on, as far as it reads; a command
that needs the rest tells what is wrong there; `hako gc` removes the file.
"""

from __future__ import annotations

import os

from hakoniwa import fastjson
from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem.files import held_locks, lock_name
from hakoniwa.known import BEGINNING, SCHEMA
from hakoniwa.places import folder_of
from hakoniwa.record import Record, Unreadable, plain
from hakoniwa.spec.held import Process, Resources, Security  # `recordreader.read` finds them here
from hakoniwa.spec.records import Namespaces  # `recordreader.read` finds them here
from hakoniwa.trust import read_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Literal, Self, TypeVar

    from hakoniwa.network.facts import NetworkFacts
    from hakoniwa.spec.records import Container

    Known = TypeVar("Known", bound="Head")

ELSEWHERE = {"NetworkFacts": "hakoniwa.network.facts"}  # records that are loaded when one is read
ENDED = ("stopped", "failed", "dead")
ALIVE = ("created", "running")  # held, or executing its program
LOCK = "lock"
_LARGEST_PID = 1 << 22  # PID_MAX_LIMIT, `man 5 proc_sys_kernel`


class Damaged(HakoError):
    """What was written of a container cannot be read."""

    _way_out = "hako gc clears it"

    def __init__(self, name: str, path: str, problem: str) -> None:
        self.problem = problem
        hint = self._way_out
        if os.path.dirname(path) == folder_of(name) and (pid := holder(name)) is not None:
            hint = f"its supervisor lives: kill {pid} ends it, and then {hint}"
        super().__init__(f"what is known of it cannot be read: {path}: {problem}", where=name, hint=hint)


class Later(Damaged):
    """It is not damaged: we are too old."""

    _way_out = "that version reads it"


WRITTEN = "_written"  # no field: a container that anything is changed of loses it


class Definition(Record):
    """What commands need of the description of a container; `whole` is all of it."""

    _whole = "whole"

    whole: dict[str, Any]
    process: Process
    namespaces: Namespaces
    resources: Resources
    security: Security
    siblings: str = ""

    @classmethod
    def of(cls, container: Container) -> Self:
        """That of a container."""
        own = {name: getattr(container, name) for name in cls._fields if name != cls._whole}
        return cls(whole=plain(container), **own)


def definition_text(container: Container) -> str:
    """The whole definition of a container, as a state and a record hold it. A description that was kept has it with it."""
    return vars(container).get(WRITTEN) or fastjson.dumps(container, by_name=True)


class ProcessRecord(Record):
    """A process at one boot."""

    pid: int
    started: int

    def _check(self) -> None:
        if not 0 < self.pid <= _LARGEST_PID:
            raise Unreadable(f"{self.pid} is no pid", "pid")


class End(Record):
    """How a container ended: `code` as a shell has it."""

    code: int
    signal: int | None


class Head(Record):
    """What lists show of a container: the first line of a file. What `ended` asks for comes first."""

    status: Literal["built", "created", "running", "stopped", "failed", "dead"]
    file: str
    name: str
    barn: str
    rootfs: str
    created_at: str
    metadata: dict[str, Any]
    origin: str = ""  # the container file that a document was made from
    # What only a container has that has run:
    pid: int | None = None
    supervisor_pid: int | None = None
    boot_id: str = ""
    lock: str = ""  # who has locked what, as /proc/locks has it; an earlier version does not say it
    log: str | None = None  # if it runs in the background
    network_shown: dict[str, Any] | None = (
        None  # what lists show of its network (network/facts.py); None for the host's
    )
    error: str | None = None
    exit: End | None = None

    def _check(self) -> None:
        if self.status != "built":
            if not self.boot_id:
                raise Unreadable("lacks 'boot_id'")
            for pid in (self.pid, self.supervisor_pid):
                if pid is None or not 0 < pid <= _LARGEST_PID:
                    raise Unreadable(f"{pid} is no pid")


class Made(Head):
    """A container whose rootfs was made."""

    status: Literal["built"] = "built"
    definition: Definition

    @classmethod
    def of(cls, container: Container) -> Self:
        """The record of a container whose rootfs is being put in place."""
        return cls(
            name=container.name,
            barn=container.barn,
            file=container.file,
            rootfs=container.files.rootfs.path,
            created_at=timestamp(),
            metadata=plain(container.metadata),
            origin=container.origin,
            definition=Definition.of(container),
        )


class State(Head):
    """A container that runs, or has run. What has a default may be missing in what an earlier version has written.

    What ends a container is found in what stands before the definition (known/glance.py).
    """

    status: Literal["created", "running", "stopped", "failed", "dead"]
    boot_id: str
    pid: int
    supervisor_pid: int
    started: int  # the first process, in clock ticks since boot
    supervisor_started: int
    barn_process: ProcessRecord | None = None  # in the background it outlives the supervisor by its last hooks
    cgroups: tuple[str, ...]  # made for the container
    definition: Definition
    command: tuple[str, ...] | None = None  # in the place of the file's
    capabilities: int
    user_namespace: bool
    assigned_cgroup: str | None = None
    persisted: tuple[str, ...] = ()
    pid_file: str | None
    devpts: int | None = None
    filters: tuple[str, ...]
    network: NetworkFacts | None = None

    @property
    def init(self) -> ProcessRecord:
        """The first process."""
        return ProcessRecord(pid=self.pid, started=self.started)

    @property
    def supervisor(self) -> ProcessRecord:
        """The process beside the container."""
        return ProcessRecord(pid=self.supervisor_pid, started=self.supervisor_started)


def timestamp(seconds: float | None = None) -> str:
    """A time, now unless one is given, as records and lists have it."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def known_names(known: Iterable[Head]) -> list[str]:
    """The names of containers and of their barns."""
    return sorted({name for one in known for name in (one.name, one.barn)})


def holder(name: str) -> int | None:
    """The process that holds the lock of a container, as far as /proc/locks tells. `man 5 proc_locks`."""
    try:
        file = lock_name(os.path.join(folder_of(name), LOCK))
        return next((int(pid) for pid, other in map(str.split, held_locks()) if other == file), None)
    except OSError:
        return None


def written(record: Head) -> bytes:
    """A record as its file holds it: its head is a line."""
    return fastjson.document(record, SCHEMA, first_line=len(Head._fields))


def load(name: str, path: str) -> dict[str, Any] | None:
    """What a file says of a container, or None if there is none.

    Raises OSError, Unreadable if it says nothing, and HakoError if a later version of ours has written it.
    """
    for candidate in (path, f"{path}.new", path):
        try:
            content = read_own(candidate)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            return fastjson.read_document(content, SCHEMA, bring_up=_bring_up)
        except fastjson.Later as later:
            raise Later(name, path, str(later)) from None
    return None


def _bring_up(value: dict[str, Any], schema: int) -> None:
    from hakoniwa.known.earlier import bring_up

    bring_up(value, schema)
    definition = value.get("definition")
    if isinstance(definition, dict) and isinstance(names := definition.get("siblings"), list):
        from hakoniwa.spec.complete import mark_of

        definition["siblings"] = mark_of(map(str, names)) if names else ""


def ended(path: str, **known: str) -> bool:
    """Whether a state says at its very beginning that the container has ended, and what else is `known`: its `file`.

    If not, it has to be read whole. Most starts find that their last run has ended, and need no more of its state.
    """
    try:
        content = read_own(path, most=BEGINNING)
    except OSError:
        return False
    begins = ({"schema": SCHEMA, "status": status, **known} for status in ENDED)
    return content.startswith(tuple(fastjson.dumps(begin)[:-1].encode() + b", " for begin in begins))


def said(**fields: str | int | Record) -> list[bytes]:
    """What a head says of these fields."""
    return [fastjson.dumps({name: value})[1:-1].encode() for name, value in fields.items()]


def read_known(kind: type[Known], name: str, path: str) -> Known | None:
    """A record of a container, or None if there is none. Raises Damaged."""
    from hakoniwa import recordreader

    try:
        value = load(name, path)
        if value is None:
            return None
        found = recordreader.read(kind, value)
        must_be_of(name, found)
    except Unreadable as problem:
        raise Damaged(name, path, str(problem)) from None
    except OSError as error:
        raise Damaged(name, path, error.strerror or str(error)) from None
    return found


def must_be_of(name: str, found: Head) -> None:
    """See that what was found under a name is of that container. Raises Unreadable."""
    if found.name != name:
        raise Unreadable(f"is of {found.name!r}")
