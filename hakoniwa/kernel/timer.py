"""A timer that a poll can wait on, finer than the milliseconds of poll itself. `man 2 timerfd_create`."""

from __future__ import annotations

import os

from hakoniwa.kernel.libc import call

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1  # TFD_TIMER_ABSTIME


def make_timer() -> int:
    """A timer of the monotonic clock, not set."""
    return call("timerfd_create", _CLOCK_MONOTONIC, os.O_CLOEXEC | os.O_NONBLOCK)


def set_timer(timer: int, moment: float | None) -> None:
    """Have it expire at a moment of `time.monotonic()`, or never. A moment that has passed is at once."""
    nanoseconds = 0 if moment is None else max(1, round(moment * 1e9))
    seconds, rest = divmod(nanoseconds, 10**9)
    once_then = (0, 0, seconds, rest)
    record = b"".join(value.to_bytes(8, "little") for value in once_then)
    call("timerfd_settime", timer, _ABSOLUTE, record, None)


def take_expiration(timer: int) -> None:
    """Read the timer, so that it is not ready any more."""
    try:
        os.read(timer, 8)
    except BlockingIOError:
        pass
