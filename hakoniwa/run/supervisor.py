"""The process that stays beside a container: it starts it, waits for it, ends it, and removes what it has left."""

from __future__ import annotations

import gc
import os
import time

from hakoniwa import log, state
from hakoniwa.errors import HakoError
from hakoniwa.hostpaths import open_outside, remove_file
from hakoniwa.kernel import prctl, signals
from hakoniwa.kernel.files import wait_readable
from hakoniwa.kernel.pidfd import has_ended, takes
from hakoniwa.plan.container import Launch
from hakoniwa.run.barn import messages
from hakoniwa.run.hooks.general import run_hooks
from hakoniwa.run.hooks.view import ContainerView, ExitStatus
from hakoniwa.run.inheritance import Inheritance
from hakoniwa.run.loop import Loop, explained
from hakoniwa.run.output import LogPipe, divert_output, lead_through
from hakoniwa.run.process import report
from hakoniwa.run.process.streams import Streams
from hakoniwa.run.reload.reloader import Reloader
from hakoniwa.run.start.claims import claim_ids, claim_rootfs
from hakoniwa.run.start.firstprocess import FirstProcess
from hakoniwa.run.statewriter import StateWriter
from hakoniwa.spec.records import HOOK_SIGNALS
from hakoniwa.statefile import Definition, timestamp
from hakoniwa.steps.join import open_groups
from hakoniwa.undo import Undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from hakoniwa.run.hooks.background import Schedule
    from hakoniwa.run.start.groups import Groups
    from hakoniwa.spec.records import BackgroundHook, Container

GRACE = 10.0  # seconds between TERM and KILL
_MOMENT = 0.02  # seconds


def supervise(container: Container, launch: Launch, around: Inheritance) -> NoReturn:
    """Be the supervisor of `container` until it has ended. Never returns."""
    try:
        Supervisor(container, launch, around).live()
    finally:
        os._exit(0)


class Supervisor:
    """One container's life."""

    def __init__(self, container: Container, launch: Launch, around: Inheritance) -> None:
        self.container = container
        self.launch = launch
        self.around = around
        self.undo = Undo()
        self.base = ContainerView(container, os.getpid(), timestamp())
        self.written = StateWriter(container, launch, self.base, around)
        self.loop = Loop(container.name)
        self.reloading = Reloader(self)
        self.pidfd = -1
        self.terminal = around.terminal
        self.log: LogPipe | None = None  # in the background
        self.streams = Streams()
        self.lost: list[HakoError] = []  # why not all that the payload has written has arrived
        self.groups: Groups | None = None
        self.schedule: Schedule | None = None  # of the hooks beside the container, once it runs
        self.deadline: float | None = None  # when a container that was asked to end is killed
        self.error: HakoError | None = None  # why the payload never ran
        self.executing = False  # the container's program
        self.asked_to_end = False
        self.ended_by: int | None = None  # the signal that asked for it, if one did
        self.told_ready = False
        self.unready: HakoError | None = None  # why it was ended, though it ran

    def live(self) -> None:
        """From the lock to the last message, whatever fails."""
        # What was loaded stays shared with the barn's process: the collector writes to every object that it looks at.
        gc.freeze()
        gc.enable()
        try:
            self.run()
        except HakoError as error:
            self._tell_failure(error)
        except BaseException as error:
            self._tell_failure(HakoError(f"{type(error).__name__}: {error}", where=self.container.name))
        finally:
            for failure in self.undo.run():
                log.write(f"{self.container.name}: {failure}", "warning")

    def _tell_failure(self, error: HakoError) -> None:
        self.around.tell(messages.FAILED, *messages.parts_of(error))

    def run(self) -> None:
        """What `live` does as long as nothing fails."""
        log.set_level(self.container.log_level)
        if not self.around.is_barn:
            os.setsid()
        prctl.set_name(f"hako:{self.container.name}")
        wakeup = signals.listen((*self.around.ending, signals.SIGCHLD, *HOOK_SIGNALS.values()))
        self._take_lock()
        if self.around.background:
            divert_output(self.container.name)
            self.log = LogPipe(self.container.name)
        self.run_hooks("before_fork", may_refuse=True, files=self.around.files)
        cloning, status = self._clone()
        try:
            self._add_sources(wakeup)
            self._accompany_set_up(cloning)
            self._settle(status)
            self._run_payload()
        except BaseException as error:
            self.error = error if isinstance(error, HakoError) else HakoError(f"{type(error).__name__}: {error}")
            cloning.release()
            raise
        finally:
            self._end(wakeup)
        assert self.base.exit_status is not None
        if self.lost and self.base.exit_status.success:
            raise self.lost[0]
        self.around.tell(messages.EXITED, self.base.exit_status.code, self.base.exit_status.signal)

    # Before the container

    def _take_lock(self) -> None:
        name = self.container.name
        try:
            lock = state.take_lock(name)
        except state.Busy:
            raise _already_running(name) from None
        except OSError as error:
            raise HakoError(
                f"cannot make the state of {name!r}: {error.strerror}: {error.filename}",
                hint="is the disk full, or the folder not writable?",
            ) from None
        self.undo.add("release the lock", lambda: state.release(name, lock))
        for what in state.clear_leftovers(name):
            log.write(f"{name}: cleared what a killed supervisor had left: {what}", "warning")
        state.must_belong(self.container)
        claim_rootfs(self.container, self.launch, self.undo)
        self.launch = claim_ids(self.container, self.launch, self.undo)

    # The start

    def _clone(self) -> tuple[FirstProcess, int]:
        """Clone the first process. Returns what was done for it, and the pipe that tells how its set-up goes."""
        *joining, unified = self._make_groups()
        cloning = FirstProcess(self.container, self.launch, self.around, joining, unified)
        cloning.run_hooks = self._run_hooks_in_child
        if self.groups is not None:
            if "cgroup" in self.container.files.independent:
                cloning.hierarchies = self.groups.hierarchies()
            if self.container.has_user_namespace():
                self.groups.delegate(self.launch.maps)
        if self.log is not None:
            cloning.output = self.log.writer
        if self.container.hooks_at("after_network_created"):
            cloning.make_gate()
        self.base.pid, self.pidfd, reader = cloning.clone()
        self.streams = cloning.streams
        self.base._pidfd = self.pidfd
        if self.log is not None:
            os.close(self.log.writer)
        if self.around.notes != -1:
            self.terminal = lead_through(self.around.notes, self.terminal)
        return cloning, reader

    def _accompany_set_up(self, cloning: FirstProcess) -> None:
        """What this side does while the first process applies the plan."""
        self.written.definition = self.around.definition or Definition.of(self.container)
        self.written.identify(self.base.pid)
        self.run_hooks("immediately_after_fork_on_parent", may_refuse=True)
        self.run_hooks("after_network_created", may_refuse=True)
        cloning.open_gate()

    def _make_groups(self) -> list[int]:
        """The container's cgroups: what joins the v1 ones, and last the folder of the v2 one or -1."""
        if not self.container.needs_groups():
            return [-1]
        from hakoniwa.run.start.groups import make_groups

        self.groups = self.base._groups = make_groups(self.container, self.undo)
        self.written.cgroups, self.written.assigned_cgroup = tuple(self.groups.paths), self.groups.assigned
        if not self.has_pid_namespace:
            prctl.adopt_orphans()
        return open_groups(self.groups.joined())

    def _run_hooks_in_child(self, point: str) -> None:
        self.base.pid = self.base.pid or os.getpid()
        self.run_hooks(point, may_refuse=True)

    def run_hooks(self, point: str, *, may_refuse: bool = False, files: set[int] | None = None) -> None:
        hooks = self.container.hooks_at(point)
        if hooks:
            run_hooks(hooks, self.base, may_refuse=may_refuse, files=files)

    def _settle(self, status: int) -> None:
        """Wait until the program runs. Raises HakoError when it does not: its set-up failed, or we were told to end it."""
        told = b""
        self.loop.add(status)
        while True:
            ready = self._wait()
            if status in ready:
                more = os.read(status, report.LARGEST + 1)
                told += more
                if not more or len(told) > report.LARGEST:
                    break
            elif self.pidfd in ready:
                self.loop.drop(self.pidfd)  # it ended: what it had to say is in the pipe, up to its end
            if self.asked_to_end and not wait_readable(status, seconds=0):
                self._kill()  # our own set-up would get a TERM, and not the program
        self.loop.drop(status)
        os.close(status)
        command = self.launch.command or self.container.process.command or ("a shell",)
        found = report.read_report(told, command[0])
        if (error := found.failure) is not None:
            error.where = error.where or self.container.name
            raise error
        if not found.executing:
            raise self._why_ended_early()
        self.written.devpts = found.devpts
        self.executing = True
        if self.asked_to_end:
            self._ask_to_end()

    def _why_ended_early(self) -> HakoError:
        if self.groups is not None and (shortage := self.groups.find_shortage(self.container)):
            return shortage
        return HakoError("the container was ended before its program ran", where=self.container.where)

    # While it runs

    def _run_payload(self) -> None:
        """Tell that it runs, and wait for its end."""
        self._write_pid_file()
        self.written.write("running", self.base, None)
        self.run_hooks("before_start_wait")
        self.loop.add(self.pidfd)
        if self.around.background:
            self.reloading.listen(self.loop, self.around.watch)
        if self.container.hooks.background:
            self._listen_for_hooks(
                self.container.hooks.background
            )  # before the caller hears that it runs: what it does then is not missed
        self.around.tell(messages.RUNNING, self.base.pid)
        if self.schedule is None:
            self._tell_ready()
        else:
            self.schedule.begin()
        ready: set[int] = set()
        if not self.around.background:
            # A payload that ends at once is not made to wait for a control socket that nobody could have asked for.
            ready = self._wait(longest=_MOMENT)
            if self.pidfd not in ready:
                self.loop.attempt("hear requests", lambda: self.reloading.listen(self.loop, self.around.watch))
        while self.pidfd not in ready:
            ready = self._wait()
        if self.unready is not None:
            raise self.unready

    def replace_hooks(self, hooks: tuple[BackgroundHook, ...]) -> None:
        """Have these hooks beside the container, and no others. Raises HakoError; then it has those that it had."""
        before = self.schedule
        if hooks:
            self._listen_for_hooks(hooks)
        else:
            self.schedule = None
        if before is not None:
            for descriptor in before.descriptors():
                self.loop.drop(descriptor)
            before.end()
        if self.schedule is not None:
            self.schedule.begin()

    def _listen_for_hooks(self, hooks: tuple[BackgroundHook, ...]) -> None:
        from hakoniwa.run.hooks.background import Schedule

        try:
            schedule = self.schedule = Schedule(hooks, self.base, self._tell_ready, self._not_ready)
        except (OSError, RuntimeError) as error:  # RuntimeError: no thread can be started
            told = f"cannot have hooks beside the container: {explained(error)}"
            raise HakoError(told, where=hooks[0].where, hint="is the number of files or processes limited?") from None
        self.loop.add(schedule.timer, "run hooks that are due", schedule.expire)
        self.loop.add(schedule.notice, "take what hooks tell", schedule.take_notice)
        for descriptor, (event, _) in schedule.events.items():
            take = lambda descriptor=descriptor: schedule.take_event(descriptor)  # noqa: E731
            self.loop.add(descriptor, "take an event of a cgroup", take, event.mask)

    def _tell_ready(self) -> None:
        self.told_ready = True
        self.around.tell(messages.READY)

    def _not_ready(self, hook: BackgroundHook) -> None:
        """A readiness hook's time is up: with --wait, that ends the container."""
        error = HakoError(f"the container was not ready after {hook.timeout:g} s", where=hook.where)
        if self.around.wait and not self.told_ready:  # hooks that a reload has added decide no more about that
            self.unready = error
            self._ask_to_end()
        else:
            log.write(str(error), "warning")

    def _add_sources(self, wakeup: int) -> None:
        """What is heard from the clone to the end."""
        self.loop.add(self.pidfd)
        self.loop.add(wakeup, "take signals", lambda: self._take_signals(signals.take(wakeup)))
        if self.around.lifeline != -1:
            self.loop.add(self.around.lifeline, "give the terminal back", self._front_has_gone)
        if self.log is not None:
            self.loop.add(self.log.reader, "write the log", self._pass_log_on)

    def _wait(self, longest: float | None = None) -> set[int]:
        """Sleep until something happens (for `longest` seconds at most), and do what it asks for. Returns what was ready."""
        if self.deadline is not None:
            longest = max(0.0, self.deadline - time.monotonic())
        ready = self.loop.turn(longest)
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self._kill()
        if not self.has_pid_namespace:
            self._reap_adopted()
        return ready

    def _pass_log_on(self) -> None:
        assert self.log is not None
        if not self.log.pass_on():
            self.loop.drop(self.log.reader)  # the last process that could write to it has ended

    def _take_signals(self, numbers: list[int]) -> None:
        """Do what signals ask for, in their order."""
        for number in numbers:
            self.loop.attempt(f"do what signal {number} asks for", lambda number=number: self._take_signal(number))  # type: ignore[misc]

    def _take_signal(self, number: int) -> None:
        if number == signals.SIGHUP and self.around.background:
            self.reloading.begin()
        elif number in signals.ENDING:
            self.ended_by = self.ended_by or number
            self._ask_to_end()
        elif self.schedule is not None:
            names = {value: name for name, value in HOOK_SIGNALS.items()}
            self.schedule.signal(number, names.get(number, str(number)))

    @property
    def has_pid_namespace(self) -> bool:
        """Whether the container has a pid namespace, whose first process reaps the others."""
        return "pid" in self.container.namespaces.own

    def _reap_adopted(self) -> None:
        """Reap what a container without a pid namespace has orphaned; its first process is left for `_end`."""
        while True:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None or found.si_pid == self.base.pid:
                return
            os.waitpid(found.si_pid, 0)

    def _front_has_gone(self) -> None:
        """The front process was killed: give the terminal back as it was, and end the container."""
        self.loop.drop(self.around.lifeline)
        self._ask_to_end()
        if self.around.saved is not None:
            from hakoniwa.kernel import terminal

            terminal.restore(self.terminal, self.around.saved)

    def _ask_to_end(self) -> None:
        """TERM, and KILL when time is up; KILL at once when TERM would be ignored. `_settle` sees to what is not executed."""
        self.asked_to_end = True
        if self.deadline is not None or not self.executing:
            return
        if self.has_pid_namespace and not takes(self.base.pid, signals.SIGTERM):
            self._kill()
        else:
            signals.pidfd_send_signal(self.pidfd, signals.SIGTERM)
            self.deadline = time.monotonic() + GRACE

    def _kill(self) -> None:
        self.deadline = None
        if self.groups:
            self.loop.attempt("thaw the container", self.groups.thaw)
        try:
            signals.pidfd_send_signal(self.pidfd, signals.SIGKILL)
        except ProcessLookupError:
            pass

    # The end

    def _end(self, wakeup: int) -> None:
        """Reap the first process (killing it where it still runs), run the last hooks, write down how it ended."""
        if not has_ended(self.pidfd):
            self._kill()
        _, wait_status = os.waitpid(self.base.pid, 0)
        self.base.exit_status = ExitStatus.of(wait_status, None if self.unready else self.error)
        self.base._pidfd = None
        if self.log is not None:
            self.loop.attempt("write the log", self.log.drain)
        self.loop.attempt("pass its output on", lambda: self._finish_streams(wakeup))
        self.run_hooks("teardown_container")
        if not self.base.exit_status.success:
            self.run_hooks("after_failure")
        self.loop.attempt("remove the control socket", self.reloading.end)
        for failure in self._undo_but_lock():
            log.write(f"{self.container.name}: {failure}", "warning")
        try:
            self.written.write("stopped" if self.error is None else "failed", self.base, self.error)
        except HakoError as error:
            log.write(str(error), "error")

    def _finish_streams(self, wakeup: int) -> None:
        self.lost = self.streams.finish(wakeup, asked=self.asked_to_end)

    def _undo_but_lock(self) -> list[str]:
        """Remove everything outside the container, and keep the lock until the state says so."""
        lock = self.undo.take_first()
        failures = self.undo.run()
        self.undo.add(*lock)
        return failures

    # What is written down

    def _write_pid_file(self) -> None:
        path = self.container.container_pid_file
        if path is None:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_NOFOLLOW  # waits for nobody to read a FIFO
        try:
            file = open_outside(path, flags, 0o644)
            self.undo.add(f"remove {path}", lambda: remove_file(path))
            try:
                os.write(file, f"{os.getpid()}\n".encode())
            finally:
                os.close(file)
        except OSError as error:
            raise HakoError(
                f"cannot write the pid file {path}: {error.strerror}", where=self.container.place("container_pid_file")
            ) from None


def _already_running(name: str) -> HakoError:
    """Who holds the lock."""
    known = state.read(name)
    if known is None or known.status != "running":
        return HakoError(f"container {name!r} is being started or stopped by another command", hint="try again")
    pid, since = known.init.pid, known.created_at
    return HakoError(
        f"container {name!r} is already running: pid {pid}, since {since}, from {known.file or 'standard input'}",
        hint=f"hako attach -n {name}, or hako kill -n {name}",
    )
