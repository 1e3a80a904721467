"""The namespaces that a barn shares among its containers: they are there before the first of them, and need no process.

A process makes them, and the barn's process opens them: that keeps them (`man 7 namespaces`). The process that has made them is
gone then. A pid namespace alone lives by its first process: that goes on, in an empty root, without capabilities or anything to
do, and reaps what the containers leave. Containers get them as descriptors, which nobody can swap.
"""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel import descriptors
from hakoniwa.kernel.processes import process, signals
from hakoniwa.kernel.processes.pidfd import start_time
from hakoniwa.known.idmaps.callerids import caller_maps, why_no_user_namespace
from hakoniwa.known.idmaps.ids import establish
from hakoniwa.known.statefile import ProcessRecord
from hakoniwa.run.process import child, report
from hakoniwa.spec.records import NO_MAPS, Entered, Maps
from hakoniwa.spec.rules.rules import rules_of_sharing
from hakoniwa.steps import namespaces, outside
from hakoniwa.steps.files import root
from hakoniwa.steps.process import identity
from hakoniwa.steps.shared import AwaitKeeping, WaitAsFirst
from hakoniwa.steps.step import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from hakoniwa.run.start.undo import Undo
    from hakoniwa.spec.records import Barn, Container, Sharing
    from hakoniwa.steps.step import Step

# What the first process of a shared pid namespace has to itself, where it is not shared: it would show the host's.
_APART = ("mount", "net", "ipc", "uts")


def fit(container: Container, shared: Sharing) -> Container:
    """A container of a barn as one that joins what the barn shares. Raises HakoError for what contradicts that."""
    own = container.namespaces
    by_path = {one.name for one in own.entered}
    joined = tuple(name for name in shared.namespaces if name not in by_path)
    for name, setting in (("user", own.uid_map), ("user", own.gid_map), ("time", own.time_offset)):
        if name in joined and setting:
            told = f"the {name} namespace is its barn's, which decides about it"
            raise HakoError(told, where=container.where, hint="set this in what the barn shares")
    if kept := [one for one in own.persisted if one.name in joined]:
        told = f"the {kept[0].name} namespace is its barn's, and can be kept at a path by that alone"
        raise HakoError(told, where=kept[0].where)
    entered = (*own.entered, *(Entered(name=name, path="", where=shared.where) for name in joined))
    changed = own.replace(own=tuple(name for name in own.own if name not in joined), entered=entered)
    hostname = shared.hostname or container.barn if "uts" in joined else container.hostname
    return container.replace(namespaces=changed, hostname=hostname)


class Shared:
    """The namespaces, open."""

    def __init__(self, barn: Barn) -> None:
        self._barn = barn
        self._names = barn.shared.namespaces
        self.descriptors: dict[str, int] = {}
        self.first = -1  # a pidfd of the first process of a shared pid namespace
        self.first_record: ProcessRecord | None = None

    def make(self, undo: Undo, note: Callable[[], None]) -> None:
        """Make and open them. `note` writes them down, before anything is left that a killed process would leave.

        Raises HakoError.
        """
        for problem in rules_of_sharing(self._barn.shared):
            raise HakoError(f"shared {problem.path}: {problem.message}", where=self._where(), hint=problem.hint)
        maps = self._choose_maps(undo)
        inner, outer = descriptors.open_pair()
        mapped = descriptors.open_pair() if maps.uids else None
        reader, writer = os.pipe2(os.O_CLOEXEC)
        pid, pidfd = self._clone()
        if pid == 0:
            self._be_maker(inner, mapped[0] if mapped else None, writer)
        for ours in (inner, *mapped[:1]) if mapped else (inner,):
            ours.close()
        os.close(writer)
        try:
            if mapped:
                establish(pid, maps)
                descriptors.send(mapped[1], outside.ALONE, [])
            made = descriptors.receive(outer)
            if made is None:
                raise self._why_not(reader, pidfd)
            self._open(pid)
            if "pid" in self._names:
                self.first_record = ProcessRecord(pid=pid, started=start_time(pid))
            note()
            self._persist(pid, undo)
            descriptors.send(outer, b"kept", [])
            self._let_go(pid, pidfd, reader, undo)
        except BaseException as error:
            signals.pidfd_send_signal(pidfd, signals.SIGKILL)
            os.waitpid(pid, 0)
            if isinstance(error, OSError):
                raise HakoError(f"cannot make the shared namespaces: {error.strerror}", where=self._where()) from None
            raise
        finally:
            outer.close()
            os.close(reader)
            if mapped:
                mapped[1].close()

    def _where(self) -> str:
        return self._barn.shared.where or self._barn.name

    def _choose_maps(self, undo: Undo) -> Maps:
        wanted, name = self._barn.shared, self._barn.name
        if "user" not in self._names:
            if os.geteuid() != 0:
                told = f"sharing {' '.join(self._names)} takes root, or a shared user namespace"
                raise HakoError(told, where=self._where(), hint='share "user", too')
            return NO_MAPS
        if os.geteuid() != 0:
            return caller_maps()
        if wanted.uid_map:
            uids, gids = wanted.uid_map, wanted.gid_map
            return Maps(
                uids=tuple((one.inside, one.outside, one.count) for one in uids),
                gids=tuple((one.inside, one.outside, one.count) for one in gids),
            )
        from hakoniwa.known.idmaps import ranges

        key = ranges.key_of_barn(name)
        undo.add("free the ids", lambda: ranges.free_unless_known(key))
        return ranges.maps_of(key)[0]

    def _clone(self) -> tuple[int, int]:
        made = {*self._names, *(_APART if "pid" in self._names else ())} - {"cgroup"}
        if self._barn.shared.time_offset:
            made.discard("time")
        try:
            return process.clone(sum(process.NAMESPACES[name] for name in made))
        except OSError as error:
            hint = why_no_user_namespace() if "user" in made else ""
            told = f"cannot make the namespaces {' '.join(self._names)}: {error.strerror}"
            raise HakoError(told, where=self._where(), hint=hint) from None

    def _be_maker(self, channel: _socket.socket, mapped: _socket.socket | None, status: int) -> None:
        """The process that makes them, which is in most of them already. Never returns."""
        keep = {channel.fileno(), status, *([mapped.fileno()] if mapped else [])}
        child.become(lambda: self._steps(channel, mapped), Context(supervisor=-1, status=status, environ={}), keep)

    def _steps(self, channel: _socket.socket, mapped: _socket.socket | None) -> list[Step]:
        shared, names = self._barn.shared, self._names
        steps: list[Step] = []
        if "time" in names and (ahead := shared.time_offset):
            clocks = {"monotonic": ahead.monotonic, "boottime": ahead.boottime}
            steps.append(namespaces.ShiftClocks(where=ahead.where, **clocks))
        if "cgroup" in names:
            steps.append(namespaces.MakeCgroupNamespace(where=shared.where))
        if mapped is not None:
            steps.append(outside.AwaitOutside(channel=mapped, user_namespace=True, announce=False))
        if "uts" in names:
            steps.append(identity.SetHostname(name=shared.hostname or self._barn.name, where=shared.where))
        if "net" in names:
            steps.append(identity.RaiseLoopback(where=shared.where))
        steps.append(AwaitKeeping(channel=channel, goes_on="pid" in names))
        return [*steps, *(_first_steps() if "pid" in names else [])]

    def _why_not(self, reader: int, pidfd: int) -> HakoError:
        found = report.read_report(report.read_to_end(reader, pidfd), "").failure
        error = found or HakoError("the process that makes the shared namespaces was killed")
        error.where = error.where or self._where()
        return error

    def _open(self, pid: int) -> None:
        for name in self._names:
            path = f"/proc/{pid}/ns/{process.FILES.get(name, name)}"
            self.descriptors[name] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def _persist(self, pid: int, undo: Undo) -> None:
        for kept in self._barn.shared.persisted:
            namespaces.persist(pid, kept.name, kept.path, kept.where or self._where())
            undo.add(f"remove {kept.path}", lambda path=kept.path: namespaces.release(path))  # type: ignore[misc]

    def _let_go(self, pid: int, pidfd: int, reader: int, undo: Undo) -> None:
        """See the process end, or wait as the first one of a pid namespace."""
        found = report.read_report(report.read_to_end(reader, pidfd, report.PATIENCE), "the program that waits")
        if found.failure is not None:
            raise found.failure
        if "pid" not in self._names:
            os.waitpid(pid, 0)
            os.close(pidfd)
            return
        self.first = pidfd
        undo.add("end the first process of the pid namespace", lambda: self._end_first(pid))

    def _end_first(self, pid: int) -> None:
        signals.pidfd_send_signal(self.first, signals.SIGKILL)
        os.waitpid(pid, 0)
        os.close(self.first)


def _first_steps() -> list[Step]:
    """Into an empty root, without any capability."""
    from hakoniwa.kernel.processes import idle

    return [
        root.CutOff(),
        root.EmptyRoot(),
        identity.JoinKeyring(),
        identity.FindAccount(uid=0, gid=0, groups=()),
        root.PivotRoot(),
        identity.BecomeUser(capabilities=0, no_new_privs=True),
        WaitAsFirst(command=None, init=None, idle=True, filters=(idle.call_filter(),)),
    ]
