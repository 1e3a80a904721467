"""The words that register hooks: each is a decorator, or takes the function itself."""

from __future__ import annotations

from hakoniwa.errors import nearest
from hakoniwa.haco.reading import refuse, short
from hakoniwa.haco.sections.section import Section
from hakoniwa.spec.records import BARN_POINTS, HOOK_POINTS, HOOK_SIGNALS, BackgroundHook, Hook
from hakoniwa.spec.rules import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LATER_POINTS = ("before_restore", "after_restore")
# What the function of a hook takes, where that is not `base` alone.
_TAKEN = {"readiness": ("base, ok",), "watch": ("base, paths",), "signal": ("base", "base, sig")}


class HookWords(Section):
    """The hooks' part of `config`."""

    _parent: Section | None
    _hooks: list[Hook]
    _background_hooks: list[BackgroundHook]

    def add_general_hook(self, point: str, function: Callable[[Any], Any] | None = None) -> Callable[[Any], Any]:
        """Run the decorated function at a point of the container's life."""
        self._must_be_open()
        where = self._reading.here()
        if point in LATER_POINTS:
            refuse(self._reading, f"add_general_hook({point!r})")
        elif callable(point):
            told = "add_general_hook() needs the point at which the function is to run"
            self._reading.problem(told, '@config.add_general_hook("before_fork")')
            return point
        elif point not in HOOK_POINTS:
            hint = nearest(str(point), [*HOOK_POINTS, *LATER_POINTS])
            self._reading.problem(f"hook point {short(point)} is unknown", hint)
        elif point in BARN_POINTS:
            self._barn_only(f"the hook {point!r}")

        from hakoniwa.haco.functions import is_coroutine

        def add(function: Callable[[Any], Any]) -> None:
            self._reading.must_take(function, f"{point} hook", ("barn" if point in BARN_POINTS else "base",))
            if is_coroutine(function):
                told = f"a {point} hook cannot be an `async def`, which only starts when somebody waits for it"
                self._reading.problem(told, "asyncio.run() in a `def`, or add_async_hook()", where)
            self._hooks.append(Hook(point=point, function=function, where=where))

        return self._register(f"add_general_hook({short(point)})", function, add)

    def _barn_only(self, what: str) -> None:
        self._must_be_open()
        if self._parent is not None:
            self._reading.problem(f"{what} belongs to the barn", "write it outside config.define()")

    def add_async_hook(
        self,
        function: Callable[[Any], Any] | None = None,
        *,
        msec: float | None = None,
        sec: float | None = None,
        min: float | None = None,
        hour: float | None = None,
        interval_msec: float | None = None,
        limit_count: int | None = None,
    ) -> Callable[[Any], Any]:
        """Run the decorated function beside the container: once after the delay, or from then on at every interval."""
        every = {"msec": (msec, 0.001), "sec": (sec, 1), "min": (min, 60), "hour": (hour, 3600)}
        given = [(word, value, unit) for word, (value, unit) in every.items() if value is not None]
        if len(given) > 1:
            self._reading.problem("add_async_hook() takes one of msec=, sec=, min= and hour=")
        check = self._reading.check
        delays = [check(f"add_async_hook({word}=)", checks.duration, value, 0.0) * unit for word, value, unit in given]
        interval = None
        if interval_msec is not None:
            interval = check("add_async_hook(interval_msec=)", checks.interval, interval_msec, 1000.0) / 1000
        limit = None if limit_count is None else check("add_async_hook(limit_count=)", checks.count, limit_count)
        if limit is not None and interval is None:
            self._reading.problem("limit_count= means nothing without interval_msec=", "such a hook runs once")
        return self._background(function, kind="async", delay=sum(delays[:1]), interval=interval, limit=limit)

    after_spawn = add_async_hook  # haconiwa's older name

    def add_timer_hook(
        self, function: Callable[[Any], Any] | None = None, *, every: float | None = None, cron: str | None = None
    ) -> Callable[[Any], Any]:
        """Run the decorated function every so many seconds, or at the times of a cron expression."""
        if (every is None) == (cron is None):
            self._reading.stop("add_timer_hook() takes one of every= and cron=", 'every=SECONDS, or cron="*/5 * * * *"')
        if cron is not None:
            expression = self._reading.check("add_timer_hook(cron=)", checks.cron, cron)
            return self._background(function, kind="timer", delay=0.0, cron=expression)
        seconds = self._reading.check("add_timer_hook(every=)", checks.interval, every, 1.0)
        return self._background(function, kind="timer", delay=seconds, interval=seconds)

    def add_signal_handler(
        self, sig: str | list[str], function: Callable[..., Any] | None = None
    ) -> Callable[[Any], Any]:
        """Run the decorated function when the supervisor gets one of these signals: USR1, USR2, TTIN or TTOU."""
        if callable(sig):
            self._reading.stop("add_signal_handler() needs the signal", '@config.add_signal_handler("USR1")')
        names = self._reading.check(
            "add_signal_handler(sig)", checks.text_list, [sig] if isinstance(sig, str) else sig, ()
        )
        if isinstance(sig, list) and not sig:
            self._reading.problem("add_signal_handler() needs a signal", f"known: {' '.join(HOOK_SIGNALS)}")
        numbers = []
        for name in names:
            word = name.upper().removeprefix("SIG")
            if word in HOOK_SIGNALS:
                numbers.append(HOOK_SIGNALS[word])
            else:
                self._reading.problem(f"signal {short(name)} cannot have a handler", nearest(word, [*HOOK_SIGNALS]))
        return self._background(function, kind="signal", delay=0.0, signals=tuple(numbers))

    add_handler = add_signal_handler  # haconiwa's older name

    def add_readiness_hook(
        self,
        function: Callable[..., Any] | None = None,
        *,
        port: int | None = None,
        timeout: float = 1800,
        interval_msec: float = 100,
    ) -> Callable[[Any], Any]:
        """Run `function(base, ok)` until it returns true; `ok` says whether the TCP port is listened on inside."""
        check = self._reading.check
        if port is not None:
            port = check("add_readiness_hook(port=)", checks.port, port)
        longest = check("add_readiness_hook(timeout=)", checks.interval, timeout, 1.0)
        interval = check("add_readiness_hook(interval_msec=)", checks.interval, interval_msec, 1000.0) / 1000
        return self._background(function, kind="readiness", delay=0.0, interval=interval, port=port, timeout=longest)

    def add_cgroup_hook(
        self, function: Callable[[Any], Any] | None = None, *, type: str, level: str = "critical"
    ) -> Callable[[Any], Any]:
        """Run the decorated function when the container is short of memory, or has run out of it."""
        check = self._reading.check
        kind = check("add_cgroup_hook(type=)", checks.word_of("memory_pressure", "oom"), type)
        degree = check("add_cgroup_hook(level=)", checks.word_of("low", "medium", "critical"), level, "critical")
        return self._background(function, kind="cgroup", delay=0.0, event=kind, level=degree)

    def add_watch_hook(self, *globs: str, debounce_msec: float = 200) -> Callable[[Any], Any]:
        """Run `function(base, paths)` when files on the host change that match; relative to the container file."""
        check = self._reading.check
        if not globs:
            self._reading.problem("add_watch_hook() needs a pattern of paths", 'such as "src/**/*.py"')
        patterns = [check("add_watch_hook()", checks.path, pattern) for pattern in globs]
        quiet = check("add_watch_hook(debounce_msec=)", checks.duration, debounce_msec, 200.0) / 1000
        absolute = tuple(self._beside(pattern) for pattern in patterns if pattern)
        return self._background(None, kind="watch", delay=0.0, patterns=absolute, debounce=quiet)

    def _background(self, function: Callable[..., Any] | None, **facts: Any) -> Callable[[Any], Any]:
        """Register a hook beside the container."""
        self._must_be_open()
        where, kind = self._reading.here(), facts["kind"]
        facts = {"interval": None, "limit": None, "signals": (), **facts}

        def add(function: Callable[..., Any]) -> None:
            self._reading.must_take(function, f"{kind} hook", _TAKEN.get(kind, ("base",)))
            self._background_hooks.append(BackgroundHook(function=function, where=where, **facts))

        return self._register(f"the decorator of the {kind} hook", function, add)

    def _register(self, word: str, function: object, add: Callable[[Callable[..., Any]], None]) -> Callable[[Any], Any]:
        """Add a function, or return the decorator that does; one that decorates nothing is a problem in the end."""
        unused = (word, self._reading.here())

        def register(function: Any) -> Any:
            if not callable(function):
                hint = "keyword arguments: add_async_hook(sec=3)" if isinstance(function, dict) else ""
                self._reading.stop(f"a hook must be a function, not {short(function)}", hint)
            if unused in self._reading.unused:
                self._reading.unused.remove(unused)
            add(function)
            return function

        if function is not None:
            registered: Callable[[Any], Any] = register(function)
            return registered
        self._reading.unused.append(unused)
        return register
