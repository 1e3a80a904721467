"""A barn in the foreground: the barn's process is the command's own, and ends with its containers."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes import signals
from hakoniwa.run.barn import alone
from hakoniwa.run.barn.member import Member

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hakoniwa.plan.container import Launch
    from hakoniwa.run.barn.process import BarnProcess
    from hakoniwa.spec.records import Barn


def run_in_foreground(barn: Barn, launches: Sequence[Launch], *, watch: bool) -> tuple[int, list[HakoError]]:
    """Start the containers, and wait for all of them. Returns the status to exit with, and why some did not run or were lost."""
    if not launches:
        raise HakoError(
            "there is no container to run in the foreground", where=barn.name, hint="-D keeps an empty barn"
        )
    if alone.can_be_in_foreground(barn, launches):
        return alone.run_in_foreground(Member(barn.containers[0].name, barn.containers[0], launches[0]), watch=watch)
    from hakoniwa.run.barn.process import BarnProcess

    process = BarnProcess(barn, launches)
    process.listen(signals.ending())
    try:
        process.set_up()
        process.lifeline = os.pipe2(os.O_CLOEXEC)
        if len(process.members) > 1:
            from hakoniwa.run.barn.several import run_several

            run_several(process, watch)
        elif launches[0].terminals:
            _run_with_terminal(process, launches[0].terminals, watch)
        else:
            process.spawn(process.members[0], watch=watch)
            process.loop.run(process.have_all_ended)
    finally:
        process.tear_down()
    return process.status(), process.errors()


def _run_with_terminal(process: BarnProcess, terminals: tuple[int, ...], watch: bool) -> None:
    from hakoniwa.run.terminal.front import UserTerminal, terminal_type

    member = process.members[0]
    front = process.front = UserTerminal(terminals)
    front.open_notes()
    process.spawn(member, term=terminal_type(), watch=watch, front=front)
    front.close_theirs()
    if member.inbox is not None:
        front.run(process.loop, process.have_all_ended)
