"""The use case `exec`: a further process in a running container, held to everything that the container is held to."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes import signals
from hakoniwa.kernel.security import capabilities
from hakoniwa.plan.process import ProcessPlan
from hakoniwa.record import Record
from hakoniwa.run.loop import Loop
from hakoniwa.run.process.furtherprocess import FurtherProcess
from hakoniwa.seccomp import programs
from hakoniwa.steps.process.identity import NOWHERE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from hakoniwa.known.joining import Target
    from hakoniwa.seccomp.programs import Program


class Wanted(Record):
    """The process that is asked for."""

    command: tuple[str, ...] | None = None  # None: a shell
    user: int | str | None = None  # in place of the container's; its groups then follow from it
    group: int | str | None = None
    allowed: int = 0  # capabilities that it has besides the container's: a bit mask
    dropped: int = 0
    environ: Mapping[str, str] = NOWHERE  # besides the container's
    workdir: str | None = None  # in place of the container's: as seen inside
    terminals: tuple[int, ...] = ()  # those of our standard streams that are terminals
    places: Mapping[str, str] = NOWHERE  # where "user", "group" and "allowed" were asked for


def run_to_end(found: Target, wanted: Wanted) -> tuple[int, list[HakoError]]:
    """Run the process with our standard streams. Returns how it ended, as a shell has it, and why not all that it has
    written has arrived. Raises HakoError if it is not executed."""
    further = FurtherProcess(found, _open(found))
    if wanted.terminals:
        return _run_with_terminal(found, wanted, further)
    pid, pidfd = further.launch(plan_process(found, wanted), "dumb")
    wakeup, loop = signals.listen(signals.ending()), Loop()
    asked: list[int] = []

    def pass_on(number: int) -> None:
        asked.append(number)
        signals.pidfd_send_signal(pidfd, number)

    loop.add(pidfd, loop.stop)
    loop.hear(wakeup, pass_on)
    loop.run()
    return _reap(pid), further.streams.finish(wakeup, asked=bool(asked))


def plan_process(found: Target, wanted: Wanted) -> ProcessPlan:
    """What the process is to become. Raises HakoError for what the caller cannot give."""
    process = found.process
    if wanted.user is not None:
        process = process.replace(uid=wanted.user, gid=wanted.group, groups=())
    elif wanted.group is not None:
        process = process.replace(gid=wanted.group)
    if wanted.environ:
        process = process.replace(environ={**process.environ, **wanted.environ})
    if wanted.workdir is not None:
        process = process.replace(workdir=wanted.workdir)
    # Without a group of its own, the groups follow from the user.
    places = dict.fromkeys(("uid", "gid", "groups"), wanted.places.get("user", "")) if wanted.user is not None else {}
    if wanted.group is not None:
        places["gid"] = wanted.places.get("group", "")
    held = _capabilities(found, wanted)
    return ProcessPlan(
        process=process,
        resources=found.resources,
        security=found.security,
        capabilities=held,
        filters=_filters(found, held),
        command=wanted.command,
        terminals=wanted.terminals,
        devpts=found.devpts,
        places={**places, "command": found.name},
        where="",
    )


def most(found: Target) -> int:
    """The capabilities that a process of a container can be given at most: in a user namespace, all that there are."""
    return capabilities.every() if found.user_namespace else capabilities.held()


def _capabilities(found: Target, wanted: Wanted) -> int:
    lacking = capabilities.names(wanted.allowed & ~most(found)) if wanted.allowed else []
    if lacking:
        told = f"capability {lacking[0]!r} is not held by the caller"
        raise HakoError(told, where=wanted.places.get("allowed", found.name))
    held = (found.capabilities | wanted.allowed) & ~wanted.dropped
    if held & ~found.capabilities:
        _must_not_lift(found, held & ~found.capabilities, wanted.places.get("allowed", found.name))
    return held


def _must_not_lift(found: Target, more: int, where: str) -> None:
    """Raise HakoError if a process would have what the policy of the container's network cannot stand beside."""
    if not found.has_firm_policy:
        return
    from hakoniwa.spec.rules.networkrules import LIFTS

    for name in capabilities.names(more):
        if name in LIFTS:
            told = f"the network of {found.name!r} has a policy, and {name} {LIFTS[name]}"
            raise HakoError(told, where=where, hint="network.policy_can_be_lifted = True in its file lets it")


def _filters(found: Target, held: int) -> tuple[Program, ...]:
    """The container's seccomp programs; made anew for other capabilities, since the profile depends on them."""
    kept = programs.kept(found.filters) if held == found.capabilities else None
    if kept is not None:
        return kept
    security = found.security
    return programs.programs_for(security.seccomp, held, no_new_privs=security.no_new_privs)


def _open(found: Target) -> int:
    """A pidfd of the container's first process. Raises HakoError."""
    container = found.init.open()
    if container is None:
        raise HakoError(f"container {found.name!r} has just ended")
    return container


def _reap(pid: int) -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


def _run_with_terminal(found: Target, wanted: Wanted, further: FurtherProcess) -> tuple[int, list[HakoError]]:
    from hakoniwa.run.terminal.front import UserTerminal, terminal_type
    from hakoniwa.run.terminal.guard import guard_terminal

    front = UserTerminal(wanted.terminals)
    guard_terminal(front)  # before the pid namespace is joined: a later child would be inside
    further.front = front.theirs.fileno()
    pid, pidfd = further.launch(plan_process(found, wanted), terminal_type())
    front.close_theirs()
    wakeup, loop = signals.listen((*signals.ending(), signals.SIGWINCH)), Loop()
    ended_by: list[int] = []

    def take(number: int) -> None:
        if number == signals.SIGWINCH:
            front.resize()
        else:
            ended_by.append(number)
            loop.stop()

    loop.add(pidfd, loop.stop)
    loop.hear(wakeup, take)
    front.run(loop)
    if ended_by:
        return 128 + ended_by[0], []  # the command loses its terminal (SIGHUP), and then its parent (SIGKILL)
    return _reap(pid), further.streams.finish(wakeup, asked=False)
