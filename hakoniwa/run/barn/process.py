"""The barn's process: it forks a supervisor for each container, hears how they fare, and runs the barn's own hooks."""

from __future__ import annotations

import os

from hakoniwa import log, state
from hakoniwa.errors import HakoError
from hakoniwa.kernel import signals
from hakoniwa.kernel.files import wait_readable
from hakoniwa.run.barn.member import Member
from hakoniwa.run.barn.messages import Inbox, send
from hakoniwa.run.hooks.general import print_by_line, run_hooks
from hakoniwa.run.hooks.view import BarnView, ExitStatus
from hakoniwa.run.inheritance import Inheritance
from hakoniwa.run.supervisor import supervise
from hakoniwa.spec.records import INNER_POINTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hakoniwa.plan.container import Launch
    from hakoniwa.run.terminal.front import UserTerminal
    from hakoniwa.spec.records import Barn


class BarnProcess:
    """The process of a barn, from the `setup` hooks to the `teardown` hooks."""

    def __init__(self, barn: Barn, launches: Sequence[Launch]) -> None:
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
                tell=lambda kind, *parts: send(writer, kind, *parts),
                is_barn=False,
                ending=signals.ENDING,
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
        member.inbox = Inbox(reader)
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

    def errors(self) -> list[HakoError]:
        """Why containers were not started, or were lost."""
        return [member.error for member in self.members if member.error]
