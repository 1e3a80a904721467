"""A barn in the foreground: the barn's process is the command's own, and ends with its containers."""

from __future__ import annotations

import os

from hakoniwa.kernel import signals
from hakoniwa.run.barn.process import BarnProcess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.plan.container import Launch
    from hakoniwa.spec.records import Barn


def run_in_foreground(barn: Barn, launches: list[Launch], *, watch: bool) -> int:
    """Start the containers, wait for all of them, and return the exit status of the command."""
    process = BarnProcess(barn, launches)
    process.listen(signals.ending())
    try:
        process.set_up()
        process.lifeline = os.pipe2(os.O_CLOEXEC)
        if len(process.members) > 1:
            from hakoniwa.run.barn.several import run_several

            run_several(process, watch)
        elif launches[0].terminals:
            _run_with_terminal(process, watch)
        else:
            member = process.members[0]
            process.spawn(member, watch=watch)
            while member.inbox is not None:
                if member.inbox.pipe in process.wait(member.inbox.pipe):
                    member.hear()
    finally:
        process.tear_down()
    process.report_errors()
    return process.status()


def _run_with_terminal(process: BarnProcess, watch: bool) -> None:
    from hakoniwa.run.terminal.front import UserTerminal

    member = process.members[0]
    front = UserTerminal(member.launch.terminals)
    front.open_notes()
    process.spawn(member, term=terminal_type(), watch=watch, front=front)
    front.close_theirs()
    if member.inbox is not None:
        front.run(process.wakeup, member.inbox.pipe, member.hear, process.end)


def terminal_type() -> str:
    """The caller's TERM, which describes the terminal that the container gets; nothing else of the host's goes inside."""
    term = os.environ.get("TERM", "")
    plain = term.isascii() and all(character.isalnum() or character in "-+._" for character in term)
    return term if term and plain else "dumb"
