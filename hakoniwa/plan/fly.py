"""The flavour `fly`: a root that is entered by `chroot(2)`, and nothing else that keeps it apart from the host, as rkt has it.

The network, the processes, the host name and the queues are the host's. The mounts are made in a mount namespace, for the
one reason that nothing of them is left. Who it is, what it may do and what it may use is as for every container. What it
starts lies in a cgroup of its own, and ends with it (run/start/groups.py).
"""

from __future__ import annotations

from hakoniwa.plan.container import all_steps, clone_flags, waits_for_host
from hakoniwa.steps.files.root import Chroot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.plan.container import Handed, Launch
    from hakoniwa.plan.process import ProcessPlan
    from hakoniwa.spec.records import Container
    from hakoniwa.steps.step import Step

__all__ = ["clone_flags", "is_chroot", "steps_of", "waits_for_host"]


def is_chroot(container: Container) -> bool:
    return True


def steps_of(container: Container, launch: Launch, handed: Handed, process: ProcessPlan) -> list[Step]:
    return all_steps(container, launch, handed, process, Chroot())
