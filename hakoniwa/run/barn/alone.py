"""A barn of one container whose process supervises it by itself: one process less, and no fork.

In the foreground that is the process that the user sees, and can kill. Then the kernel kills the container (its parent has
ended), and nobody is left to write that down, to run hooks, or to remove anything. So it is done only if what is left is
dead and noted: an empty cgroup, which the next command removes as that of any killed supervisor.
"""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.kernel.processes import signals
from hakoniwa.run.inheritance import Inheritance
from hakoniwa.run.life import Life
from hakoniwa.run.start.hostside import outlasts_a_kill
from hakoniwa.run.statewriter import own_process
from hakoniwa.run.supervisor import Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hakoniwa.errors import HakoError
    from hakoniwa.plan.container import Launch
    from hakoniwa.run.barn.member import Member
    from hakoniwa.spec.records import Barn


def can_be_in_foreground(barn: Barn, launches: Sequence[Launch]) -> bool:
    """Whether nothing goes on outside when the front process is killed, and the front has nothing else to do."""
    return (
        can_be_in_background(barn)
        and not launches[0].terminals
        and not outlasts_a_kill(barn.containers[0])
        # What is in the background of a terminal's session, or stopped there, must not wait to write to it.
        and not any(map(os.isatty, (0, 1, 2)))
    )


def can_be_in_background(barn: Barn) -> bool:
    """Whether the barn has one container, and nothing of its own that outlives it."""
    return len(barn.containers) == 1 and not (barn.hooks or barn.shared.namespaces or barn.keep)


def run_in_foreground(member: Member, *, watch: bool) -> tuple[int, list[HakoError]]:
    """Supervise the container. Returns the status to exit with, and why it did not run."""
    log.flush_prints()
    ended_by = supervise(member, member.take, signals.ending(), watch=watch).ended_by
    status = 128 + ended_by if ended_by is not None and not member.pid else member.status()
    return status, [member.error] if member.error else []


def supervise(
    member: Member,
    tell: Callable[..., None],
    ending: tuple[int, ...],
    *,
    lifeline: int = -1,
    files: set[int] | None = None,
    background: bool = False,
    wait: bool = False,
    watch: bool = False,
) -> Supervisor:
    """Supervise a container to its end. Returns who did: it knows the signal that has asked for that, if one has.

    `tell` takes the messages that another supervisor would send, `ending` are the signals that ask the process to end.
    """
    inherited = Inheritance(
        tell=tell,
        barn=own_process(),
        ending=ending,
        lifeline=lifeline,
        files=files,
        front=-1,
        terminal=-1,
        saved=None,
        notes=-1,
        term="dumb",
        background=background,
        wait=wait,
        watch=watch,
    )
    assert member.container is not None
    assert member.launch is not None
    supervisor = Supervisor(Life(member.container, member.launch, inherited))
    supervisor.live()
    return supervisor
