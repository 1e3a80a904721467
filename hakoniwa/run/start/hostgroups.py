"""The cgroups of a container as a step of the host's side."""

from __future__ import annotations

from hakoniwa.errors import HakoError
from hakoniwa.kernel import cgroup
from hakoniwa.known import state
from hakoniwa.run.life import CLONE, HostStep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.run.life import Life
    from hakoniwa.run.start.groups import Groups
    from hakoniwa.spec.records import Container


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
