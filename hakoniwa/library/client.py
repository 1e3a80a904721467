"""The process that the library executes for each request: nothing is forked from the program, which may have threads.

It is `python -I`, which runs executed.py with three descriptors: files that hold the request and, once it has ended, the answer; and a
pidfd of the program, so that it ends when the program does. It is begun by `subprocess`, which is safe beside threads (`vfork`, no
Python in the child). Another thread may fork the program meanwhile, and so have its descriptors for as long as it likes. So nothing
here waits for the end of a pipe alone, but for that of the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import select
import signal
import subprocess
import sys
import time

from hakoniwa import recordreader
from hakoniwa.errors import HakoError
from hakoniwa.library.request import Answer, Request
from hakoniwa.record import Unreadable, plain
from hakoniwa.refusal import raise_refusals

_CHUNK = 1 << 16
_CHUNKS_LEFT = 16  # that are read of each output at the end: a pipe holds a MiB, unless root has made it larger
_PATIENCE = 15.0  # seconds for a container to end once it is asked to; then its front process is killed
_LONGEST_LOOK = 1 << 30  # milliseconds of one wait: poll takes an int
_LARGEST_ANSWER = 16 << 20
_LAST_STREAM = 2
_SAID = 2000  # characters of what a process without an answer has said last

# An isolated interpreter does not have all of the program's `sys.path`: hakoniwa is taken from where that has it, and what is installed
# beside it comes last. A checkout has nothing else that is ours.
_EXECUTED = """\
import sys
folder = sys.argv[4]
sys.path.insert(0, folder)
import hakoniwa
del sys.path[0]
if folder not in sys.path and folder.endswith("-packages"):
    sys.path.append(folder)
from hakoniwa.library.executed import main
main()
"""


class Call:
    """A request that is being carried out. To be used as a context manager: what is left at its end is ended."""

    def __init__(
        self,
        request: Request,
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> None:
        """Begin. The streams are those of the request's process. Raises HakoError."""
        try:
            self._begin(request, stdin, stdout, stderr)
        except OSError as error:
            raise HakoError(f"cannot execute {sys.executable}: {error.strerror or error}") from error

    def _begin(self, request: Request, stdin: int, stdout: int, stderr: int) -> None:
        with contextlib.ExitStack() as opened, contextlib.ExitStack() as kept:
            asked = _beside_streams(_memory_file(_written(request)))
            opened.callback(os.close, asked)
            self._answer = _beside_streams(os.memfd_create("answer", os.MFD_CLOEXEC))
            kept.callback(os.close, self._answer)
            program = _beside_streams(os.pidfd_open(os.getpid()))
            opened.callback(os.close, program)
            folder = os.path.dirname(os.path.dirname(os.path.abspath(recordreader.__file__)))
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", _EXECUTED, str(asked), str(self._answer), str(program), folder],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=(asked, self._answer, program),
                start_new_session=True,  # Ctrl-C is the program's to answer
            )
            self._kept = kept.pop_all()
            self._pidfd = self._open_pidfd()

    def _open_pidfd(self) -> int:
        """A pidfd of the process, or -1 when nothing is left of it: a program that ignores SIGCHLD has the kernel reap."""
        try:
            pidfd = os.pidfd_open(self.process.pid)
        except ProcessLookupError:
            return -1
        except OSError:
            self.process.terminate()
            self.process.wait()
            self._close()
            raise
        self._kept.callback(os.close, pidfd)
        return pidfd

    def _close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._kept.close()

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *failure: object) -> None:
        if not self.ends(time.monotonic(), -1):
            self.end()
        self.process.wait()
        self._close()

    def end(self) -> None:
        """End the process, and with it what it has begun: by TERM first, which it answers by undoing."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._pidfd != -1:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, number)
            if self.ends(time.monotonic() + _PATIENCE, -1):
                break
        self.process.wait()

    def ended(self) -> list[int]:
        """What becomes readable at the end of the process: a descriptor, or none if it has ended."""
        return [] if self._pidfd == -1 else [self._pidfd]

    def ends(self, deadline: float | None, stop: int) -> bool:
        """Wait for the end of the process. False when time is up before, or `stop` is readable."""
        poll = select.poll()
        for descriptor in (*self.ended(), *((stop,) if stop != -1 else ())):
            poll.register(descriptor, select.POLLIN)
        while self._pidfd != -1:
            ready = {number for number, _ in poll.poll(_left(deadline))}
            if self._pidfd in ready:
                break
            if stop in ready or is_over(deadline):
                return False
        return True

    def answer(self) -> Answer:
        """The answer, once the process has ended. Raises HakoError, or Problems, when the request has failed."""
        told = os.pread(self._answer, _LARGEST_ANSWER, 0)
        try:
            answer = recordreader.read(Answer, json.loads(told))
        except (ValueError, Unreadable):
            code = self.process.wait()
            raise Unanswered(f"the process beside this program has ended, with status {code}") from None
        raise_refusals(answer.refusals)
        return answer


def _written(request: Request) -> bytes:
    try:
        return json.dumps(plain(request)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise HakoError(f"this cannot be passed to another process: {error}") from None


def deadline_of(timeout: float | None) -> float | None:
    """The moment at which `timeout` seconds are over; None is never. Raises ValueError for what is no number."""
    if timeout is None or timeout == math.inf:
        return None
    if timeout != timeout:
        raise ValueError("timeout must be a number of seconds, not nan")
    return time.monotonic() + timeout


def _left(deadline: float | None) -> float | None:
    """Milliseconds until then, for one call of poll."""
    return None if deadline is None else min(_LONGEST_LOOK, max(0.0, deadline - time.monotonic()) * 1000)


def is_over(deadline: float | None) -> bool:
    """Whether that moment has come."""
    return deadline is not None and time.monotonic() >= deadline


class Unanswered(HakoError):
    """The process has ended without an answer."""


def call(request: Request) -> Answer:
    """Carry out a request that has no streams of its own. Raises HakoError."""
    said = os.memfd_create("said", os.MFD_CLOEXEC)  # and no pipe, which it could fill
    try:
        with Call(request, stdout=subprocess.DEVNULL, stderr=said) as begun:
            begun.ends(None, -1)
            try:
                return begun.answer()
            except Unanswered as error:
                error.hint = _last_of(os.pread(said, _CHUNK, 0))
                raise
    finally:
        os.close(said)


def _last_of(said: bytes) -> str:
    return said.decode(errors="replace").strip()[-_SAID:]


class Completed(subprocess.CompletedProcess[bytes]):
    """A completed process. `dropped` is how many bytes of its output were not kept, since there were too many."""

    dropped: int = 0


def communicate(
    request: Request, given: bytes | None, timeout: float | None, largest: int, stop: int = -1
) -> Completed:
    """Run a request's program to its end, with `given` on its standard input; keep `largest` bytes of each output.

    It is ended once `stop`, a descriptor, is readable. Raises HakoError when there is no program, and
    subprocess.TimeoutExpired after `timeout` seconds, once it has ended.
    """
    deadline = deadline_of(timeout)
    with Call(request, stdin=subprocess.DEVNULL if given is None else subprocess.PIPE) as begun:
        output = _Output(begun, largest)
        if not output.exchange(given or b"", deadline, stop):
            begun.end()
            raise subprocess.TimeoutExpired(list(request.argv or ()), timeout or 0.0, output.kept(0), output.kept(1))
        try:
            answer = begun.answer()
        except Unanswered as error:
            error.hint = _last_of(output.kept(1))
            raise
        completed = Completed(list(request.argv or ()), answer.status, output.kept(0), output.kept(1))
        completed.dropped = output.dropped
        return completed


class _Output:
    """The pipes of a program: what it is given, and what it writes."""

    def __init__(self, begun: Call, largest: int) -> None:
        process = begun.process
        assert process.stdout is not None
        assert process.stderr is not None
        self._begun = begun
        self._stdin = process.stdin
        self._pipes = (process.stdout.fileno(), process.stderr.fileno())
        self._kept: dict[int, bytearray] = {pipe: bytearray() for pipe in self._pipes}
        self._largest = largest
        self.dropped = 0

    def kept(self, number: int) -> bytes:
        """What is kept of standard output (0) or standard error (1)."""
        return bytes(self._kept[self._pipes[number]])

    def exchange(self, given: bytes, deadline: float | None, stop: int) -> bool:
        """Write and read until the process has ended. False when time is up before, or `stop` is readable.

        What others have open of the pipes by then is not waited for: what a command has left running, say.
        """
        rest = memoryview(given)
        poll, open_pipes, ended = select.poll(), set(self._pipes), self._begun.ended()
        for descriptor in (*self._pipes, *ended, *((stop,) if stop != -1 else ())):
            poll.register(descriptor, select.POLLIN)
        for pipe in self._pipes:
            os.set_blocking(pipe, False)
        if self._stdin is not None:
            os.set_blocking(self._stdin.fileno(), False)
            poll.register(self._stdin.fileno(), select.POLLOUT)
        while ended:
            ready = [number for number, _ in poll.poll(_left(deadline))]
            if ended[0] in ready:
                break
            if stop in ready or is_over(deadline):
                return False
            for number in ready:
                if number in open_pipes:
                    if not self._take(number):
                        poll.unregister(number)
                        open_pipes.discard(number)
                elif (rest := self._give(number, rest)) is _DONE:
                    poll.unregister(number)
                    assert self._stdin is not None
                    self._stdin.close()
        for pipe in open_pipes:
            self._take_rest(pipe)
        return True

    def _take_rest(self, pipe: int) -> None:
        """Take what the process has left in a pipe."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(_CHUNKS_LEFT):
                if not self._take(pipe):
                    break

    def _take(self, pipe: int) -> bool:
        more = os.read(pipe, _CHUNK)
        kept = self._kept[pipe]
        room = max(0, self._largest - len(kept))
        kept += more[:room]
        self.dropped += max(0, len(more) - room)
        return bool(more)

    def _give(self, pipe: int, rest: memoryview) -> memoryview:
        if rest:
            try:
                rest = rest[os.write(pipe, rest[:_CHUNK]) :]
            except BlockingIOError:
                return rest
            except BrokenPipeError:
                return _DONE  # it reads no more, which is its own affair
        return rest or _DONE


_DONE = memoryview(b"")


def _memory_file(content: bytes) -> int:
    """A file without a name that holds `content`, to be read from its beginning. The caller owns it."""
    file = os.memfd_create("request", os.MFD_CLOEXEC)
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
    os.lseek(file, 0, os.SEEK_SET)
    return file


def _beside_streams(descriptor: int) -> int:
    """An open descriptor, with a number that no standard stream has: a program may have closed those."""
    if descriptor > _LAST_STREAM:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _LAST_STREAM + 1)
    finally:
        os.close(descriptor)


def wait(name: str, timeout: float | None) -> int:
    """Wait for the end of a container, and return its exit status. Raises TimeoutError, and HakoError when it is not known."""
    from hakoniwa.kernel.processes.pidfd import has_ended
    from hakoniwa.known import state

    deadline = deadline_of(timeout)
    found = state.read(name)
    if found is None:
        raise HakoError(f"container {name!r} is not known any more")
    supervisor = state.identity(found, "supervisor").open()
    if supervisor is not None:
        try:
            poll = select.poll()
            poll.register(supervisor, select.POLLIN)
            while not poll.poll(_left(deadline)) and not is_over(deadline):
                pass  # as long as one call waits at most
            if not has_ended(supervisor):
                raise TimeoutError(f"container {name!r} still runs after {timeout:g} s")
        finally:
            os.close(supervisor)
    ended = state.read(name)
    if ended is None or ended.exit is None:
        raise HakoError(f"nobody knows how container {name!r} has ended", hint="its supervisor was killed")
    return ended.exit.code
