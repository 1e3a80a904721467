"""The hash of a file, taken while it is read: whoever hashes a file first, and then reads it, may read another one."""

from __future__ import annotations

import hashlib
import os
import signal

import prctl

from hakoniwa.kernel.processes import process
from hakoniwa.rootfs.archives import tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_CHUNK = 1 << 20


class HashedStream:
    """A file that a process of its own hashes, and passes on through the pipe `stream`. The file's offset moves along."""

    def __init__(self, file: int) -> None:
        self.stream, writer = os.pipe2(os.O_CLOEXEC)
        self._told, tell = os.pipe2(os.O_CLOEXEC)
        tar.enlarge(writer)
        self._pid, pidfd = process.clone(0)
        if self._pid == 0:
            _pass_on(file, writer, tell)
        os.close(pidfd)
        os.close(writer)
        os.close(tell)

    def end(self, *, kill: bool = False) -> str:
        """The SHA-256 of all that was in the file, once it is read to its end; nothing if that failed."""
        if kill:
            os.kill(self._pid, signal.SIGKILL)
        digest = os.read(self._told, 64).decode()
        os.close(self._told)
        os.waitpid(self._pid, 0)
        return digest


def _pass_on(file: int, writer: int, tell: int) -> NoReturn:
    try:
        prctl.set_name("hako:hash")
        prctl.set_pdeathsig(signal.SIGKILL)
        process.close_all_but({file, writer, tell})
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        hashed, wanted = hashlib.sha256(), True
        while more := os.read(file, _CHUNK):
            hashed.update(more)
            while wanted and more:
                try:
                    more = more[os.write(writer, more) :]
                except BrokenPipeError:
                    wanted = False  # the reader has all that it needs; what follows counts all the same
        os.write(tell, hashed.hexdigest().encode())
    finally:
        os._exit(0)
