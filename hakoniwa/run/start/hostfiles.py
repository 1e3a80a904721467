"""What of a container has a path of its own on the host: namespaces that are kept, and the pid file."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.host.paths import open_outside, remove_file
from hakoniwa.run.life import NAMESPACES, PROGRAM, HostStep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.run.life import Life
    from hakoniwa.spec.records import Persisted


class KeepNamespace(HostStep):
    """Keep a namespace at a path beyond the container's end. It is let go of if the container has come to nothing."""

    stage = NAMESPACES

    def __init__(self, kept: Persisted) -> None:
        self._kept = kept
        self._life: Life | None = None

    def __str__(self) -> str:
        return f"keep the {self._kept.name} namespace in {self._kept.path}"

    def do(self, life: Life) -> None:
        from hakoniwa.steps.namespaces import persist

        persist(life.base.pid, self._kept.name, self._kept.path, self._kept.where)
        self._life = life

    def undo(self) -> None:
        if self._life is not None and self._life.error is not None:
            from hakoniwa.steps.namespaces import release

            release(self._kept.path)

    def undoing(self) -> str:
        return f"let go of the namespace {self._kept.path}"


class WritePidFile(HostStep):
    """Write the pid of this process, the supervisor, to the file that is to have it."""

    stage = PROGRAM

    def __init__(self, path: str, where: str) -> None:
        self._path = path
        self._where = where
        self._is_ours = False

    def __str__(self) -> str:
        return f"write the pid file {self._path}"

    def do(self, life: Life) -> None:
        # Not waiting for somebody to read a FIFO.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_NOFOLLOW
        try:
            file = open_outside(self._path, flags, 0o644)
            self._is_ours = True
            try:
                os.write(file, f"{os.getpid()}\n".encode())
            finally:
                os.close(file)
        except OSError as error:
            raise HakoError(f"cannot {self}: {error.strerror}", where=self._where) from None

    def undo(self) -> None:
        if self._is_ours:
            remove_file(self._path)

    def undoing(self) -> str:
        return f"remove {self._path}"
