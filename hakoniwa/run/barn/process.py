"""The barn's process: it forks a supervisor for each container, hears how they fare, and runs the barn's own hooks."""

from __future__ import annotations

import os

from hakoniwa import log, state
from hakoniwa.errors import FAILED, HakoError
from hakoniwa.kernel import signals
from hakoniwa.kernel.files import wait_readable
from hakoniwa.plan.container import Launch
from hakoniwa.run.barn import messages
from hakoniwa.run.hooks.general import print_by_line, run_hooks
from hakoniwa.run.hooks.view import BarnView, ExitStatus
from hakoniwa.run.inheritance import Inheritance
from hakoniwa.run.loop import explained
from hakoniwa.run.output import divert_output
from hakoniwa.run.supervisor import supervise
from hakoniwa.spec.records import INNER_POINTS
from hakoniwa.statefile import Definition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from hakoniwa.run.terminal.front import UserTerminal
    from hakoniwa.spec.records import Barn, Container


class Member:
    """A container of the barn, as the barn's process knows it."""

    def __init__(self, container: Container, launch: Launch) -> None:
        self.container = container
        self.launch = launch
        self.supervisor = 0
        self.inbox: messages.Inbox | None = None
        self.pid = 0
        self.ready = False
        self.definition: Definition | None = None
        self.code: int | None = None
        self.signal: int | None = None
        self.error: HakoError | None = None
        self.failure_told = False  # to the `system_failure` hooks

    def is_settled(self, *, wait: bool) -> bool:
        """Whether it runs (with `wait`: is ready), has run, or could not be started."""
        return bool((self.ready if wait else self.pid) or self.error or self.inbox is None)

    def hear(self) -> bool:
        """Take what the supervisor tells. True when it has told everything, and has ended."""
        assert self.inbox is not None
        heard = self.inbox.receive()
        if heard is None:
            os.close(self.inbox.pipe)
            self.inbox = None
            os.waitpid(self.supervisor, 0)
            if self.code is None and self.error is None:
                self.error = HakoError(
                    f"the supervisor of container {self.container.name!r} was killed, and the container with it"
                )
            return True
        for kind, parts in heard:
            if kind == messages.RUNNING:
                (self.pid,) = parts  # type: ignore[assignment]
            elif kind == messages.READY:
                self.ready = True
            elif kind == messages.EXITED:
                self.code, self.signal = parts  # type: ignore[assignment]
            elif kind == messages.FAILED:
                self.error = messages.error_of(parts)  # type: ignore[arg-type]
        return False

    def status(self) -> int:
        """What the command exits with for this container."""
        return self.error.status if self.error else FAILED if self.code is None else self.code

    def exit_status(self) -> ExitStatus:
        """The same, as hooks see it."""
        return ExitStatus(code=self.status(), signal=None if self.error else self.signal)


class BarnProcess:
    """The process of a barn, from the `setup` hooks to the `teardown` hooks."""

    def __init__(self, barn: Barn, launches: list[Launch]) -> None:
        self.barn = barn
        self.view = BarnView(barn)
        self.members = [Member(c, launch) for c, launch in zip(barn.containers, launches, strict=True)]
        self.lifeline = (-1, -1)
        self.wakeup = -1  # readable when signals have arrived
        self.ended_by: int | None = None  # the signal that has asked this process to end
        self._lock = -1  # held while hooks of the barn's own stand for what they have made
        self._refusal: HakoError | None = None
        self.files: set[int] | None = None  # that the file has open for hooks in the containers' first processes
        log.flush_prints()
        if barn.hooks or any(container.hooks.general or container.hooks.background for container in barn.containers):
            print_by_line()
        if any(container.hooks_at(point) for container in barn.containers for point in INNER_POINTS):
            from hakoniwa.kernel.descriptors import opened

            self.files = opened()

    def listen(self, ending: tuple[int, ...]) -> None:
        """Hear from now on what asks this process to end. Nothing is made yet."""
        resized = (signals.SIGWINCH,) if self.members[0].launch.terminals else ()
        self.wakeup = signals.listen(ending + resized)

    def wait(self, *descriptors: int) -> set[int]:
        """Sleep until one of them is readable, and do what signals ask for meanwhile."""
        ready = wait_readable(self.wakeup, *descriptors)
        self.take_signals()
        return ready

    def set_up(self) -> None:
        """Run the `setup` hooks. Raises HakoError when one refuses, or the barn runs already."""
        if self.barn.hooks:
            try:
                self._lock = state.take_barn_lock(self.barn.name)
            except state.Busy:
                raise HakoError(f"barn {self.barn.name!r} is already running", hint="hako ps shows it") from None
        if hooks := self.barn.hooks_at("setup"):
            try:
                run_hooks(hooks, self.view, may_refuse=True, files=self.files)
            except HakoError as refusal:
                self._refusal = refusal
                raise

    def tell_failures(self) -> None:
        """Run `system_failure` for each container that hakoniwa itself has failed on, as soon as that is over."""
        for member in self.members:
            if member.error is not None and member.inbox is None and not member.failure_told:
                member.failure_told = True
                self._run_system_failure(member.container.name, member.error)

    def _run_system_failure(self, name: str | None, error: HakoError) -> None:
        if hooks := self.barn.hooks_at("system_failure"):
            self._note_ends()
            self.view.failed, self.view.system_exception = name, error
            self.view.exit_status = ExitStatus(code=error.status, signal=None)
            run_hooks(hooks, self.view, may_refuse=False)

    def _note_ends(self) -> None:
        """Have the barn's hooks see how each container has ended."""
        ended = [member for member in self.members if member.code is not None or member.error]
        self.view.exit_statuses = {member.container.name: member.exit_status() for member in ended}

    def tear_down(self) -> None:
        """Run `system_failure` where it is still due, and `teardown`, once."""
        if not self.barn.hooks or self._lock == -1:
            return  # there is nothing to undo, or it is another's
        if self._refusal is not None:
            self._run_system_failure(None, self._refusal)
        self.tell_failures()
        if hooks := self.barn.hooks_at("teardown"):
            self._note_ends()
            self.view.failed = None
            self.view.system_exception = self._refusal or next((m.error for m in self.members if m.error), None)
            failed = next((status for status in self.view.exit_statuses.values() if not status.success), None)
            code = self._refusal.status if self._refusal else 0
            self.view.exit_status = failed or ExitStatus(code=code, signal=None)
            run_hooks(hooks, self.view, may_refuse=False)
        os.unlink(state.barn_lock_file(self.barn.name))
        os.close(self._lock)

    def spawn(
        self,
        member: Member,
        *,
        term: str = "dumb",
        background: bool = False,
        wait: bool = False,
        watch: bool = False,
        front: UserTerminal | None = None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """Fork the supervisor of a container; `before` runs in it first. None is forked once we were asked to end."""
        self.take_signals()
        if self.ended_by is not None:
            return
        reader, writer = os.pipe2(os.O_CLOEXEC)
        log.flush_prints()
        signals.block()  # until the supervisor listens by itself
        member.supervisor = os.fork()
        if member.supervisor == 0:
            os.close(reader)
            for other in self.members:
                if other.inbox is not None:
                    os.close(other.inbox.pipe)
            for descriptor in (self.lifeline[1], self._lock):
                if descriptor != -1:
                    os.close(descriptor)
            before()
            around = Inheritance(
                report=writer,
                lifeline=self.lifeline[0],
                files=self.files,
                front=front.theirs.fileno() if front else -1,
                terminal=front.terminal if front else -1,
                saved=front.saved if front else None,
                notes=front.notes if front else -1,
                term=term,
                background=background,
                definition=member.definition,
                wait=wait,
                watch=watch,
            )
            supervise(member.container, member.launch, around)
        os.close(writer)
        member.inbox = messages.Inbox(reader)
        signals.unblock()

    def take_signals(self) -> None:
        """Do what the signals that have arrived ask for, where they are not about the terminal."""
        for number in signals.take(self.wakeup):
            if number in signals.ENDING:
                self.end(number)

    def end(self, number: int) -> None:
        """Ask every container to end: what TERM, INT, HUP and QUIT to this process mean."""
        self.ended_by = self.ended_by or number
        for member in self.members:
            if member.inbox is not None:  # not reaped yet: the pid is still its own
                os.kill(member.supervisor, signals.SIGTERM)

    def status(self) -> int:
        """The first failure's exit status, else 0; 128 and the signal where one has kept all containers from running."""
        if self.ended_by is not None and not any(member.pid for member in self.members):
            return 128 + self.ended_by
        started = [member.status() for member in self.members if member.supervisor]
        return next(filter(None, started), 0)

    def report_errors(self) -> None:
        """Tell why containers were not started, or were lost."""
        for member in self.members:
            if member.error:
                for line in member.error.lines():
                    log.write(line, "error")


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


def run_in_background(
    barn: Barn, launches: list[Launch], *, wait: bool, watch: bool
) -> tuple[list[tuple[str, int]], list[HakoError]]:
    """Start the containers behind the caller's back.

    Returns names and pids of those that run (their program has been executed; with `wait`: they are ready), and why the
    others do not. Raises signals.Interrupted where a signal has come before that, once everything has ended.
    """
    process = BarnProcess(barn, launches)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    signals.block()  # until both sides listen
    child = os.fork()
    if child == 0:
        os.close(reader)
        _be_daemon(process, writer, wait, watch)
    wakeup = signals.listen(signals.ending())
    os.close(writer)
    running: list[tuple[str, int]] = []
    errors: list[HakoError] = []
    for kind, parts in _hear_daemon(child, reader, wakeup):
        if kind == messages.RUNNING:
            running.append(parts)  # type: ignore[arg-type]
        else:
            errors.append(messages.error_of(parts))  # type: ignore[arg-type]
    if not running and not errors:
        errors.append(HakoError("the barn's process was killed before the container ran", where=barn.name))
    return running, errors


def _hear_daemon(daemon: int, pipe: int, wakeup: int) -> list[tuple[str, tuple[object, ...]]]:
    """What the barn's process tells, up to the moment that it lets go of us. A signal until then ends everything."""
    inbox = messages.Inbox(pipe)
    told: list[tuple[str, tuple[object, ...]]] = []
    heard: list[tuple[str, tuple[object, ...]]] | None = []
    ended_by = None
    while heard is not None:
        told += heard
        ready = wait_readable(wakeup, pipe)
        heard = inbox.receive() if pipe in ready else []
        if heard is None:
            signals.ignore(signals.ENDING)  # from here on it runs, and the command says so
        for number in signals.take(wakeup):
            ended_by = ended_by or number
            os.kill(daemon, signals.SIGTERM)  # not reaped yet: the pid is still its own
    if ended_by is not None:
        os.waitpid(daemon, 0)
        raise signals.Interrupted(ended_by)
    return told


def _be_daemon(process: BarnProcess, caller: int, wait: bool, watch: bool) -> NoReturn:
    """The barn's process in the background. Never returns."""
    try:
        os.setsid()
        process.listen(signals.ENDING)
        os.chdir("/")
        divert_output(process.barn.name)
        import hakoniwa.run.control  # noqa: F401  # here once, to be shared by all supervisors

        process.set_up()
        for member in process.members:
            member.definition = Definition.of(member.container)
            process.spawn(member, background=True, wait=wait, watch=watch, before=lambda: os.close(caller))
        _wait_for(process, lambda: all(member.is_settled(wait=wait) for member in process.members))
        for member in process.members:
            if wait and not member.ready and not member.error:
                told = f"container {member.container.name!r} has ended, with status {member.code}, before it was ready"
                member.error = HakoError(told)
            if member.pid and not member.error:
                messages.send(caller, messages.RUNNING, member.container.name, member.pid)
            if member.error:
                messages.send_error(caller, member.error)
        os.close(caller)
        caller = -1
        _wait_for(process, lambda: all(member.inbox is None for member in process.members))
    except Exception as error:
        known = error if isinstance(error, HakoError) else HakoError(explained(error))
        if caller != -1:
            messages.send_error(caller, known)
        else:
            log.write(f"{process.barn.name}: {known}", "error")
    finally:
        _reopen_log(process.barn)
        process.tear_down()
        os._exit(0)


def _reopen_log(barn: Barn) -> None:
    """What the last hooks say belongs in the log as it is now: it may have been rotated."""
    if barn.hooks:
        try:
            divert_output(barn.name)
        except HakoError:
            pass  # the old one goes on


def _wait_for(process: BarnProcess, done: Callable[[], bool]) -> None:
    """Hear the supervisors until `done`."""
    while not done():
        inboxes = {member.inbox.pipe: member for member in process.members if member.inbox is not None}
        for pipe in process.wait(*inboxes) & inboxes.keys():
            if inboxes[pipe].hear():
                process.tell_failures()
