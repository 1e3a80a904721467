"""What a supervisor waits for: descriptors, each with what is done when it is ready.

Whatever goes wrong in that (no descriptor is left, no thread can be started, the disk is full), the container goes on: it is
logged. A descriptor that is ready because of what could not be done is left alone for a while, so that it keeps no
processor busy.
"""

from __future__ import annotations

import select
import time

from hakoniwa import log
from hakoniwa.errors import HakoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Action = Callable[[], object]

_LONGEST_REST = 60.0  # seconds
_LOOK = 0.1  # seconds


class _Source:
    """A descriptor, and what is done with it."""

    def __init__(self, what: str, action: Action | None, mask: int) -> None:
        self.what = what
        self.action = action
        self.mask = mask
        self.failures = 0  # in a row
        self.until = 0.0  # when it is polled again, while it is left alone


class Loop:
    """The descriptors of a supervisor. `name` is the container's."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._poll = select.poll()
        self._sources: dict[int, _Source] = {}
        self._resting: set[int] = set()
        self._failing = False  # it cannot even be waited

    def add(self, descriptor: int, what: str = "", action: Action | None = None, mask: int = select.POLLIN) -> None:
        """Wait for a descriptor, too. `what` completes "cannot ..." when `action` fails; without one, `turn` only tells."""
        self._sources[descriptor] = _Source(what, action, mask)
        self._poll.register(descriptor, mask)

    def drop(self, descriptor: int) -> None:
        """Wait for it no more, where it is waited for."""
        if self._sources.pop(descriptor, None) is not None and descriptor not in self._resting:
            self._poll.unregister(descriptor)
        self._resting.discard(descriptor)

    def turn(self, longest: float | None = None) -> set[int]:
        """Sleep until something happens, for `longest` seconds at most, and do what it asks for. Returns what was ready."""
        self._wake_rested()
        times = [source.until - time.monotonic() for source in map(self._sources.__getitem__, self._resting)]
        if longest is not None:
            times.append(longest)
        try:
            ready = [descriptor for descriptor, _ in self._poll.poll(max(0.0, min(times)) * 1000 if times else None)]
            self._failing = False
        except (OSError, MemoryError) as error:
            ready = self._look_at_each(error)
        found = [(descriptor, self._sources[descriptor]) for descriptor in ready]
        for descriptor, source in found:
            if self._sources.get(descriptor) is source:  # unless another has dropped it just now
                self._serve(descriptor, source)
        return {descriptor for descriptor, _ in found}

    def _look_at_each(self, error: Exception) -> list[int]:
        """What is ready, where the kernel does not wait for all: RLIMIT_NOFILE has become less than they are (`man 2 poll`)."""
        if not self._failing:
            self._failing = True
            log.write(f"{self._name}: cannot wait for what happens, and looks for it: {explained(error)}", "error")
        time.sleep(_LOOK)
        ready = []
        for descriptor in self._sources.keys() - self._resting:
            one = select.poll()
            one.register(descriptor, self._sources[descriptor].mask)
            try:
                if one.poll(0):
                    ready.append(descriptor)
            except (OSError, MemoryError):
                continue
        return ready

    def attempt(self, what: str, action: Action) -> bool:
        """Do something that must not take the container down. False when it has failed, which is logged."""
        try:
            action()
        except Exception as error:
            log.write(f"{self._name}: cannot {what}: {explained(error)}", "error")
            return False
        return True

    def _serve(self, descriptor: int, source: _Source) -> None:
        if source.action is None:
            return
        if self.attempt(source.what, source.action):
            source.failures = 0
            return
        source.failures += 1
        if source.failures > 1 and self._sources.get(descriptor) is source:
            source.until = time.monotonic() + min(_LONGEST_REST, 2.0 ** (source.failures - 2))
            self._poll.unregister(descriptor)
            self._resting.add(descriptor)

    def _wake_rested(self) -> None:
        now = time.monotonic()
        for descriptor in [number for number in self._resting if self._sources[number].until <= now]:
            self._resting.discard(descriptor)
            self._poll.register(descriptor, self._sources[descriptor].mask)


def explained(error: Exception) -> str:
    """An exception in the words of a log."""
    if isinstance(error, HakoError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
