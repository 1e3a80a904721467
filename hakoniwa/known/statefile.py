"""The records that are kept of containers, and their files: written whole, and read with a check.

A file is one JSON object. What cannot be read as the record that it should be is `Damaged`: who goes through all files tells
that and goes on, and `hako gc` removes it.
"""

from __future__ import annotations

import os

from hakoniwa import fastjson
from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem.files import read_file
from hakoniwa.known import SCHEMA
from hakoniwa.places import folder_of
from hakoniwa.record import Record, Unreadable, plain
from hakoniwa.spec.records import Namespaces, Process, Resources, Security  # `recordreader.read` finds them here
from hakoniwa.trust import read_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Literal, Self, TypeVar

    from hakoniwa.network.facts import NetworkFacts
    from hakoniwa.spec.records import Container

    Known = TypeVar("Known", "State", "Made")

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
        if os.path.dirname(path) == folder_of(name) and (pid := _holder(name)) is not None:
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
    metadata: dict[str, Any]
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


class _Known(Record):
    """What is known of each container. What `ended` asks for comes first."""

    status: str
    file: str
    name: str
    barn: str
    rootfs: str
    created_at: str
    definition: Definition


class Made(_Known):
    """A container whose rootfs was made."""

    status: Literal["built"] = "built"

    @classmethod
    def of(cls, container: Container) -> Self:
        """The record of a container whose rootfs is being put in place."""
        return cls(
            name=container.name,
            barn=container.barn,
            file=container.file,
            rootfs=container.files.rootfs.path,
            created_at=timestamp(),
            definition=Definition.of(container),
        )


class State(_Known):
    """A container that runs, or has run. What has a default may be missing in what an earlier version has written."""

    status: Literal["created", "running", "stopped", "failed", "dead"]
    boot_id: str
    init: ProcessRecord
    supervisor: ProcessRecord
    barn_process: ProcessRecord | None = None  # in the background it outlives the supervisor by its last hooks
    command: tuple[str, ...] | None = None  # in the place of the file's
    capabilities: int
    user_namespace: bool
    cgroups: tuple[str, ...]  # made for the container
    assigned_cgroup: str | None = None
    persisted: tuple[str, ...] = ()
    pid_file: str | None
    log: str | None  # if it runs in the background
    devpts: int | None = None
    filters: tuple[str, ...]
    network: NetworkFacts | None = None
    error: str | None = None
    exit: End | None = None


def timestamp(seconds: float | None = None) -> str:
    """A time, now unless one is given, as records and lists have it."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def known_names(known: Iterable[State | Made]) -> list[str]:
    """The names of containers and of their barns."""
    return sorted({name for one in known for name in (one.name, one.barn)})


def _holder(name: str) -> int | None:
    """The process that holds the lock of a container, as far as /proc/locks tells. `man 5 proc_locks`."""
    try:
        status = os.stat(os.path.join(folder_of(name), LOCK))
        locks = read_file("/proc/locks").decode()
    except OSError:
        return None
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in locks.splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5] == file and int(fields[4]) > 0:
            return int(fields[4])
    return None


def written(record: Record) -> bytes:
    """A record as its file holds it."""
    return fastjson.document(record, SCHEMA)


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
        content = read_own(path)
    except OSError:
        return False
    begins = ({"schema": SCHEMA, "status": status, **known} for status in ENDED)
    return content.startswith(tuple(fastjson.dumps(begin)[:-1].encode() + b", " for begin in begins))


def said(**fields: str | int | Record) -> list[bytes]:
    """What a file says of these fields, for `glance.lacks`."""
    return [fastjson.dumps({name: value})[1:-1].encode() for name, value in fields.items()]


def read_known(kind: type[Known], name: str, path: str) -> Known | None:
    """A record of a container, or None if there is none. Raises Damaged."""
    from hakoniwa import recordreader

    try:
        value = load(name, path)
        if value is None:
            return None
        found = recordreader.read(kind, value)
        if found.name != name:
            raise Unreadable(f"is of {found.name!r}")
    except Unreadable as problem:
        raise Damaged(name, path, str(problem)) from None
    except OSError as error:
        raise Damaged(name, path, error.strerror or str(error)) from None
    return found
