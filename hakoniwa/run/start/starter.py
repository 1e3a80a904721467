"""A process that starts a plain container in its supervisor's place, and ends.

What is forked shares all its memory until it writes to it, and everything that a start executes writes to some. So the
supervisor of one of many leaves the start to a child of its own: this clones the first process, as a child of the
supervisor, hears how the set-up fares, writes down that the container runs, and takes its pages with it. Half of what a
supervisor would cost for as long as it lives.
"""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem.files import read_all
from hakoniwa.kernel.processes import signals
from hakoniwa.kernel.processes.pidfd import start_time
from hakoniwa.known.statefile import ProcessRecord
from hakoniwa.run.process import report
from hakoniwa.run.start.hostside import needs_undoing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.plan.container import Launch
    from hakoniwa.run.life import Life
    from hakoniwa.run.start.firstprocess import FirstProcess
    from hakoniwa.spec.records import Container

_CLONED = b"P"  # the first byte of what tells the first process: no report begins with it
_NUMBER = 8  # bytes


def can_start(container: Container, launch: Launch) -> bool:
    """Whether a start leaves nothing in the memory of the process that does it but what can be told in a few bytes."""
    return not (launch.hold or needs_undoing(container) or container.process.streams or container.namespaces.entered)


class Starter:
    """That process, as the supervisor sees it."""

    def __init__(self, life: Life, first: FirstProcess, program: str) -> None:
        self._life = life
        self.first = first
        self._program = program
        self._pid = 0

    def start(self) -> tuple[int, int, int]:
        """What `FirstProcess.clone` returns. The pipe ends once the state says that the container runs. Raises HakoError."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        supervisor = os.pidfd_open(os.getpid())
        self._pid = os.fork()
        if self._pid == 0:
            self._be_starter(supervisor, writer)
        os.close(writer)
        os.close(supervisor)
        told = os.read(reader, 1)
        if told == _CLONED:
            told = os.read(reader, 3 * _NUMBER)  # written at once: `man 7 pipe`, PIPE_BUF
            init, init_started, own_started = (
                int.from_bytes(told[at : at + _NUMBER], "little") for at in range(0, 3 * _NUMBER, _NUMBER)
            )
            own = ProcessRecord(pid=os.getpid(), started=own_started)
            self._life.statewriter.processes = ProcessRecord(pid=init, started=init_started), own
            return init, os.pidfd_open(init), reader  # it is our child: until we reap it, its pid is nobody else's
        failure = report.read_report(told + read_all(reader), self._program).failure
        os.close(reader)
        self.reap()
        self._end_strays()
        raise failure or HakoError("the process that was to start the container was killed")

    def reap(self) -> None:
        """Wait for its end, which follows that of the pipe."""
        os.waitpid(self._pid, 0)

    def _end_strays(self) -> None:
        """End a first process that was cloned, and not told."""
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            for pid in map(int, file.read().split()):
                os.kill(pid, signals.SIGKILL)
                os.waitpid(pid, 0)

    def _be_starter(self, supervisor: int, writer: int) -> None:
        try:
            os.write(writer, self._go(supervisor, writer))
        except HakoError as error:
            report.tell_failure(writer, error)
        except BaseException as error:
            report.tell_failure(writer, HakoError(f"{type(error).__name__}: {error}"))
        finally:
            os._exit(0)

    def _go(self, supervisor: int, writer: int) -> bytes:
        """Start the container. Returns what its first process has told."""
        writer_of_state = self._life.statewriter
        pid, pidfd, status = self.first.clone(parent=supervisor)
        own = ProcessRecord(pid=os.getppid(), started=start_time(os.getppid()))
        init = ProcessRecord(pid=pid, started=start_time(pid))
        numbers = (init.pid, init.started, own.started)
        os.write(writer, _CLONED + b"".join(number.to_bytes(_NUMBER, "little") for number in numbers))
        writer_of_state.processes = init, own
        told = report.read_to_end(status, pidfd)
        found = report.read_report(told, self._program)
        if found.executing and found.failure is None:
            writer_of_state.devpts = found.devpts
            writer_of_state.write(self._life.status, self._life.base, None)
        return told
