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
from hakoniwa.supervisor.hooks import explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec import BackgroundHook
    from hakoniwa.supervisor.base import Base

# How long a busy hook may keep the interpreter before another thread gets it: it bounds how late a timer is.
_SWITCH_INTERVAL = 0.0005
_COROUTINE = 0x80  # inspect.CO_COROUTINE
_VARIADIC = 0x04  # inspect.CO_VARARGS


class Worker:
    """The thread of one hook."""

    def __init__(self, hook: BackgroundHook, base: Base) -> None:
        self.hook = hook
        self.runs = 0  # as often as it was told to, busy times left out
        self._base = base
        self._wanted: str | None = None  # the reason to run: a signal's name, or ""
        self._wake = threading.Condition()
        self._busy = False
        self._missed = 0
        threading.Thread(target=self._work, daemon=True).start()

    def fire(self, reason: str = "") -> None:
        """Have it run now. Where it still runs, that is counted as missed, and not made up for."""
        with self._wake:
            if self._busy or self._wanted is not None:
                self._missed += 1
                return
            self._wanted = reason
            self.runs += 1
            self._wake.notify()

    def is_spent(self) -> bool:
        """Whether it has run as often as it is to."""
        return self.hook.limit is not None and self.runs >= self.hook.limit

    def _work(self) -> None:
        while True:
            with self._wake:
                while self._wanted is None:
                    self._wake.wait()
                reason, self._wanted, self._busy = self._wanted, None, True
            self._run(reason)
            with self._wake:
                self._busy, missed, self._missed = False, self._missed, 0
            if missed:
                log.write(f"{self.hook.where}: {self.hook.kind} hook: was busy, and has missed {missed}", "warning")

    def _run(self, reason: str) -> None:
        """Call the hook. What it raises is logged and ends nothing."""
        supervisor = os.getpid()
        try:
            _call(self.hook, self._base, reason)
        except BaseException as error:  # SystemExit too, which would end the thread
            explain(self.hook, error)
        if os.getpid() != supervisor:
            os._exit(0)  # the hook has forked, and this is the copy, which must not go on as a supervisor


def _call(hook: BackgroundHook, base: Base, reason: str) -> None:
    function = hook.function
    code = getattr(function, "__code__", None)
    wants_reason = hook.kind == "signal" and code and (code.co_argcount > 1 or code.co_flags & _VARIADIC)
    arguments = (base, reason) if wants_reason else (base,)
    if code and code.co_flags & _COROUTINE:
        import asyncio

        asyncio.run(function(*arguments))  # type: ignore[arg-type]
    else:
        function(*arguments)


class Schedule:
    """All background hooks of a container, and the timer that tells when the next is due."""

    def __init__(self, hooks: tuple[BackgroundHook, ...], base: Base) -> None:
        sys.setswitchinterval(_SWITCH_INTERVAL)
        self.timer = timer.make_timer()
        now = time.monotonic()
        self._signals: dict[int, list[Worker]] = {}
        self._due: list[tuple[float, int, Worker]] = []
        for number, hook in enumerate(hooks):
            worker = Worker(hook, base)
            for signal in hook.signals:
                self._signals.setdefault(signal, []).append(worker)
            if not hook.signals:
                heapq.heappush(self._due, (now + hook.delay, number, worker))
        self._set()

    def _set(self) -> None:
        timer.set_timer(self.timer, self._due[0][0] if self._due else None)

    def expire(self) -> None:
        """Fire what is due. The next time is counted from the last one that was due, so that nothing drifts."""
        timer.take_expiration(self.timer)
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            moment, number, worker = heapq.heappop(self._due)
            worker.fire()
            if worker.hook.interval is not None and not worker.is_spent():
                # Ticks that have passed while this process was stopped are passed over.
                behind = max(0, int((now - moment) / worker.hook.interval))
                heapq.heappush(self._due, (moment + (behind + 1) * worker.hook.interval, number, worker))
        self._set()

    def signal(self, number: int, name: str) -> None:
        """Fire the handlers of a signal."""
        for worker in self._signals.get(number, ()):
            worker.fire(name)
