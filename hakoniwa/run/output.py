"""Where the output of a container in the background goes: to a log file that is capped in size and rotated.

The payload writes into a pipe, which the supervisor empties whatever becomes of the file: a full disk or a deleted file
loses output, and blocks nobody. The supervisor's own messages go to the file directly; through the pipe it could wait
for itself.
"""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.host.paths import open_outside
from hakoniwa.known import state
from hakoniwa.places import ensure_private

LARGEST = 10 << 20  # bytes of a log file, of which there are two: NAME.log and NAME.log.1
_CHUNK = 1 << 16
_PIPE = 1 << 20  # what the payload may be ahead while the supervisor runs a hook
_F_SETPIPE_SZ = 1031


def open_log(name: str) -> int:
    """The log file of `name`, for appending. Raises HakoError."""
    path = f"{name}.log"
    try:
        path = state.log_file(name)
        ensure_private(os.path.dirname(path))
        return open_outside(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise HakoError(f"cannot open the log {path}: {error.strerror}") from None


def divert_output(file: int) -> None:
    """Lead our streams to nowhere and to a log, which is closed: the caller's must not stay open behind its back."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    _lead_to(file)
    os.close(null)


def _lead_to(file: int) -> None:
    """Lead our standard output and standard error to a file, which is closed."""
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def lead_through(notes: int, terminal: int) -> int:
    """Lead what we write to a terminal into a pipe: who reads it knows how a line ends there. Returns `terminal`, kept."""
    kept = os.dup(terminal)
    for number in (1, 2):
        if os.isatty(number):
            os.dup2(notes, number)
    os.close(notes)
    return kept


class LogPipe:
    """The pipe that the payload writes to, and the file that we, who have it as standard error, write it to."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.reader, False)
        import fcntl

        try:
            fcntl.fcntl(self.writer, _F_SETPIPE_SZ, _PIPE)
        except PermissionError:
            pass  # above fs.pipe-max-size, or the user's share is used up: the smaller one will do

    def pass_on(self) -> bool:
        """Write what is in the pipe to the log. False when there is nothing, or nobody is left to write any."""
        try:
            output = os.read(self.reader, _CHUNK)
        except BlockingIOError:
            return False
        if not output:
            return False
        self._make_room(len(output))
        try:
            while output:
                output = output[os.write(2, output) :]
        except OSError:
            pass  # a full disk: lost
        return True

    def drain(self) -> None:
        """Pass on all that is there."""
        while self.pass_on():
            pass

    def _make_room(self, more: int) -> None:
        """Begin a new file where this one would grow too large, or has been deleted."""
        status = os.fstat(2)
        full = status.st_size + more > LARGEST
        if not full and status.st_nlink:
            return
        try:
            path = state.log_file(self._name)
            if full and _is_at(path, status):  # else it was moved away when no new one could be opened
                os.rename(path, f"{path}.1")
            _lead_to(open_log(self._name))
        except (OSError, HakoError):
            pass  # the old one goes on


def _is_at(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), status)
    except FileNotFoundError:
        return False
