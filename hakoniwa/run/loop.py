"""What a process waits for: descriptors, moments and signals, each with what is done then.

The loop of a supervisor outlives whatever goes wrong in that (no descriptor is left, no thread can be started, the disk is
full): it is logged, and the container goes on. A descriptor that is ready because of what could not be done is left alone for a
while, so that it keeps no processor busy. Any other loop ends with the exception.
"""

from __future__ import annotations

import select
import time

from hakoniwa import log
from hakoniwa.errors import explained
from hakoniwa.kernel.processes import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Action = Callable[[], object]

_LONGEST_REST = 60.0  # seconds
_LOOK = 0.1  # seconds


class Awaited:
    """A descriptor or a moment, and what is done when it is ready or has come. `what` completes "cannot ..."."""

    def __init__(self, action: Action, what: str, mask: int = 0, moment: float = 0.0) -> None:
        self.action = action
        self.what = what
        self.mask = mask
        self.moment = moment
        self.failures = 0  # in a row
        self.rests = False


class Loop:
    """All that one process waits for. `survivor` is the name of the container whose supervisor goes on after failures."""

    def __init__(self, survivor: str = "") -> None:
        self._survivor = survivor
        self._poll = select.poll()
        self._descriptors: dict[int, Awaited] = {}
        self._moments: list[Awaited] = []
        self._stopped = False
        self._failing = False  # it cannot even be waited

    def add(self, descriptor: int, action: Action, what: str = "", mask: int = select.POLLIN) -> None:
        """Wait for a descriptor, too, or for something else of it than before."""
        self._descriptors[descriptor] = Awaited(action, what, mask)
        self._poll.register(descriptor, mask)

    def drop(self, descriptor: int) -> None:
        """Wait for a descriptor no more, if it is waited for."""
        source = self._descriptors.pop(descriptor, None)
        if source is not None and not source.rests:
            self._poll.unregister(descriptor)

    def after(self, seconds: float, action: Action, what: str = "") -> Awaited:
        """Do something once, when so much time has passed, unless it is cancelled before."""
        awaited = Awaited(action, what, moment=time.monotonic() + seconds)
        self._moments.append(awaited)
        return awaited

    def cancel(self, awaited: Awaited | None) -> None:
        """Do nothing at that moment, if it has not come yet."""
        if awaited in self._moments:
            self._moments.remove(awaited)

    def hear(self, wakeup: int, action: Callable[[int], object]) -> None:
        """Hand over each signal, in their order; `wakeup` is what `signals.listen` gave."""

        def take() -> None:
            for number in signals.take(wakeup):
                self._do(lambda number=number: action(number), f"do what signal {number} asks for")  # type: ignore[misc]

        self.add(wakeup, take, "take signals")

    def run(self, done: Callable[[], bool] = lambda: False) -> None:
        """Wait, and do what is to be done, until `stop`, or until something is `done`."""
        self._stopped = False
        while not (self._stopped or done()):
            for descriptor, source in self._wait():
                if self._descriptors.get(descriptor) is source:  # unless another has dropped it just now
                    self._serve(descriptor, source)
            self._do_what_is_due()

    def stop(self) -> None:
        """Have `run` return once what is ready now is done."""
        self._stopped = True

    def attempt(self, what: str, action: Action) -> bool:
        """Do something that must not take the container down. False when it has failed, which is logged."""
        try:
            action()
        except Exception as error:
            log.write(f"{self._survivor}: cannot {what}: {explained(error)}", "error")
            return False
        return True

    def _do(self, action: Action, what: str) -> bool:
        if self._survivor:
            return self.attempt(what, action)
        action()
        return True

    def _wait(self) -> list[tuple[int, Awaited]]:
        """Sleep until something is ready or due. Returns what is ready."""
        longest = None
        if self._moments:
            first = min(awaited.moment for awaited in self._moments)
            longest = max(0.0, first - time.monotonic()) * 1000
        try:
            ready = [descriptor for descriptor, _ in self._poll.poll(longest)]
            self._failing = False
        except (OSError, MemoryError) as error:
            ready = self._look_at_each(error)
        return [(descriptor, self._descriptors[descriptor]) for descriptor in ready]

    def _do_what_is_due(self) -> None:
        if not self._moments:
            return
        now = time.monotonic()
        for awaited in [awaited for awaited in self._moments if awaited.moment <= now]:
            if awaited in self._moments:  # unless another has cancelled it just now
                self._moments.remove(awaited)
                self._do(awaited.action, awaited.what)

    def _serve(self, descriptor: int, source: Awaited) -> None:
        if self._do(source.action, source.what):
            source.failures = 0
            return
        source.failures += 1
        if source.failures > 1 and self._descriptors.get(descriptor) is source:
            source.rests = True
            self._poll.unregister(descriptor)
            self.after(min(_LONGEST_REST, 2.0 ** (source.failures - 2)), lambda: self._wake(descriptor, source))

    def _wake(self, descriptor: int, source: Awaited) -> None:
        if self._descriptors.get(descriptor) is source:
            source.rests = False
            self._poll.register(descriptor, source.mask)

    def _look_at_each(self, error: Exception) -> list[int]:
        """What is ready, when the kernel does not wait for all: RLIMIT_NOFILE has become less than they are (`man 2 poll`)."""
        if not self._survivor:
            raise error
        if not self._failing:
            self._failing = True
            log.write(f"{self._survivor}: cannot wait for what happens, and looks for it: {explained(error)}", "error")
        time.sleep(_LOOK)
        ready = []
        for descriptor, source in self._descriptors.items():
            if source.rests:
                continue
            one = select.poll()
            one.register(descriptor, source.mask)
            try:
                if one.poll(0):
                    ready.append(descriptor)
            except (OSError, MemoryError):
                continue
        return ready
