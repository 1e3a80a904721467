"""A file that has no name until it is complete: a process that is killed leaves nothing of it. `man 2 open`, O_TMPFILE."""

from __future__ import annotations

import errno
import fcntl
import os

from hakoniwa.errors import HakoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_FLAGS = os.O_WRONLY | os.O_CLOEXEC
# There are none of these files on this file system; the others are what older kernels make of the flag. `man 2 open`
_NONE_HERE = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT)


class UnnamedFile:
    """A file that is to lie at `path`, as `descriptor`. As a context, it is gone at the end unless it got its name.

    If another lies there, or the file system knows no files without a name, it has one beside it: for a moment, or as long
    as it is written. A killed process leaves that one file, which the next that writes to `path` removes.
    """

    def __init__(self, path: str) -> None:
        self._folder, self._name = os.path.split(os.path.abspath(path))
        self._beside = f".{self._name}.partial"
        self._path = path
        self._named = False

    def __enter__(self) -> Self:
        self._at = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._clear()
            try:
                self.descriptor = os.open(".", os.O_TMPFILE | _FLAGS, 0o600, dir_fd=self._at)
            except OSError as error:
                if error.errno not in _NONE_HERE:
                    raise
                self.descriptor = os.open(self._beside, os.O_CREAT | os.O_EXCL | _FLAGS, 0o600, dir_fd=self._at)
                self._named = True
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(self._at)
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        if self._named:
            os.unlink(self._beside, dir_fd=self._at)
        os.close(self.descriptor)
        os.close(self._at)

    def give_name(self) -> None:
        """Put it in its place, over what is there. Raises OSError."""
        if not self._named and self._link(self._name):
            return
        if not self._named:
            self._clear()
            self._named = self._link(self._beside)
        os.rename(self._beside, self._name, src_dir_fd=self._at, dst_dir_fd=self._at)
        self._named = False

    def _link(self, name: str) -> bool:
        try:
            os.link(f"/proc/self/fd/{self.descriptor}", name, dst_dir_fd=self._at, follow_symlinks=True)
        except FileExistsError:
            return False
        return True

    def _clear(self) -> None:
        """Remove what a killed process has left. Raises HakoError while another writes."""
        try:
            left = os.open(self._beside, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._at)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(self._beside, dir_fd=self._at)
        except BlockingIOError:
            raise HakoError(f"{self._path} is being written by another command", hint="wait for it") from None
        finally:
            os.close(left)
