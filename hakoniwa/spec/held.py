"""The part of a description that a container's processes are held to: what a further process is given, too.

It is read by each attach, which needs nothing of the rest (records.py).
"""

from __future__ import annotations

from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

NOTHING: Mapping[str, Any] = {}


class Stream(Record):
    """Where a standard stream leads: `inside` is a path of the container, opened as its user."""

    number: int
    path: str
    inside: bool = False
    where: str = ""


class Limit(Record):
    """A resource limit; -1 is unlimited."""

    name: str
    soft: int
    hard: int
    where: str = ""


class Capabilities(Record):
    """`everything`: all that the caller has. `named` were asked for by name, so that lacking one is an error."""

    everything: bool = False
    named: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    where: str = ""


class Scheduling(Record):
    """How the kernel treats the processes of the container; None leaves them as the caller is."""

    nice: int | None = None
    policy: str | None = None  # "other", "batch", "idle", "fifo:N" or "rr:N"
    oom_score_adj: int | None = None
    where: str = ""


class ArgumentTest(Record):
    """A condition on an argument of a system call, counted from 0; with a `mask`, on the bits that it lets through."""

    index: int
    operator: str = "=="  # == != < <= > >=
    value: int
    mask: int | None = None


class CallRule(Record):
    """What becomes of some system calls: "allow", "errno", "kill", "kill_thread", "trap", "trace" or "log"."""

    action: str
    calls: tuple[str, ...]
    errno: int = 0
    tests: tuple[ArgumentTest, ...] = ()
    where: str = ""


class CallFilter(Record):
    """A seccomp filter: what becomes of each call that no rule names, and the rules."""

    default: str = "allow"
    errno: int = 1  # EPERM
    rules: tuple[CallRule, ...] = ()
    where: str = ""


class Seccomp(Record):
    """The filters of a container: a profile ("default", a path of the host, or none) and the file's own on top of it."""

    profile: str | None = "default"
    filters: tuple[CallFilter, ...] = ()
    where: str = ""


class Parameter(Record):
    """A cgroup parameter by its kernel name, and its value as it is written."""

    name: str
    value: str
    where: str = ""


class Cgroup(Record):
    """What a container may use. `memory` is in bytes; `where` is the line of `assign_only`."""

    name: str | None = None
    v1: tuple[Parameter, ...] = ()
    v2: tuple[Parameter, ...] = ()
    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None
    assign_only: bool = False  # a v2 group without parameters: made, or joined where `name` is one that exists already
    where: str = ""


NO_CGROUP = Cgroup()
AS_THE_CALLER = Scheduling()
DEFAULT_CAPABILITIES = Capabilities()
DEFAULT_SECCOMP = Seccomp()


class Process(Record):
    """The program, as whom it runs, and what it finds when it begins."""

    command: tuple[str, ...] | None = None  # None: a shell
    init: str | None = None
    workdir: str = "/"
    environ: Mapping[str, str] = NOTHING
    uid: int | str | None = None
    gid: int | str | None = None
    groups: tuple[int | str, ...] = ()
    streams: tuple[Stream, ...] = ()


class Resources(Record):
    """What the container may use, and how it is scheduled."""

    limits: tuple[Limit, ...] = ()
    cgroup: Cgroup = NO_CGROUP
    scheduling: Scheduling = AS_THE_CALLER


class Security(Record):
    """What the container may do."""

    capabilities: Capabilities = DEFAULT_CAPABILITIES
    no_new_privs: bool = True
    seccomp: Seccomp = DEFAULT_SECCOMP
    apparmor: str | None = None
