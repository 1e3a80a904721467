"""A barn in the background: its process is a daemon, which the command hears until the containers run."""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.errors import HakoError, explained
from hakoniwa.kernel.processes import signals
from hakoniwa.places import barn_folder_of
from hakoniwa.run.barn import alone, messages
from hakoniwa.run.barn.process import BarnProcess
from hakoniwa.run.loop import Loop
from hakoniwa.run.output import divert_output, open_log
from hakoniwa.run.reload import reloader  # noqa: F401  # every supervisor needs it: loaded here, they share it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from hakoniwa.plan.container import Launch
    from hakoniwa.run.barn.late.door import Door
    from hakoniwa.run.barn.member import Member
    from hakoniwa.run.supervisor import Supervisor
    from hakoniwa.spec.records import Barn


def _nothing() -> None:
    """There is nothing more to do."""


def run_in_background(
    barn: Barn,
    launches: Sequence[Launch],
    *,
    wait: bool,
    watch: bool,
    bound: int = -1,
    at_end: Callable[[], None] = _nothing,
) -> tuple[list[tuple[str, int]], list[HakoError]]:
    """Start the containers behind the caller's back. They end when `bound` is readable: a pidfd of who they are for, or -1.
    `at_end` is called in the barn's process, as the last thing that it does.

    Returns names and pids of those that run (their program has been executed; with `wait`: they are ready), and why the
    others do not. Raises signals.Interrupted where a signal has come before that, once everything has ended.
    """
    process = BarnProcess(barn, launches, background=True)
    process.lifeline = (bound, -1)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    signals.block()  # until both sides listen
    child = os.fork()
    if child == 0:
        os.close(reader)
        _be_daemon(process, writer, wait, watch, at_end)
    wakeup = signals.listen(signals.ending())
    os.close(writer)
    running: list[tuple[str, int]] = []
    errors: list[HakoError] = []
    made = False
    for kind, parts in _hear_daemon(child, reader, wakeup):
        made = made or kind == messages.MADE
        if kind == messages.RUNNING:
            running.append(parts)  # type: ignore[arg-type]
        elif kind == messages.FAILED:
            errors.append(messages.error_of(parts))
    if not (made or running or errors):
        errors.append(HakoError("the barn's process was killed before the container ran", where=barn.name))
    return running, errors


def _hear_daemon(daemon: int, pipe: int, wakeup: int) -> list[tuple[str, tuple[object, ...]]]:
    """What the barn's process tells, up to the moment that it lets go of us. A signal until then ends everything."""
    inbox, loop = messages.Inbox(pipe), Loop()
    told: list[tuple[str, tuple[object, ...]]] = []
    ended_by: list[int] = []

    def hear() -> None:
        heard = inbox.receive()
        if heard is None:
            signals.ignore(signals.ENDING)  # from here on it runs, and the command says so
            loop.stop()
        else:
            told.extend(heard)

    def end(number: int) -> None:
        ended_by.append(number)
        os.kill(daemon, signals.SIGTERM)  # not reaped yet: the pid is still its own

    loop.add(pipe, hear)
    loop.hear(wakeup, end)
    loop.run()
    for number in signals.take(wakeup):  # that have come while the last was heard
        end(number)
    if ended_by:
        os.waitpid(daemon, 0)
        raise signals.Interrupted(ended_by[0])
    return told


def _be_daemon(process: BarnProcess, caller: int, wait: bool, watch: bool, at_end: Callable[[], None]) -> NoReturn:
    """The barn's process in the background. Never returns."""
    door: Door | None = None
    try:
        os.setsid()
        os.chdir("/")
        divert_output(open_log(process.barn.name))
        if alone.can_be_in_background(process.barn):
            supervisor = _supervise_alone(process, caller, wait, watch)
            at_end()
            supervisor.tell_over()
            os._exit(0)
        process.listen(signals.ENDING)
        process.set_up()
        door = _open_door(process)
        if process.members:
            from hakoniwa.run.barn.row import start_in_rows

            others = [caller, *(door.descriptors() if door else ())]
            start_in_rows(process, process.members, others, wait=wait, watch=watch)
            _await_settled(process, wait)
        for member in process.members:
            _tell_caller(caller, member, wait)
        messages.send(caller, messages.MADE)
        os.close(caller)
        caller = -1
        process.loop.run(process.is_over)
    except Exception as error:
        known = error if isinstance(error, HakoError) else HakoError(explained(error))
        if caller != -1:
            messages.send(caller, messages.FAILED, *messages.parts_of(known))
        else:
            log.write(f"{process.barn.name}: {known}", "error")
    finally:
        if door is not None:
            door.close()
        _reopen_log(process.barn)
        process.tear_down()
        at_end()
        os._exit(0)


def _open_door(process: BarnProcess) -> Door | None:
    """Take requests, unless another barn of this name does. Raises HakoError if one that waits for some cannot."""
    if not process.has_name():
        return None
    from hakoniwa.run.barn.late.door import Door
    from hakoniwa.run.barn.late.members import Members

    members = Members(process)
    try:
        door = Door(barn_folder_of(process.barn.name), process.loop, members.serve)
    except OSError as error:
        told = HakoError(f"cannot take requests: {error.strerror}", where=process.barn.name)
        if process.keeps:
            raise told from None
        log.write(str(told), "warning")
        return None
    members.descriptors = door.descriptors
    process.on_news = members.tell_who_waits
    return door


def _await_settled(process: BarnProcess, wait: bool) -> None:
    unsettled = process.members[::-1]

    def are_settled() -> bool:
        while unsettled and unsettled[-1].is_settled(wait=wait):
            unsettled.pop()
        return not unsettled

    process.loop.run(are_settled)


def _tell_caller(caller: int, member: Member, wait: bool) -> None:
    """Tell whether a container runs, once that is settled."""
    if wait and not member.ready and not member.error:
        told = f"container {member.name!r} has ended, with status {member.code}, before it was ready"
        member.error = HakoError(told)
    if member.error:
        messages.send(caller, messages.FAILED, *messages.parts_of(member.error))
    elif member.pid:
        messages.send(caller, messages.RUNNING, member.name, member.pid)


def _supervise_alone(process: BarnProcess, caller: int, wait: bool, watch: bool) -> Supervisor:
    """Be the supervisor of the only container, and let the caller go when it runs, or when all of it is over."""
    (member,) = process.members
    settles = (
        messages.READY
        if wait
        else messages.HELD
        if member.launch is not None and member.launch.hold
        else messages.RUNNING
    )

    def tell(kind: str, *parts: object) -> None:
        member.take(kind, *parts)
        if kind == settles:
            _tell_caller(caller, member, wait)
            os.close(caller)

    supervisor = alone.supervise(
        member,
        tell,
        signals.ENDING,
        lifeline=process.lifeline[0],
        files=process.files,
        background=True,
        wait=wait,
        watch=watch,
    )
    if not (member.ready if wait else member.pid):
        _tell_caller(caller, member, wait)
    return supervisor


def _reopen_log(barn: Barn) -> None:
    """What the last hooks say belongs in the log as it is now: it may have been rotated."""
    if barn.hooks:
        try:
            divert_output(open_log(barn.name))
        except HakoError:
            pass  # the old one goes on
