"""Hooks beside the container: a thread for each, so that a slow one delays nobody but itself, and never runs twice at once.

The supervisor's main thread sleeps in poll and only tells the threads when to run. Once there are threads it forks no
Python any more; at the end it leaves by `os._exit`, which abandons a hook that hangs.
"""

from __future__ import annotations

import heapq
import os
import sys
import threading
import time

from hakoniwa import log
from hakoniwa.kernel import timer
from hakoniwa.kernel.cgroup.events import MemoryEvent
from hakoniwa.kernel.sockets import listens
from hakoniwa.run.hooks.general import explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hakoniwa.run.hooks.view import ContainerView
    from hakoniwa.run.hooks.watch import Changes, Watcher
    from hakoniwa.spec.records import BackgroundHook

# How long a busy hook may keep the interpreter before another thread gets it: it bounds how late a timer is.
_SWITCH_INTERVAL = 0.0005
_COROUTINE = 0x80  # inspect.CO_COROUTINE
_VARIADIC = 0x04  # inspect.CO_VARARGS


class _Reasons:
    """Why a hook is to run: names of signals, or "". Each is kept once, and is one run."""

    def __init__(self) -> None:
        self._kept: dict[str, None] = {}

    def __bool__(self) -> bool:
        return bool(self._kept)

    def add(self, reasons: Iterable[str]) -> None:
        """Note some more."""
        self._kept.update(dict.fromkeys(reasons))

    def take(self) -> str:
        """The first of them, which is then noted no more."""
        first = next(iter(self._kept))
        del self._kept[first]
        return first


class Worker:
    """The thread of one hook."""

    def __init__(self, hook: BackgroundHook, base: ContainerView, on_true: Callable[[Worker], None]) -> None:
        self.hook = hook
        self.runs = 0  # as often as it was told to, busy times left out
        self._base = base
        self._on_true = on_true
        self._reasons: Changes | _Reasons = _Reasons()
        if hook.kind == "watch":
            from hakoniwa.run.hooks.watch import Changes

            self._reasons = Changes()
        self._wake = threading.Condition()
        self._busy = False
        self._over = False
        self._missed = 0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def fire(self, *reasons: str) -> None:
        """Have it run now.

        Where it still runs, a tick is counted as missed, and not made up for. What has happened is kept, once, for the next run.
        """
        with self._wake:
            if self.hook.is_on_a_clock() and (self._busy or self._reasons):
                self._missed += 1
                return
            self._reasons.add(reasons or ("",))
            self.runs += 1
            self._wake.notify()

    def end(self) -> None:
        """Have the thread end, once it has done what it was told to."""
        with self._wake:
            self._over = True
            self._wake.notify()

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._reasons:
                    if self._over:
                        return
                    self._wake.wait()
                reason, self._busy = self._reasons.take(), True
            self._run(reason)
            with self._wake:
                self._busy, missed, self._missed = False, self._missed, 0
            if missed and self.hook.kind != "readiness":
                log.write(f"{self.hook.where}: {self.hook.kind} hook: was busy, and has missed {missed}", "warning")

    def _run(self, reason: object) -> None:
        """Call the hook. What it raises is logged and ends nothing."""
        supervisor = os.getpid()
        result: object = None
        try:
            result = _call(self.hook, self._base, reason)
        except BaseException as error:  # SystemExit too, which would end the thread
            explain(self.hook, error)
        log.flush_prints()
        if os.getpid() != supervisor:
            os._exit(0)  # the hook has forked, and this is the copy, which must not go on as a supervisor
        if result:
            self._on_true(self)


def _call(hook: BackgroundHook, base: ContainerView, reason: object) -> object:
    function = hook.function
    code = getattr(function, "__code__", None)
    arguments: tuple[object, ...] = (base,)
    if hook.kind == "readiness":
        arguments = (base, hook.port is None or listens(base.pid, hook.port))
    elif hook.kind == "watch" or (
        hook.kind == "signal" and code and (code.co_argcount > 1 or code.co_flags & _VARIADIC)
    ):
        arguments = (base, reason)
    result = function(*arguments)
    if code and code.co_flags & _COROUTINE:
        import asyncio

        return asyncio.run(result)  # type: ignore[arg-type]
    return result


class Schedule:
    """All background hooks of a container, and the timer that tells when the next is due.

    `timer` and `notice` are to be polled: `expire` and `take_notice` are called when they are readable. `on_ready` is
    called once, when every readiness hook has returned true; `on_timeout` for each that has not in its time.
    """

    def __init__(
        self,
        hooks: tuple[BackgroundHook, ...],
        base: ContainerView,
        on_ready: Callable[[], None],
        on_timeout: Callable[[BackgroundHook], None],
    ) -> None:
        sys.setswitchinterval(_SWITCH_INTERVAL)
        self.timer = timer.make_timer()
        self.notice = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._on_ready, self._on_timeout = on_ready, on_timeout
        self.events: dict[int, tuple[MemoryEvent, Worker]] = {}  # to be polled, too
        self._watchers: list[Watcher] = []
        self._signals: dict[int, list[Worker]] = {}
        self._waiting: set[Worker] = set()  # of readiness hooks that have not returned true yet
        self._ready: list[Worker] = []  # those that just have, put here by their threads
        self._order = 0
        self._due: list[tuple[float, int, Callable[[float], float | None]]] = []
        self._workers: list[Worker] = []
        try:
            for hook in hooks:
                self._workers.append(Worker(hook, base, self._note_true))
            for worker in self._workers:
                self._listen(worker, base)
        except BaseException:
            self.end()
            raise

    def _listen(self, worker: Worker, base: ContainerView) -> None:
        """Have a hook hear what comes from elsewhere than a clock, from now on."""
        hook = worker.hook
        for signal in hook.signals:
            self._signals.setdefault(signal, []).append(worker)
        if hook.cron is not None:
            _next_cron(hook.cron)  # what that takes is loaded now
        if hook.event is not None:
            path = next(path for path in base.cgroup.paths if os.path.exists(f"{path}/memory.stat"))
            event = MemoryEvent(path, hook.event, hook.level)
            self.events[event.descriptor] = (event, worker)
        if hook.patterns:
            from hakoniwa.run.hooks.watch import Watcher

            self._watchers.append(Watcher(hook.patterns, hook.debounce, lambda paths: worker.fire(*paths)))

    def begin(self) -> None:
        """Start the clocks, and wait for readiness."""
        now = time.monotonic()
        for worker in self._workers:
            self._start_clock(worker, now)
        self._set()
        if not self._waiting:
            self._on_ready()

    def _start_clock(self, worker: Worker, now: float) -> None:
        hook = worker.hook
        if hook.kind == "readiness":
            self._waiting.add(worker)
            self._push(now + hook.timeout, lambda _: self._give_up(worker))
        if hook.cron is not None:
            self._push(_next_cron(hook.cron), lambda moment: self._tick(worker, moment))
        elif hook.is_on_a_clock():
            self._push(now + hook.delay, lambda moment: self._tick(worker, moment))

    def _push(self, moment: float, action: Callable[[float], float | None]) -> None:
        self._order += 1  # so that two of one moment are not compared by their actions
        heapq.heappush(self._due, (moment, self._order, action))

    def _set(self) -> None:
        timer.set_timer(self.timer, self._due[0][0] if self._due else None)

    def expire(self) -> None:
        """Do what is due."""
        timer.take_expiration(self.timer)
        while self._due and self._due[0][0] <= time.monotonic():
            moment, _, action = heapq.heappop(self._due)
            try:
                following = action(moment)
                if following is not None:
                    self._push(following, action)
            except BaseException:
                self._set()  # for those that are left
                raise
        self._set()

    def _tick(self, worker: Worker, moment: float) -> float | None:
        """Fire a hook that was due at `moment`. Returns when it is due next: counted from then, so that nothing drifts."""
        hook = worker.hook
        if hook.kind == "readiness" and worker not in self._waiting:
            return None
        worker.fire()
        if hook.cron is not None:
            return _next_cron(hook.cron)
        if hook.interval is None or (hook.limit is not None and worker.runs >= hook.limit):
            return None
        # Ticks that have passed while this process was stopped are passed over.
        behind = max(0, int((time.monotonic() - moment) / hook.interval))
        return moment + (behind + 1) * hook.interval

    def _give_up(self, worker: Worker) -> None:
        if worker in self._waiting:
            self._waiting.discard(worker)
            self._on_timeout(worker.hook)

    def _note_true(self, worker: Worker) -> None:
        """A hook has returned true; called in its thread."""
        if worker.hook.kind == "readiness":
            self._ready.append(worker)
            try:
                os.eventfd_write(self.notice, 1)
            except OSError:
                pass  # the schedule was replaced in the meantime

    def take_notice(self) -> None:
        """Take what threads have noted."""
        os.eventfd_read(self.notice)
        while self._ready:
            worker = self._ready.pop()
            if worker in self._waiting:
                self._waiting.discard(worker)
                if not self._waiting:
                    self._on_ready()

    def end(self) -> None:
        """Stop every clock, ear and thread, and close what was polled."""
        for watcher in self._watchers:
            watcher.end()
        for worker in self._workers:
            worker.end()
        for descriptor in self.descriptors():
            os.close(descriptor)

    def descriptors(self) -> list[int]:
        """What is to be polled."""
        return [self.timer, self.notice, *self.events]

    def take_event(self, descriptor: int) -> None:
        """Fire the hook of a cgroup event, if it is one."""
        event, worker = self.events[descriptor]
        if event.happened():
            worker.fire()

    def signal(self, number: int, name: str) -> None:
        """Fire the handlers of a signal."""
        for worker in self._signals.get(number, ()):
            worker.fire(name)


def _next_cron(expression: str) -> float:
    """The next time of a cron expression, as a moment of `time.monotonic()`. The wall clock is looked at each time."""
    from datetime import datetime

    from cronsim import CronSim

    now = datetime.now()
    return time.monotonic() + max(0.001, (next(CronSim(expression, now)) - now).total_seconds())
