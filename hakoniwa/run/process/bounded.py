"""Run a program whose output is not trusted to have an end: so much of it is kept, and the rest read and dropped."""

from __future__ import annotations

import os
import select
import subprocess
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST = 4 << 20  # bytes that are kept of each stream
_CHUNK = 1 << 16


class Kept:
    """What is kept of one stream."""

    def __init__(self, pipe: int) -> None:
        os.set_blocking(pipe, False)
        self.pipe = pipe
        self.dropped = 0  # bytes
        self._parts: list[bytes] = []
        self._length = 0

    def take(self) -> bool:
        """Read once. False when there is nothing to read at the moment, or at all any more."""
        try:
            more = os.read(self.pipe, _CHUNK)
        except BlockingIOError:
            return False
        part = more[: LARGEST - self._length]
        if part:
            self._parts.append(part)
        self._length += len(part)
        self.dropped += len(more) - len(part)
        return bool(more)

    def text(self) -> str:
        """What was kept. An incomplete or wrong character becomes U+FFFD."""
        return b"".join(self._parts).decode(errors="replace")


def run_bounded(argv: Sequence[str], timeout: float | None) -> tuple[subprocess.CompletedProcess[str], int]:
    """Run a program to its end: (completed, its output as text; how many bytes of that were dropped).

    What it leaves running is not waited for. Raises subprocess.TimeoutExpired after `timeout` seconds, when it was killed.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    pipes = subprocess.PIPE
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=pipes, stderr=pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        streams = [Kept(process.stdout.fileno()), Kept(process.stderr.fileno())]
        pidfd = os.pidfd_open(process.pid)
        try:
            if not _read_until_end(streams, pidfd, deadline):
                process.kill()
                process.wait()
                out, err = (stream.text() for stream in streams)
                raise subprocess.TimeoutExpired(list(argv), timeout or 0, out.encode(), err.encode())
        except BaseException:
            process.kill()
            raise
        finally:
            os.close(pidfd)
        code = process.wait()
    out, err = (stream.text() for stream in streams)
    return subprocess.CompletedProcess(list(argv), code, out, err), sum(stream.dropped for stream in streams)


def _read_until_end(streams: list[Kept], pidfd: int, deadline: float | None) -> bool:
    """Read until the process has ended. False when the time was up before."""
    poll = select.poll()
    for descriptor in (pidfd, *(stream.pipe for stream in streams)):
        poll.register(descriptor, select.POLLIN)
    by_pipe = {stream.pipe: stream for stream in streams}
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = {descriptor for descriptor, _ in poll.poll(left)}
        if not ready or (deadline is not None and time.monotonic() > deadline):
            return False
        for pipe in ready & by_pipe.keys():
            if not by_pipe[pipe].take():
                poll.unregister(pipe)
        if pidfd in ready:
            break
    for stream in streams:
        _drain(stream)
    return True


def _drain(stream: Kept) -> None:
    """Read what was written before the end; somebody who is left inside may write for ever."""
    for _ in range(LARGEST // _CHUNK):
        if not stream.take():
            return
