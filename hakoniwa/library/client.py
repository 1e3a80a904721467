"""The process that the library executes for each request: nothing is forked from the program, which may have threads.

It is `python -I -m hakoniwa.library.executed`, with three descriptors: the request, the answer, and a pidfd of the program, so
that it ends when the program does. It is begun by `subprocess`, which is safe beside threads (`vfork`, no Python in the child).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time

from hakoniwa import recordreader
from hakoniwa.errors import HakoError, Problems
from hakoniwa.library.request import Answer, Failure, Request
from hakoniwa.record import Unreadable, plain

_CHUNK = 1 << 16
_PATIENCE = 15.0  # seconds for a container to end once it is asked to; then its front process is killed


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
        with contextlib.ExitStack() as opened:
            asked = _memory_file(json.dumps(plain(request)).encode())
            opened.callback(os.close, asked)
            self._answer, answer = os.pipe2(os.O_CLOEXEC)
            opened.callback(os.close, answer)
            program = os.pidfd_open(os.getpid())
            opened.callback(os.close, program)
            words = [sys.executable, "-I", "-m", "hakoniwa.library.executed", str(asked), str(answer), str(program)]
            try:
                self.process = subprocess.Popen(
                    words,
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    pass_fds=(asked, answer, program),
                    start_new_session=True,  # Ctrl-C is the program's to answer
                )
            except BaseException:
                os.close(self._answer)
                raise
        self._told = b""

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *failure: object) -> None:
        if self.process.poll() is None:
            self.end()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        os.close(self._answer)

    def end(self) -> None:
        """End the process, and with it what it has begun: by TERM first, which it answers by undoing."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ends(self, deadline: float | None, stop: int) -> bool:
        """Wait for the end of the process. False when time is up before, or `stop` is readable."""
        try:
            ended = os.pidfd_open(self.process.pid)  # not reaped yet: the pid is its own
        except ProcessLookupError:
            return True  # a program that ignores SIGCHLD has the kernel reap
        try:
            poll = select.poll()
            for descriptor in (ended, *((stop,) if stop != -1 else ())):
                poll.register(descriptor, select.POLLIN)
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            return ended in (number for number, _ in poll.poll(left))
        finally:
            os.close(ended)

    def answer(self) -> Answer:
        """Wait for the answer. Raises HakoError, or Problems, when the request has failed."""
        while more := os.read(self._answer, _CHUNK):
            self._told += more
        return self._read_answer()

    def _read_answer(self) -> Answer:
        try:
            answer = recordreader.read(Answer, json.loads(self._told))
        except (ValueError, Unreadable):
            code = self.process.wait()
            raise Unanswered(f"the process beside this program has ended, with status {code}") from None
        raise_failures(answer.failures)
        return answer


class Unanswered(HakoError):
    """The process has ended without an answer."""


def raise_failures(failures: tuple[Failure, ...]) -> None:
    """Raise what a request has failed with, if it has."""
    errors = [HakoError(one.message, where=one.where, hint=one.hint, status=one.status) for one in failures]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise Problems(errors)


def call(request: Request) -> Answer:
    """Carry out a request that has no streams of its own. Raises HakoError."""
    said = os.memfd_create("said", os.MFD_CLOEXEC)  # and no pipe, which it could fill
    try:
        with Call(request, stdout=subprocess.DEVNULL, stderr=said) as begun:
            try:
                answer = begun.answer()
                begun.process.wait()
                return answer
            except Unanswered as error:
                error.hint = os.pread(said, _CHUNK, 0).decode(errors="replace").strip()
                raise
    finally:
        os.close(said)


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
    deadline = None if timeout is None else time.monotonic() + timeout
    with Call(request, stdin=subprocess.DEVNULL if given is None else subprocess.PIPE) as begun:
        output = _Output(begun.process, largest)
        if not output.exchange(given or b"", deadline, stop) or not begun.ends(deadline, stop):
            begun.end()
            raise subprocess.TimeoutExpired(list(request.argv or ()), timeout or 0.0, output.kept(0), output.kept(1))
        begun.answer()
        completed = Completed(list(request.argv or ()), begun.process.wait(), output.kept(0), output.kept(1))
        completed.dropped = output.dropped
        return completed


class _Output:
    """The pipes of a program: what it is given, and what it writes."""

    def __init__(self, process: subprocess.Popen[bytes], largest: int) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self._stdin = process.stdin
        self._pipes = (process.stdout.fileno(), process.stderr.fileno())
        self._kept: dict[int, bytearray] = {pipe: bytearray() for pipe in self._pipes}
        self._largest = largest
        self.dropped = 0

    def kept(self, number: int) -> bytes:
        """What is kept of standard output (0) or standard error (1)."""
        return bytes(self._kept[self._pipes[number]])

    def exchange(self, given: bytes, deadline: float | None, stop: int) -> bool:
        """Write and read until both outputs have ended. False when time is up before, or `stop` is readable."""
        poll, open_pipes, rest = select.poll(), set(self._pipes), memoryview(given)
        for pipe in open_pipes:
            os.set_blocking(pipe, False)
            poll.register(pipe, select.POLLIN)
        if self._stdin is not None:
            os.set_blocking(self._stdin.fileno(), False)
            poll.register(self._stdin.fileno(), select.POLLOUT)
        if stop != -1:
            poll.register(stop, select.POLLIN)
        while open_pipes:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            ready = [number for number, _ in poll.poll(left)]
            if stop in ready or (deadline is not None and time.monotonic() >= deadline):
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
        return True

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


def wait(name: str, timeout: float | None) -> int:
    """Wait for the end of a container, and return its exit status. Raises TimeoutError, and HakoError when it is not known."""
    from hakoniwa.kernel.processes.pidfd import has_ended
    from hakoniwa.known import state

    deadline = None if timeout is None else time.monotonic() + timeout
    found = state.read(name)
    if found is None:
        raise HakoError(f"container {name!r} is not known any more")
    supervisor = state.identity(found, "supervisor").open()
    if supervisor is not None:
        try:
            poll = select.poll()
            poll.register(supervisor, select.POLLIN)
            poll.poll(None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000)
            if not has_ended(supervisor):
                raise TimeoutError(f"container {name!r} still runs after {timeout:g} s")
        finally:
            os.close(supervisor)
    ended = state.read(name)
    if ended is None or ended.exit is None:
        raise HakoError(f"nobody knows how container {name!r} has ended", hint="its supervisor was killed")
    return ended.exit.code
