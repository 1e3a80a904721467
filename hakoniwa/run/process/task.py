"""A function of ours that a process of its own calls, and what that tells if it fails."""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes import process, signals
from hakoniwa.run.process.report import read_report, read_to_end, tell_failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


class Task:
    """A child in `namespaces` of its own that calls `action`, with the pipe through which it can tell why it failed.

    `action` gets that pipe. What it raises is told as well, and the child ends. It may also become another program: then
    nothing was told. When this process is interrupted, the child gets the signal `ending`.
    What `process.clone` asks of its caller holds here, too; its OSError is raised.
    """

    def __init__(self, action: Callable[[int], object], namespaces: int = 0, *, ending: int = signals.SIGTERM) -> None:
        self._ending = ending
        self._report, writer = os.pipe2(os.O_CLOEXEC)
        log.flush_prints()  # or the child would print it once more
        try:
            self.pid, self._pidfd = process.clone(namespaces)
        except OSError:
            os.close(self._report)
            os.close(writer)
            raise
        if self.pid == 0:
            os.close(self._report)
            _carry_out(action, writer)
        os.close(writer)

    def wait(self, program: str = "") -> int:
        """Wait for its end. Returns the exit status, negative after a signal. Raises the HakoError that was told.

        `program` is the one that it was to become.
        """
        try:
            told = self._hear()
        finally:
            status = self._reap()
        if failure := read_report(told, program).failure:
            raise failure
        return status

    def kill(self) -> None:
        """End it at once, whatever it may have to tell."""
        os.kill(self.pid, signals.SIGKILL)  # not reaped yet: the pid is still its own
        self._reap()

    def _hear(self) -> bytes:
        try:
            return read_to_end(self._report, self._pidfd)
        except signals.Interrupted:
            signals.pidfd_send_signal(self._pidfd, self._ending)
            read_to_end(self._report, self._pidfd)
            raise

    def _reap(self) -> int:
        os.close(self._report)
        os.close(self._pidfd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _carry_out(action: Callable[[int], object], report: int) -> NoReturn:
    """In the child: call it, and end with 0, or with 1 if it has failed."""
    status = 1
    try:
        action(report)
        log.flush_prints()
        status = 0
    except HakoError as error:
        tell_failure(report, error)
    except KeyboardInterrupt:
        tell_failure(report, HakoError("interrupted"))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        tell_failure(report, HakoError(f"{where}{error.strerror or error}"))
    except BaseException as error:
        tell_failure(report, HakoError(f"{type(error).__name__}: {error}"))
    finally:
        log.flush_prints()
        os._exit(status)
