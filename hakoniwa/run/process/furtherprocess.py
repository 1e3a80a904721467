"""A further process in a running container, from the clone to its program.

The process that is cloned is a member of the container from its first moment, and the container's processes see it. So what
it needs from the host is loaded and opened before (`prepare`), and it is born in the container's namespaces: this process
joins them for that moment, and nobody inside sees it; or a process in between does, where there is no way back.
"""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes import prctl, process, signals
from hakoniwa.kernel.processes.pidfd import has_ended
from hakoniwa.kernel.security import capabilities
from hakoniwa.run.process import child, report
from hakoniwa.run.process.newprocess import NewProcess
from hakoniwa.run.process.streams import Streams, choose_streams
from hakoniwa.steps.join import EnterRoot, JoinGroups, JoinNamespaces, namespaces_apart
from hakoniwa.steps.process import identity
from hakoniwa.steps.step import apply_all, prepare_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence

    from hakoniwa.known.joining import Target
    from hakoniwa.plan.process import ProcessPlan
    from hakoniwa.steps.step import Context, Step


def _open_joining(groups: list[str]) -> list[int]:
    from hakoniwa.kernel.cgroup import open_joining

    return open_joining(groups)


class FurtherProcess:
    """One such process. `found` is the container, `container` a pidfd of its first process."""

    def __init__(self, found: Target, container: int) -> None:
        self._found = found
        self._name = found.name
        self._join = JoinNamespaces(pidfd=container, flags=namespaces_apart(found.init.pid))
        self._root = os.open(f"/proc/{found.init.pid}/root", os.O_PATH | os.O_CLOEXEC)
        *self._joining, self._unified = _open_joining([*found.cgroups]) if found.cgroups else [-1]
        self._attributes: tuple[_socket.socket, _socket.socket] | None = None
        self.front = -1  # a socket that takes the master of the pty, or -1
        self.streams = Streams()

    def launch(self, plan: ProcessPlan, term: str) -> tuple[int, int]:
        """Clone the process, and return (pid, pidfd) once its program is executed. Raises HakoError when it is not."""
        self.streams = choose_streams(plan.terminals)
        new = NewProcess(self.streams, self.front)
        context = new.make_context(plan.environment(term))
        if plan.security.apparmor:
            plan = plan.replace(attributes=self._receive_attributes())
        outside = [*plan.scheduling(), self._join]  # for as long as /proc is the host's
        inside = [
            JoinGroups(files=tuple(self._joining)),
            EnterRoot(joined=self._join, root=self._root),
            identity.JoinKeyring(),
            plan.account(),
            *plan.terminal(),
            *plan.become_program(),
        ]
        prepare_all([*outside, *inside], context)
        prctl.become_undumpable()  # nobody inside may trace the process, or open what it has open
        pid, pidfd = self._clone(new, outside, inside, context)
        os.close(new.writer)
        (program, *_) = plan.command or ("a shell",)
        return pid, self._await_program(pid, pidfd, new.reader, program)

    def _receive_attributes(self) -> Step:
        """What the process does to get the folder that an AppArmor profile is asked for in."""
        from hakoniwa.kernel import descriptors
        from hakoniwa.steps.process.program import ReceiveAttributes

        self._attributes = descriptors.open_pair()
        return ReceiveAttributes(channel=self._attributes[1])

    def _clone(
        self, new: NewProcess, outside: Sequence[Step], inside: Sequence[Step], context: Context
    ) -> tuple[int, int]:
        keep = new.kept() | {self._join.pidfd, self._root, *self._joining, *context.opened()}
        if self._attributes:
            keep.add(self._attributes[1].fileno())
        cgroup = None if self._unified == -1 else self._unified
        if self._needs_process_between(outside):
            cloning = lambda: self._clone_from_between(outside, context, cgroup, keep | {self._unified})  # noqa: E731
        else:
            flags = self._join.flags & ~self._join.left_for_later()
            cloning = lambda: process.clone_away(lambda: apply_all(outside, context), flags, cgroup=cgroup)  # noqa: E731
        try:
            pid, pidfd = new.clone(cloning, lambda: child.become_inside(inside, context, keep))
        except ChildProcessError:
            return 0, -1  # it has told why
        except OSError as error:
            raise HakoError(f"cannot join container {self._name!r}: {error.strerror}") from None
        if self._attributes:
            self._send_attributes(pid, context.status)
        return pid, pidfd

    def _needs_process_between(self, outside: Sequence[Step]) -> bool:
        """Whether this process cannot join by itself, and come back.

        There is no way back from a user namespace, nor from what other steps set. And who has cap_sys_ptrace inside can open
        what the child has open when it is born.
        """
        traced: bool = bool(self._found.capabilities & capabilities.mask(["cap_sys_ptrace"]))
        return self._join.has_user_namespace() or len(outside) > 1 or traced

    def _clone_from_between(
        self, outside: Sequence[Step], context: Context, cgroup: int | None, kept: set[int]
    ) -> tuple[int, int]:
        def enter() -> None:
            try:
                apply_all(outside, context)
            except HakoError as error:
                report.tell_failure(context.status, error)
                os._exit(1)

        return process.clone_from(enter, 0, cgroup=cgroup, keep=kept)

    def _send_attributes(self, pid: int, status: int) -> None:
        from hakoniwa.kernel import descriptors
        from hakoniwa.kernel.security import apparmor

        assert self._attributes is not None
        ours, theirs = self._attributes
        theirs.close()
        try:
            descriptors.send(ours, b"", [apparmor.attributes_of(pid)])
        except OSError as error:
            report.tell_failure(status, HakoError(f"cannot open the security attributes: {error.strerror}"))
        finally:
            ours.close()

    def _await_program(self, pid: int, pidfd: int, reader: int, program: str) -> int:
        """Wait until the program is executed. Raises HakoError when it is not; then the process has been ended."""
        try:
            told = report.read_to_end(reader, pidfd if pid else reader, report.PATIENCE)
        except HakoError:
            signals.pidfd_send_signal(pidfd, signals.SIGKILL)
            raise
        finally:
            os.close(reader)
        found = report.read_report(told, program)
        failure = found.failure
        if failure is None and not found.executing:
            failure = HakoError(
                "the container has just ended"
                if has_ended(self._join.pidfd)
                else f"the process was killed before it could execute {program}: is the container's memory full?"
            )
        if failure is not None:
            if pid:
                os.waitpid(pid, 0)
            failure.where = failure.where or self._name
            raise failure
        return pidfd
