"""The flavours of containers: what keeps one apart from its host. The specification names one; each is a module of this room.

Whatever depends on it is asked here: a further flavour is a further module, and a further name in `spec`.
"""

from __future__ import annotations

from hakoniwa.plan.container import Handed, process_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from hakoniwa.plan.container import Launch
    from hakoniwa.plan.process import ProcessPlan
    from hakoniwa.spec.records import Container
    from hakoniwa.steps.step import Step

    class Flavour(Protocol):
        """What a module of a flavour has."""

        def is_chroot(self, container: Container) -> bool:
            """Whether the root is entered by `chroot(2)`, out of which cap_sys_chroot leads."""

        def clone_flags(self, container: Container) -> tuple[str, ...]:
            """The namespaces that the first process is cloned into."""

        def waits_for_host(self, container: Container, launch: Launch) -> bool:
            """Whether the first process waits for the host's side: for its id maps, or for what it cannot open itself."""

        def steps_of(self, container: Container, launch: Launch, handed: Handed, process: ProcessPlan) -> list[Step]:
            """All steps of the first process, in order. A step is known by its number in this list, to both sides of the clone."""


def flavour_of(container: Container) -> Flavour:
    """The flavour of a container."""
    if container.flavour == "fly":
        from hakoniwa.plan import fly

        return fly
    from hakoniwa.plan import container as usual

    return usual


NOTHING_HANDED = Handed()  # for a plan that is only shown


def plan(container: Container, launch: Launch, handed: Handed = NOTHING_HANDED) -> list[Step]:
    """All steps of the first process, in order."""
    return flavour_of(container).steps_of(container, launch, handed, process_plan(container, launch))
