"""What is known and held of one container while it lives: the stages of its supervisor, its hooks and its reloads share it."""

from __future__ import annotations

import os

from hakoniwa.known.statefile import timestamp
from hakoniwa.run.barn import messages
from hakoniwa.run.hooks.view import ContainerView
from hakoniwa.run.inheritance import Inheritance
from hakoniwa.run.loop import Loop
from hakoniwa.run.start.undo import Undo
from hakoniwa.run.statewriter import StateWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from hakoniwa.errors import HakoError
    from hakoniwa.network.facts import NetworkFacts
    from hakoniwa.network.reservation import Reservation
    from hakoniwa.plan.container import Launch
    from hakoniwa.run.hooks.beside import HooksBeside
    from hakoniwa.run.payload import Payload
    from hakoniwa.run.start.groups import Groups
    from hakoniwa.spec.records import Container


# The stages, in their order: before anything of the container is there; before the first process is cloned; when that has
# its namespaces, and waits; when it waits for its network; when its program runs.
CLAIM, CLONE, NAMESPACES, NETWORK, PROGRAM = "claim", "clone", "namespaces", "network", "program"


class Life:
    """One run of a container."""

    def __init__(self, container: Container, launch: Launch, inherited: Inheritance) -> None:
        if container.hooks.general:
            from hakoniwa.run.hooks import general  # noqa: F401  # the first process, once inside, could not load it
        self.container = container
        self.launch = launch
        self.inherited = inherited
        self.undo = Undo()
        self.loop = Loop(container.name)
        self.base = ContainerView(container, os.getpid(), timestamp())
        self.statewriter = StateWriter(container, launch, self.base, inherited)
        self.groups: Groups | None = None
        self.reservation: Reservation | None = None  # of published ports
        self.entered: dict[str, int] = {}  # namespaces that the first process is cloned into besides, open
        self.payload: Payload | None = None  # from the clone on
        self.status: Literal["created", "running"] = "running"  # for the state, as long as it lives
        self.error: HakoError | None = None  # why the payload never ran, or was ended
        self.unready: HakoError | None = None  # why it was ended, though it ran
        self._hooks_beside: HooksBeside | None = None
        self._told_ready = False

    def the_payload(self) -> Payload:
        """The first process, which has been cloned."""
        assert self.payload is not None
        return self.payload

    def have_groups(self, groups: Groups) -> None:
        """Know the container's cgroups."""
        self.groups = self.base._groups = groups
        self.statewriter.cgroups, self.statewriter.assigned_cgroup = tuple(groups.paths), groups.assigned

    def have_network(self, facts: NetworkFacts) -> None:
        """Know the container's network."""
        self.base.network = self.statewriter.network = facts

    def run_hooks(self, point: str, *, may_refuse: bool = False, files: set[int] | None = None) -> None:
        """Run the general hooks of one point."""
        hooks = self.container.hooks_at(point)
        if hooks:
            from hakoniwa.run.hooks.general import run_hooks

            run_hooks(hooks, self.base, may_refuse=may_refuse, files=files)

    def hooks_beside(self) -> HooksBeside:
        """The hooks beside the container, of which there are none at first."""
        if self._hooks_beside is None:
            from hakoniwa.run.hooks.beside import HooksBeside

            self._hooks_beside = HooksBeside(self.base, self.loop, self.tell_ready, self._end_unready)
        return self._hooks_beside

    def signal_hooks(self, number: int) -> None:
        """Run the handlers of a signal, if there are any."""
        if self._hooks_beside is not None:
            self._hooks_beside.signal(number)

    def tell_ready(self) -> None:
        """Tell the caller that the container is ready."""
        self._told_ready = True
        self.inherited.tell(messages.READY)

    def _end_unready(self, error: HakoError) -> bool:
        """End a container that is not ready in time, if the caller waits for that. False if nobody does."""
        if not self.inherited.wait or self._told_ready:  # hooks that a reload has added decide no more about that
            return False
        self.unready = error
        self.the_payload().ask_to_end()
        return True


class HostStep:
    """One thing that a supervisor does on the host for its container, and undoes when that has ended. `str()` as of a Step.

    It has nothing of a Step but the place in the plan: it is no data, but remembers what it has done.
    """

    stage = ""  # of the container's life, at which it is done
    lock = -1  # a descriptor that it holds once it is done, and that `undo` closes

    def do(self, life: Life) -> None:
        """Do it. Raises HakoError; what was done until then is undone."""
        raise TypeError(f"{type(self).__name__} cannot be done")

    def undo(self) -> None:
        """Undo as much as was done, be it nothing. Raises OSError and HakoError."""

    def undoing(self) -> str:
        """What completes "cannot ..." if `undo` fails."""
        return f"undo: {self}"
