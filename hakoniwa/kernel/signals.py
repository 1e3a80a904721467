"""Signals without the `signal` module, whose enums cost two thirds of an interpreter start.

`_signal` is the C module that `signal` wraps: the same functions, with plain integers.
"""

from __future__ import annotations

from _signal import (
    ITIMER_REAL,
    SIG_DFL,
    SIG_IGN,
    SIGALRM,
    SIGCHLD,
    SIGHUP,
    SIGINT,
    SIGKILL,
    SIGQUIT,
    SIGTERM,
    SIGTTOU,
    SIGWINCH,
    pidfd_send_signal,
    set_wakeup_fd,
    setitimer,
    signal,
)

__all__ = [
    "ITIMER_REAL",
    "SIGALRM",
    "SIGCHLD",
    "SIGHUP",
    "SIGINT",
    "SIGKILL",
    "SIGQUIT",
    "SIGTERM",
    "SIGTTOU",
    "SIGWINCH",
    "SIG_DFL",
    "SIG_IGN",
    "by_name",
    "listen",
    "pidfd_send_signal",
    "reset_all",
    "set_wakeup_fd",
    "setitimer",
    "signal",
]

_LAST = 64


def listen(numbers: tuple[int, ...]) -> tuple[int, int]:
    """Have these signals written, a byte each, to a pipe that a poll can wait on: (read end, write end)."""
    import os

    receiver, sender = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    set_wakeup_fd(sender, warn_on_full_buffer=False)
    for number in numbers:
        signal(number, _nothing)
    return receiver, sender


def _nothing(_number: int, _frame: object) -> None:
    """A handler in Python, so that the interpreter writes the wake-up byte."""


def reset_all() -> None:
    """Give every signal its default action and block none, as an executed program expects.

    Python ignores SIGPIPE and SIGXFSZ, and a caller may have handed down other ignored ones (`man 7 signal`, execve).
    """
    from _signal import SIG_SETMASK, pthread_sigmask

    set_wakeup_fd(-1)
    for number in range(1, _LAST + 1):
        if number not in (9, 19, 32, 33):  # KILL and STOP cannot be changed; 32 and 33 belong to the C library
            signal(number, SIG_DFL)
    pthread_sigmask(SIG_SETMASK, ())


def by_name(text: str) -> int:
    """A signal's number from `TERM`, `SIGTERM` or `15`. Raises ValueError."""
    import signal as named

    word = text.upper().removeprefix("SIG")
    if word.isdecimal() and 1 <= int(word) <= _LAST:
        return int(word)
    try:
        return int(named.Signals[f"SIG{word}"])
    except KeyError:
        raise ValueError(text) from None


def names() -> list[str]:
    """What `by_name` knows, without `SIG`."""
    import signal as named

    return [item.name.removeprefix("SIG") for item in named.Signals]
