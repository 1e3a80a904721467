"""The hooks beside a container, as its supervisor has them: heard by its loop, replaced by a reload, ready or not."""

from __future__ import annotations

from hakoniwa import log
from hakoniwa.errors import HakoError, explained
from hakoniwa.run.hooks.background import Schedule
from hakoniwa.spec.records import HOOK_SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hakoniwa.run.hooks.view import ContainerView
    from hakoniwa.run.loop import Loop
    from hakoniwa.spec.records import BackgroundHook


class HooksBeside:
    """Those that are in force now.

    `on_ready` is called when all readiness hooks have returned true, `on_late` when one has not in its time; it returns whether
    that is seen to.
    """

    def __init__(
        self,
        base: ContainerView,
        loop: Loop,
        on_ready: Callable[[], None],
        on_late: Callable[[HakoError], bool],
    ) -> None:
        self._base = base
        self._loop = loop
        self._on_ready = on_ready
        self._on_late = on_late
        self._schedule: Schedule | None = None

    def listen(self, hooks: tuple[BackgroundHook, ...]) -> None:
        """Have these hooks hear what happens from now on; their clocks stand until `begin`. Raises HakoError."""
        try:
            schedule = Schedule(hooks, self._base, self._on_ready, self._not_ready)
        except (OSError, RuntimeError) as error:  # RuntimeError: no thread can be started
            told = f"cannot have hooks beside the container: {explained(error)}"
            raise HakoError(told, where=hooks[0].where, hint="is the number of files or processes limited?") from None
        self._schedule = schedule
        self._loop.add(schedule.timer, schedule.expire, "run hooks that are due")
        self._loop.add(schedule.notice, schedule.take_notice, "take what hooks tell")
        for descriptor, (event, _) in schedule.events.items():
            take = lambda descriptor=descriptor: schedule.take_event(descriptor)  # noqa: E731
            self._loop.add(descriptor, take, "take an event of a cgroup", event.mask)

    def begin(self) -> None:
        """Start their clocks."""
        if self._schedule is not None:
            self._schedule.begin()

    def replace(self, hooks: tuple[BackgroundHook, ...]) -> None:
        """Have these hooks beside the container, and no others. Raises HakoError; then it has those that it had."""
        before = self._schedule
        if hooks:
            self.listen(hooks)
        else:
            self._schedule = None
        if before is not None:
            for descriptor in before.descriptors():
                self._loop.drop(descriptor)
            before.end()
        self.begin()

    def signal(self, number: int) -> None:
        """Run the handlers of a signal."""
        if self._schedule is not None:
            names = {value: name for name, value in HOOK_SIGNALS.items()}
            self._schedule.signal(number, names.get(number, str(number)))

    def _not_ready(self, hook: BackgroundHook) -> None:
        """A readiness hook's time is up."""
        error = HakoError(f"the container was not ready after {hook.timeout:g} s", where=hook.where)
        if not self._on_late(error):
            log.write(str(error), "warning")
