"""The process that stays beside a container: it starts it, waits for it, ends it, and removes what it has left."""

from __future__ import annotations

import gc
import os

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes import prctl, signals
from hakoniwa.plan.container import Launch
from hakoniwa.run.barn import messages
from hakoniwa.run.hooks.view import ExitStatus
from hakoniwa.run.inheritance import Inheritance
from hakoniwa.run.life import CLAIM, CLONE, NAMESPACES, NETWORK, PROGRAM, Life
from hakoniwa.run.payload import Payload
from hakoniwa.run.process import report
from hakoniwa.run.process.streams import Streams
from hakoniwa.run.start.firstprocess import FirstProcess
from hakoniwa.run.start.hostside import host_steps, take
from hakoniwa.spec.records import HOOK_SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from hakoniwa.run.control.hold import Hold
    from hakoniwa.run.control.requests import Requests
    from hakoniwa.run.output import LogPipe
    from hakoniwa.run.reload.reloader import Reloader
    from hakoniwa.run.start.starter import Starter
    from hakoniwa.spec.records import Container

_MOMENT = 0.02  # seconds


def supervise(container: Container, launch: Launch, inherited: Inheritance) -> NoReturn:
    """Be the supervisor of `container` until it has ended. Never returns."""
    try:
        supervisor = Supervisor(Life(container, launch, inherited))
        supervisor.live()
        supervisor.tell_over()
    finally:
        os._exit(0)


class Supervisor:
    """One container's life, stage by stage."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._inherited = life.inherited
        self._loop = life.loop
        self._host_steps = host_steps(life.container)
        self._wakeup = -1  # readable when signals have arrived
        self._streams = Streams()
        self._terminal = life.inherited.terminal
        self._log: LogPipe | None = None  # in the background
        self._log_file = -1
        self._prepared = False
        self._starter: Starter | None = None  # who starts the container in our place
        self._requests: Requests | None = None  # once the control socket is open
        self._reloader: Reloader | None = None
        self._hold: Hold | None = None  # once the container was held
        file = life.container.file
        self._guarded = os.stat(file) if file and life.launch.exposed.fixed else None
        self.ended_by: int | None = None  # the signal that asked for it, if one did

    @property
    def _container(self) -> Container:
        return self._life.container

    def prepare(self) -> None:
        """Do what can be done in the barn's process, whose memory is shared until it is written to. Raises HakoError."""
        self._claim()
        from hakoniwa.run.start.starter import Starter, can_start

        self._life.statewriter.prepare()
        if self._log is not None and can_start(self._container, self._life.launch):
            first = FirstProcess(self._container, self._life.launch, self._inherited, [], -1)
            first.output = self._log.writer
            self._starter = Starter(self._life, first, self._program())
        self._prepared = True

    def descriptors(self) -> list[int]:
        """What `prepare` has opened."""
        logs = [self._log_file] if self._log is None else [self._log_file, self._log.reader, self._log.writer]
        return [number for number in (*self._life.undo.descriptors, *logs, *self._asked()) if number != -1]

    def _asked(self) -> list[int]:
        return [] if self._requests is None else self._requests.descriptors()

    def let_go(self) -> None:
        """Close that in the barn's process, once the supervisor has it."""
        for number in {*self.descriptors()} - {*self._asked()}:
            os.close(number)
        if self._requests is not None:
            self._requests.let_go()

    def give_up(self) -> None:
        """Undo, in the barn's process, what was prepared."""
        for failure in self._life.undo.run():
            log.write(f"{self._container.name}: {failure}", "warning")
        self._life.undo.descriptors.clear()
        self.let_go()

    def live(self) -> None:
        """From the lock to the last message, whatever fails."""
        if not self._prepared:
            # What was loaded stays shared with the barn's process: the collector writes to every object that it looks at.
            gc.freeze()
        gc.enable()
        try:
            self._go_through()
        except HakoError as error:
            self._tell_failure(error)
        except BaseException as error:
            self._tell_failure(HakoError(f"{type(error).__name__}: {error}", where=self._container.name))
        finally:
            for failure in self._life.undo.run():
                log.write(f"{self._container.name}: {failure}", "warning")
            if self._life.base.network is not None:
                from hakoniwa.network import firewall

                firewall.let_go()  # once nobody waits for us any more but for our end

    def tell_over(self) -> None:
        """Tell who waits for the end of the container that nothing of it is left; the last thing that the process does."""
        if self._requests is not None:
            self._requests.tell_over()

    def _tell_failure(self, error: HakoError) -> None:
        self._inherited.tell(messages.FAILED, *messages.parts_of(error))

    def _go_through(self) -> None:
        """All stages, as long as nothing fails."""
        self._be_supervisor()
        if not self._prepared:
            self._claim()
        if self._inherited.background:
            from hakoniwa.run.output import divert_output

            divert_output(self._log_file)
        self._life.run_hooks("before_fork", may_refuse=True, files=self._inherited.files)
        first = self._clone()
        try:
            if self._start(first):
                self._run()
        except BaseException as error:
            failure = error if isinstance(error, HakoError) else HakoError(f"{type(error).__name__}: {error}")
            self._life.error = failure
            raise
        finally:
            lost = self._end()
        self._tell_end(lost)

    def _take_host_steps(self, stage: str) -> None:
        take(self._host_steps, stage, self._life)

    def _be_supervisor(self) -> None:
        """Be a process of its own, unless it is the barn's, and hear signals."""
        log.set_level(self._container.log_level)
        self._life.base.supervisor_pid = os.getpid()
        if self._inherited.barn.pid != os.getpid():
            os.setsid()
        prctl.set_name(f"hako:{self._container.name}")
        self._wakeup = signals.listen((*self._inherited.ending, signals.SIGCHLD, *HOOK_SIGNALS.values()))

    # Claim: what nobody else may have meanwhile

    def _claim(self) -> None:
        self._take_host_steps(CLAIM)
        if self._inherited.background:
            from hakoniwa.run.output import LogPipe, open_log

            self._log_file = open_log(self._container.name)
            self._log = LogPipe(self._container.name)
            self._reloader = self._make_reloader()

    # Start: from the clone to the program

    def _clone(self) -> FirstProcess:
        """Clone the first process, which begins to apply the plan."""
        if self._starter is not None:
            self._take_over(*self._starter.start())
            return self._starter.first
        *joining, unified = self._make_groups()
        first = FirstProcess(self._container, self._life.launch, self._inherited, joining, unified)
        first.run_hooks = self._run_hooks_in_child
        first.keep_namespaces = self._keep_namespaces
        first.entered = self._life.entered
        if (groups := self._life.groups) and "cgroup" in self._container.files.independent:
            first.hierarchies = groups.hierarchies()
        if self._log is not None:
            first.output = self._log.writer
        if self._container.network is not None or self._container.hooks_at("after_network_created"):
            first.make_gate()
        if self._life.launch.hold:
            first.make_hold()
        self._take_over(*first.clone())
        self._life.the_payload().hold(first.release_end)
        self._streams = first.streams
        return first

    def _make_groups(self) -> list[int]:
        """What joins the v1 cgroups of the container, and last the folder of the v2 one or -1."""
        self._take_host_steps(CLONE)
        if self._life.groups is None:
            return [-1]
        from hakoniwa.kernel.cgroup import open_joining

        if not self._container.has_pid_namespace():
            prctl.adopt_orphans()
        return open_joining(self._life.groups.joined())

    def _keep_namespaces(self, pid: int) -> None:
        self._life.base.pid = pid
        self._take_host_steps(NAMESPACES)

    def _run_hooks_in_child(self, point: str) -> None:
        self._life.base.pid = self._life.base.pid or os.getpid()
        self._life.run_hooks(point, may_refuse=True)

    def _take_over(self, pid: int, pidfd: int, status: int) -> None:
        """Have what the clone has made; `status` is the pipe that tells how the set-up fares."""
        life = self._life
        life.base.pid, life.base._pidfd = pid, pidfd
        reaps = self._container.has_pid_namespace()
        life.payload = Payload(pid, pidfd, status, self._loop, life.groups, has_pid_namespace=reaps)
        if self._log is not None:
            os.close(self._log.writer)
        if self._inherited.notes != -1:
            from hakoniwa.run.output import lead_through

            self._terminal = lead_through(self._inherited.notes, self._terminal)

    def _start(self, first: FirstProcess) -> bool:
        """Do this side's part of the set-up, and wait until the program runs.

        False if the container was ended while it was held. Raises HakoError when the program does not run for another reason.
        """
        life = self._life
        self._listen()
        life.statewriter.prepare()
        if self._starter is None:
            life.statewriter.identify(life.base.pid)
        life.run_hooks("immediately_after_fork_on_parent", may_refuse=True)
        self._take_host_steps(NETWORK)
        life.run_hooks("after_network_created", may_refuse=True)
        first.open_gate()
        return self._await_program()

    def _listen(self) -> None:
        """Hear what comes from the clone to the end."""
        self._loop.hear(self._wakeup, self._take_signal)
        if self._inherited.lifeline != -1:
            self._loop.add(self._inherited.lifeline, self._front_has_gone, "give the terminal back")
        if self._log is not None:
            self._loop.add(self._log.reader, self._pass_log_on, "write the log")

    def _await_program(self) -> bool:
        payload = self._life.the_payload()
        told = payload.await_set_up()
        if payload.held:
            self._be_held()
            told = payload.await_set_up()
        if self._starter is not None:
            self._starter.reap()
        found = report.read_report(told, self._program())
        if (error := found.failure) is not None:
            error.where = error.where or self._container.name
            raise error
        if payload.held:
            return False
        if not found.executing:
            raise self._why_ended_early()
        self._life.statewriter.devpts = found.devpts
        payload.note_program()
        return True

    def _be_held(self) -> None:
        """Have others know the container, end it, and release it."""
        from hakoniwa.run.control.hold import Hold

        life = self._life
        life.status = "created"
        self._take_host_steps(PROGRAM)
        life.statewriter.write(life.status, life.base, None)
        requests = self._open_requests()
        self._hold = Hold(life, requests)
        requests.listen(self._loop)
        self._inherited.tell(messages.HELD, life.base.pid)

    def _program(self) -> str:
        command = self._life.launch.command or self._container.process.command or ("a shell",)
        return command[0]

    def _why_ended_early(self) -> HakoError:
        groups = self._life.groups
        if groups is not None and (shortage := groups.find_shortage(self._container)):
            return shortage
        return HakoError("the container was ended before its program ran", where=self._container.where)

    # Run: from the program to its end

    def _run(self) -> None:
        """Tell that it runs, and wait for its end."""
        life = self._life
        if self._hold is None:
            self._take_host_steps(PROGRAM)
        if self._starter is None:
            life.statewriter.write(life.status, life.base, None)
        life.run_hooks("before_start_wait")
        if self._inherited.background:
            self._take_reloads()
        hooks = self._container.hooks.background
        if hooks:  # before the caller hears that it runs: what it does then is not missed
            life.hooks_beside().listen(hooks)
        self._inherited.tell(messages.RUNNING, life.base.pid)
        if self._hold is not None:
            self._hold.end(None)
        if hooks:
            life.hooks_beside().begin()
        else:
            life.tell_ready()
        if not self._inherited.background:
            # A payload that ends at once is not made to wait for a control socket that nobody could have asked for.
            self._loop.after(_MOMENT, self._take_reloads, "hear requests")
        life.the_payload().await_end()
        if life.unready is not None:
            raise life.unready

    def _open_requests(self) -> Requests:
        """Open the control socket, unless it is open. Who connects waits until requests are heard."""
        if self._requests is None:
            from hakoniwa.run.control.requests import Requests

            self._requests = Requests(self._container.name, self._life.undo)
        return self._requests

    def _make_reloader(self) -> Reloader:
        from hakoniwa.run.reload.reloader import Reloader

        return Reloader(self._life, self._open_requests(), self._guarded)

    def _take_reloads(self) -> None:
        """Reload when somebody asks for it, and when the file changes, if it is watched."""
        self._reloader = self._reloader or self._make_reloader()
        self._open_requests().listen(self._loop)
        self._reloader.listen(watch=self._inherited.watch)

    def _pass_log_on(self) -> None:
        assert self._log is not None
        if not self._log.pass_on():
            self._loop.drop(self._log.reader)  # the last process that could write to it has ended

    def _take_signal(self, number: int) -> None:
        """Do what a signal asks for."""
        if number == signals.SIGCHLD:
            self._life.the_payload().reap_adopted()
        elif number == signals.SIGHUP and self._inherited.background:
            if self._reloader is not None:
                self._reloader.begin()
        elif number in signals.ENDING:
            self.ended_by = self.ended_by or number
            self._life.the_payload().ask_to_end()
        else:
            self._life.signal_hooks(number)

    def _front_has_gone(self) -> None:
        """The front process was killed: give the terminal back as it was, and end the container."""
        self._loop.drop(self._inherited.lifeline)
        self._life.the_payload().ask_to_end()
        if self._inherited.saved is not None:
            from hakoniwa.kernel import terminal

            terminal.restore(self._terminal, self._inherited.saved)

    # End: nothing is left

    def _end(self) -> list[HakoError]:
        """Reap the first process, run the last hooks, remove all, write down how it ended. Returns what output was lost."""
        life = self._life
        if self._hold is not None:
            self._hold.end(life.error)
        wait_status = life.the_payload().reap()
        life.base.exit_status = ExitStatus.of(wait_status, None if life.unready else life.error)
        life.base._pidfd = None
        lost = self._finish_output()
        life.run_hooks("teardown_container")
        if not life.base.exit_status.success:
            life.run_hooks("after_failure")
        for failure in self._undo_but_lock():
            log.write(f"{self._container.name}: {failure}", "warning")
        try:
            life.statewriter.write("stopped" if life.error is None else "failed", life.base, life.error)
        except HakoError as error:
            log.write(str(error), "error")
        return lost

    def _finish_output(self) -> list[HakoError]:
        """Pass on what was written. Returns why something could not be."""
        lost: list[HakoError] = []
        asked = self._life.the_payload().asked_to_end
        if self._log is not None:
            self._loop.attempt("write the log", self._log.drain)
        self._loop.attempt("pass its output on", lambda: lost.extend(self._streams.finish(self._wakeup, asked=asked)))
        return lost

    def _undo_but_lock(self) -> list[str]:
        """Remove everything outside the container, and keep the lock until the state says so."""
        undo = self._life.undo
        lock = undo.take_first()
        failures = undo.run()
        undo.add(*lock)
        return failures

    def _tell_end(self, lost: list[HakoError]) -> None:
        ended = self._life.base.exit_status
        assert ended is not None
        if lost and ended.success:
            raise lost[0]
        self._inherited.tell(messages.EXITED, ended.code, ended.signal)
