"""The barn's process: it forks a supervisor for each container, hears how they fare, and runs the barn's own hooks."""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes import signals
from hakoniwa.kernel.processes.pidfd import boot_id
from hakoniwa.known import state
from hakoniwa.run.barn import record
from hakoniwa.run.barn.member import Member
from hakoniwa.run.barn.messages import FAILED, Inbox, parts_of, send
from hakoniwa.run.hooks.general import print_by_line, run_hooks
from hakoniwa.run.hooks.view import BarnView, ExitStatus
from hakoniwa.run.inheritance import Inheritance
from hakoniwa.run.loop import Loop
from hakoniwa.run.start.undo import Undo
from hakoniwa.run.statewriter import own_process
from hakoniwa.run.supervisor import supervise
from hakoniwa.spec.held import NOTHING
from hakoniwa.spec.records import INNER_POINTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hakoniwa.known.statefile import ProcessRecord
    from hakoniwa.plan.container import Launch
    from hakoniwa.run.barn.shared import Shared
    from hakoniwa.run.terminal.front import UserTerminal
    from hakoniwa.spec.records import Barn


class BarnProcess:
    """The process of a barn, from the `setup` hooks to the `teardown` hooks."""

    def __init__(self, barn: Barn, launches: Sequence[Launch], *, background: bool = False) -> None:
        self.barn = barn
        self.view = BarnView(barn)
        self.members = [Member(c.name, c, launch) for c, launch in zip(barn.containers, launches, strict=True)]
        self._has_terminals = any(launch.terminals for launch in launches)
        self.lifeline = (-1, -1)  # the first of them is readable once nobody needs the containers any more
        self.loop = Loop(barn.name if background else "")
        self.is_warm = False  # for supervisors to be forked in a row
        self.on_news: Callable[[], None] = lambda: None  # when a supervisor has told something
        self.front: UserTerminal | None = None  # while a container has it
        self._process: ProcessRecord | None = None
        self.kept: list[object] = []  # of supervisors that were forked
        self.given: dict[
            int, tuple[int, int] | None
        ] = {}  # what was open before the first: the file's own, and what the barn shares
        self._wakeup = -1  # readable when signals have arrived
        self.ended_by: int | None = None  # the signal that has asked this process to end
        self.keeps = barn.keep or not barn.containers  # it goes on without containers
        self.undo = Undo()
        self.shared: Shared | None = None
        self._lock = -1  # held while the barn has made something of its own, by hooks or by itself
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
        resized = (signals.SIGWINCH,) if self._has_terminals else ()
        self._wakeup = signals.listen(ending + resized)
        self.loop.hear(self._wakeup, self._take_signal)

    def _own(self) -> ProcessRecord:
        """This process, which is the barn's by now."""
        if self._process is None:
            self._process = own_process()
        return self._process

    def set_up(self) -> None:
        """Run the `setup` hooks, and make what the barn shares. Raises HakoError when that fails, or the barn runs already."""
        if not (self.barn.hooks or self.barn.shared.namespaces or self.keeps):
            return
        self.take_lock()
        try:
            if hooks := self.barn.hooks_at("setup"):
                run_hooks(hooks, self.view, may_refuse=True, files=self.files)
            if self.barn.shared.namespaces:
                from hakoniwa.run.barn.shared import Shared

                self.shared = Shared(self.barn)
                self.shared.make(self.undo, self.write_record)
                if self.shared.first != -1:
                    self.loop.add(self.shared.first, self._lose_first)
            else:
                self.write_record()
        except HakoError as refusal:
            self._refusal = refusal
            raise

    def _lose_first(self) -> None:
        assert self.shared is not None
        self.loop.drop(self.shared.first)
        told = "the first process of the shared pid namespace was killed, and so is every container in it"
        log.write(f"{self.barn.name}: {told}", "error")

    def has_name(self) -> bool:
        """Whether no other barn of this name runs; those that have nothing of their own may run beside it."""
        if self._lock == -1:
            try:
                self.take_lock()
                self.write_record()
            except HakoError:
                return False
        return True

    def take_lock(self) -> None:
        """Have the barn's name to ourselves, and clear what a killed process has left under it. Raises HakoError."""
        name = self.barn.name
        try:
            lock = record.take_lock_of_gone(name)
        except state.Busy:
            raise HakoError(f"barn {name!r} is already running", hint="hako ps shows it") from None
        try:
            for what in record.clear_leftovers(name):
                log.write(f"{name}: cleared what a killed process of the barn had left: {what}", "warning")
        except HakoError:
            os.close(lock)
            raise
        self._lock = lock

    def write_record(self) -> None:
        """Write down what the barn has, for other commands. Raises HakoError."""
        known = record.BarnRecord(
            name=self.barn.name,
            file=self.barn.file,
            boot_id=boot_id(),
            process=self._own(),
            keep=self.keeps,
            shared=self.barn.shared.namespaces,
            first=self.shared.first_record if self.shared else None,
            persisted=tuple(kept.path for kept in self.barn.shared.persisted),
        )
        try:
            record.write(known)
        except OSError as error:
            told = f"cannot write down what barn {known.name!r} has: {error.strerror}"
            raise HakoError(told, hint="is the disk full?") from None

    def tell_failures(self) -> None:
        """Run `system_failure` for each container that hakoniwa itself has failed on, as soon as that is over."""
        if not self.barn.hooks:
            return
        for member in self.members:
            if member.error is not None and member.inbox is None and not member.failure_told:
                member.failure_told = True
                self._run_system_failure(member.name, member.error)

    def _run_system_failure(self, name: str | None, error: HakoError) -> None:
        if hooks := self.barn.hooks_at("system_failure"):
            self._note_ends()
            self.view.failed, self.view.system_exception = name, error
            self.view.exit_status = ExitStatus(code=error.status, signal=None)
            run_hooks(hooks, self.view, may_refuse=False)

    def _note_ends(self) -> None:
        """Have the barn's hooks see how each container has ended."""
        ended = [member for member in self.members if member.code is not None or member.error]
        self.view.exit_statuses = {member.name: member.exit_status() for member in ended}

    def tear_down(self) -> None:
        """Run `system_failure` where it is still due, and `teardown`, once; and remove what the barn has made."""
        if self._lock == -1:
            return  # there is nothing to undo, or it is another's
        if self.barn.hooks:
            self._run_last_hooks()
        for failure in self.undo.run():
            log.write(f"{self.barn.name}: {failure}", "warning")
        record.forget(self.barn.name, self._lock)

    def _run_last_hooks(self) -> None:
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

    def spawn(
        self,
        member: Member,
        *,
        term: str = "dumb",
        watch: bool = False,
        front: UserTerminal | None = None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """Fork the supervisor of a container in the foreground; `before` runs in it first. None is forked once we were asked to end."""
        if self.is_asked_to_end():
            return
        reader, writer = os.pipe2(os.O_CLOEXEC)
        inherited = self.bequeath(writer, term=term, watch=watch, front=front)
        log.flush_prints()
        signals.block()  # until the supervisor listens by itself
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            self.close_in_child()
            before()
            try:
                container, launch = member.take_up(self.barn)
            except HakoError as error:
                send(writer, FAILED, *parts_of(error))
                os._exit(0)
            supervise(container, launch, inherited)
        os.close(writer)
        self.listen_to(member, pid, reader)
        signals.unblock()

    def is_asked_to_end(self) -> bool:
        """Whether a signal has asked for that by now."""
        for number in signals.take(self._wakeup):
            self._take_signal(number)
        return self.ended_by is not None

    def bequeath(
        self,
        report: int,
        *,
        term: str = "dumb",
        background: bool = False,
        wait: bool = False,
        watch: bool = False,
        front: UserTerminal | None = None,
    ) -> Inheritance:
        """What a supervisor gets of us. `report` is a pipe that it tells through how its container fares."""
        return Inheritance(
            tell=lambda kind, *parts: send(report, kind, *parts),
            barn=self._own(),
            ending=signals.ENDING,
            lifeline=self.lifeline[0],
            files=self.files,
            front=front.theirs.fileno() if front else -1,
            terminal=front.terminal if front else -1,
            saved=front.saved if front else None,
            notes=front.notes if front else -1,
            term=term,
            background=background,
            wait=wait,
            watch=watch,
            beside=tuple(member.name for member in self.members),
            shared=self.shared.descriptors if self.shared else NOTHING,
        )

    def listen_to(self, member: Member, supervisor: int, pipe: int) -> None:
        """Hear the supervisor of a container, which was forked just now."""
        member.supervisor = supervisor
        member.inbox = Inbox(pipe)
        self.loop.add(pipe, lambda: self.hear(member), f"hear the supervisor of {member.name}")

    def descriptors(self) -> list[int]:
        """What the barn's process has open for itself, and not for its containers."""
        inboxes = [member.inbox.pipe for member in self.members if member.inbox is not None]
        first = self.shared.first if self.shared else -1
        return [number for number in (*inboxes, self.lifeline[1], self._lock, first) if number != -1]

    def close_in_child(self) -> None:
        """Close what a forked process has of the barn's, but what its containers get."""
        for descriptor in self.descriptors():
            os.close(descriptor)

    def hear(self, member: Member) -> None:
        """Take what a supervisor tells."""
        assert member.inbox is not None
        pipe = member.inbox.pipe
        if member.hear():
            self.loop.drop(pipe)
            if self.front is None:  # else once the terminal is the user's again
                self.tell_failures()
        self.on_news()

    def have_all_ended(self) -> bool:
        """Whether no supervisor is left."""
        return all(member.inbox is None for member in self.members)

    def _take_signal(self, number: int) -> None:
        if number in signals.ENDING:
            self.end(number)
        elif self.front is not None:
            self.front.resize()

    def end(self, number: int) -> None:
        """Ask every container to end: what TERM, INT, HUP and QUIT to this process mean."""
        self.ended_by = self.ended_by or number
        for member in self.members:
            if member.inbox is not None:  # not reaped yet: the pid is still its own
                os.kill(member.supervisor, signals.SIGTERM)

    def is_over(self) -> bool:
        """Whether no container runs, and none is waited for."""
        return self.have_all_ended() and not (self.keeps and self.ended_by is None)

    def status(self) -> int:
        """The first failure's exit status, else 0; 128 and the signal where one has kept all containers from running."""
        if self.ended_by is not None and not any(member.pid for member in self.members):
            return 128 + self.ended_by
        started = [member.status() for member in self.members if member.supervisor]
        return next(filter(None, started), 0)

    def errors(self) -> list[HakoError]:
        """Why containers were not started, or were lost."""
        return [member.error for member in self.members if member.error]
