"""What the library asks of the process that it executes, and what that answers: two records, as JSON, in files without a name."""

from __future__ import annotations

from hakoniwa.record import Record
from hakoniwa.refusal import Refusal  # `recordreader.read` finds it here

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Limits(Record):
    """What a container may use, in the place of what its definition says; None leaves that as it is. Bytes, processors, processes."""

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None


class Request(Record):
    """One thing to do: "check", "create", "start", "run" (in the foreground), "exec", "end" or "remove".

    A container is meant by the `file` that defines it, by a `spec` (the document of `hako inspect --spec`, with functions as
    references), or by its `name`.
    """

    what: str
    file: str | None = None
    spec: dict[str, Any] | None = None
    functions: bool = False  # it is the program's own, so that its references to functions are followed
    name: str | None = None
    argv: tuple[str, ...] | None = None
    user: int | str | None = None  # of an exec
    group: int | str | None = None
    environ: dict[str, str] = {}  # of an exec or a run, on top of the container's
    workdir: str | None = None
    limits: Limits = Limits()
    wait: bool = False  # until it is ready
    bound: bool = False  # the container ends when the program does
    forget: bool = False  # it has a name for this once: nothing of it stays
    rootfs: bool = False  # of a remove: the rootfs too
    signal: str | None = None  # of an end
    seconds: float | None = None  # that an end waits before it kills
    path: tuple[str, ...] = ()  # `sys.path` of the program, for its functions


class Answer(Record):
    """What has become of a request."""

    refusals: tuple[Refusal, ...] = ()
    names: tuple[str, ...] = ()  # of the containers that are meant
    status: int = 0  # of the program that was run: who ignores SIGCHLD does not learn it from the kernel
