"""A container's first process as its supervisor has it: how its set-up fares, and how it is ended."""

from __future__ import annotations

import os

from hakoniwa.kernel.filesystem.files import wait_readable
from hakoniwa.kernel.processes import signals
from hakoniwa.kernel.processes.pidfd import has_ended, takes
from hakoniwa.run.process import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.run.loop import Awaited, Loop
    from hakoniwa.run.start.groups import Groups

GRACE = 10.0  # seconds between TERM and KILL


class Payload:
    """The first process, which becomes the container's program."""

    def __init__(
        self, pid: int, pidfd: int, status: int, loop: Loop, groups: Groups | None, *, has_pid_namespace: bool
    ) -> None:
        """`status` is the read end of the pipe that tells how the set-up fares."""
        self.pid = pid
        self.pidfd = pidfd
        self.asked_to_end = False
        self.held = False  # it waits for `release`
        self._was_held = False
        self._release_end = -1  # a socket, if it is to be held
        self._loop = loop
        self._groups = groups
        self._has_pid_namespace = has_pid_namespace
        self._executing = False  # the container's program
        self._status = status
        self._told = b""
        self._grace: Awaited | None = None  # until it is killed

    def hold(self, release_end: int) -> None:
        """Expect it to wait for a byte from a socket once all is set up."""
        self._release_end = release_end

    def release(self) -> None:
        """Have it execute its program."""
        self.held = False
        os.write(self._release_end, b".")

    def await_set_up(self) -> bytes:
        """Wait until the program is executed, or will never be, or the first process is held: call it again after that.

        Returns all that the first process has told.
        """
        self._loop.add(self._status, self._hear, "hear how the set-up fares")
        # When it has ended, what it had to say is in the pipe, up to its end.
        self._loop.add(self.pidfd, lambda: self._loop.drop(self.pidfd))
        self._loop.run()
        self._loop.drop(self.pidfd)
        return self._told

    def _hear(self) -> None:
        more = os.read(self._status, report.LARGEST + 1)
        self._told += more
        if not more or len(self._told) > report.LARGEST:
            self._loop.drop(self._status)
            os.close(self._status)
            self._loop.stop()
        elif self._release_end != -1 and not self._was_held and report.read_report(self._told, "").held:
            self.held = self._was_held = True
            self._loop.stop()
        if self.asked_to_end and not self.held:
            self._end_set_up()

    def note_program(self) -> None:
        """Its program runs: a signal is the program's from now on."""
        self._executing = True
        if self.asked_to_end:
            self.ask_to_end()

    def await_end(self) -> None:
        """Wait until it has ended."""
        self._loop.add(self.pidfd, self._loop.stop)
        self._loop.run()

    def ask_to_end(self) -> None:
        """TERM, and KILL when time is up; KILL at once when TERM would be ignored. Who is held takes it, too."""
        self.asked_to_end = True
        if not (self._executing or self.held):
            self._end_set_up()
        elif self._grace is not None:
            return
        elif self._has_pid_namespace and not takes(self.pid, signals.SIGTERM):
            self.kill()
        else:
            signals.pidfd_send_signal(self.pidfd, signals.SIGTERM)
            self._grace = self._loop.after(GRACE, self.kill, "end the container")

    def _end_set_up(self) -> None:
        """Our own set-up would get a TERM, and not the program. What it has to say is heard first."""
        if not wait_readable(self._status, seconds=0):
            self.kill()

    def kill(self) -> None:
        """KILL, which reaches a frozen process only once it is thawed."""
        self._loop.cancel(self._grace)
        if self._groups:
            self._loop.attempt("thaw the container", self._groups.thaw)
        try:
            signals.pidfd_send_signal(self.pidfd, signals.SIGKILL)
        except ProcessLookupError:
            pass

    def reap(self) -> int:
        """Wait for its end, killing it if it still runs. Returns what `waitpid` tells."""
        if not has_ended(self.pidfd):
            self.kill()
        return os.waitpid(self.pid, 0)[1]

    def reap_adopted(self) -> None:
        """Reap what a container without a pid namespace has orphaned; its first process is left for `reap`."""
        if self._has_pid_namespace:
            return
        while True:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None or found.si_pid == self.pid:
                return
            os.waitpid(found.si_pid, 0)
