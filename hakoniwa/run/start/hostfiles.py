"""What of a container has a path of its own on the host: its cgroups, namespaces that are kept, and the pid file."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.host.paths import open_outside, remove_file
from hakoniwa.kernel import cgroup
from hakoniwa.known import state
from hakoniwa.run.life import CLONE, NAMESPACES, PROGRAM, HostStep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.run.life import Life
    from hakoniwa.run.start.groups import Groups
    from hakoniwa.spec.records import Container, Persisted


class MakeGroups(HostStep):
    """The groups of a container, and the place of an owner in them."""

    stage = CLONE

    def __init__(self, container: Container) -> None:
        self._container = container
        self._groups: Groups | None = None
        self._has_noted = False

    def __str__(self) -> str:
        wanted = self._container.resources.cgroup
        if wanted.assign_only and wanted.name is not None and "/" in wanted.name:
            return f"join the cgroup {wanted.name}"
        return f"make the cgroup {cgroup.PREFIX}{wanted.name or self._container.name} in each hierarchy that is needed"

    def do(self, life: Life) -> None:
        from hakoniwa.run.start.groups import Groups, make_groups

        groups = self._groups = Groups([], note=self._note)
        make_groups(self._container, groups)
        if self._container.has_user_namespace():
            groups.delegate(life.launch.maps)
        life.have_groups(groups)

    def _note(self, path: str) -> None:
        try:
            state.note(self._container.name, path)
        except OSError as error:
            told = f"cannot note the cgroup of {self._container.name!r}: {error.strerror}"
            raise HakoError(told, hint="is the disk full?") from None
        self._has_noted = True

    def undo(self) -> None:
        failures = []
        while self._groups is not None and self._groups.paths:
            path = self._groups.paths.pop()
            try:
                cgroup.remove(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                failures.append(f"{path}: {error.strerror}")
        if failures:
            raise HakoError("; ".join(failures))
        if self._has_noted:
            state.strike_notes(self._container.name)

    def undoing(self) -> str:
        return "remove the cgroup"


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
