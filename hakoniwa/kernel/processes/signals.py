"""Signals without the `signal` module, whose enums cost two thirds of an interpreter start.

`_signal` is the C module that `signal` wraps: the same functions, with plain integers.
"""

from __future__ import annotations

from _signal import (
    ITIMER_REAL,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    SIGALRM,
    SIGCHLD,
    SIGCONT,
    SIGHUP,
    SIGINT,
    SIGKILL,
    SIGQUIT,
    SIGTERM,
    SIGTTOU,
    SIGWINCH,
    default_int_handler,
    getsignal,
    pidfd_send_signal,
    pthread_sigmask,
    set_wakeup_fd,
    setitimer,
    signal,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

__all__ = [
    "ENDING",
    "ITIMER_REAL",
    "SIGALRM",
    "SIGCHLD",
    "SIGCONT",
    "SIGHUP",
    "SIGINT",
    "SIGKILL",
    "SIGQUIT",
    "SIGTERM",
    "SIGTTOU",
    "SIGWINCH",
    "SIG_DFL",
    "SIG_IGN",
    "Interrupted",
    "Undoing",
    "begin",
    "block",
    "by_name",
    "ending",
    "ignore",
    "listen",
    "pidfd_send_signal",
    "put_back",
    "reset_all",
    "setitimer",
    "signal",
    "take",
    "unblock",
]

ENDING = (SIGTERM, SIGINT, SIGHUP, SIGQUIT)  # what asks a process to end
_LAST = 64
_INTERNAL = (32, 33)  # SIGCANCEL and SIGSETXID
_RT_SIGACTION = {"x86_64": 13, "aarch64": 134}  # asm/unistd_64.h, asm-generic/unistd.h

_arrived: dict[int, None] = {}  # since they were last taken, in their order
_heard: tuple[int, int, tuple[int, ...]] | None = None  # the pipe and the signals of `listen`


def begin() -> None:
    """Undo what a caller has handed down that would lose signals: a mask, and SIGCHLD ignored. `man 7 signal`, execve.

    As long as nothing was made, INT ends this process as TERM does. An exception, which is what Python makes of it, would
    be lost in whatever catches it.
    """
    signal(SIGCHLD, SIG_DFL)  # ignored, it takes the exit status of a child away
    if getsignal(SIGINT) is default_int_handler:
        signal(SIGINT, SIG_DFL)
    pthread_sigmask(SIG_SETMASK, ())


def ending() -> tuple[int, ...]:
    """What asks this process to end: TERM, and those of INT, HUP and QUIT that its caller does not have ignored.

    A caller does that to have it go on: `nohup`, or `&` of a script.
    """
    return tuple(number for number in ENDING if number == SIGTERM or getsignal(number) != SIG_IGN)


def listen(numbers: tuple[int, ...]) -> int:
    """Have these signals noted for `take`, and block none: a descriptor that is readable when there are any.

    A byte is written to a pipe for each. It may be full, so the bytes only wake; `take` has the signals.
    """
    global _heard
    import os

    _arrived.clear()
    receiver, sender = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before, _heard = _heard, (receiver, sender, numbers)
    put_back()
    if before is not None:  # of the process that has forked this one
        os.close(before[0])
        os.close(before[1])
    return receiver


def take(receiver: int) -> list[int]:
    """The signals that have arrived, each once however often it came."""
    import os

    try:
        os.read(receiver, 4096)
    except BlockingIOError:
        pass
    numbers = list(_arrived)
    for number in numbers:
        del _arrived[number]
    return numbers


def _wake(sender: int) -> None:
    import os

    try:
        os.write(sender, b".")
    except BlockingIOError:
        pass


def _note(number: int, _frame: object) -> None:
    _arrived[number] = None


def put_back() -> None:
    """Undo what a function of the file's has done to signals: have those of `listen` noted, and none blocked.

    In a process on its way to a program, where none are, that is `reset_all`.
    """
    if _heard is None:
        reset_all()
        return
    set_wakeup_fd(_heard[1], warn_on_full_buffer=False)
    for number in _heard[2]:
        signal(number, _note)
    pthread_sigmask(SIG_SETMASK, ())
    if _arrived:
        _wake(_heard[1])  # they may have come while the bytes went elsewhere


def block() -> None:
    """Keep what asks to end back until the next `listen`: around a fork, after which both sides have to get ready."""
    pthread_sigmask(SIG_BLOCK, ENDING)


def unblock() -> None:
    """Let come what was kept back."""
    pthread_sigmask(SIG_SETMASK, ())


def ignore(numbers: tuple[int, ...]) -> None:
    """Pay no attention to these from now on."""
    for number in numbers:
        signal(number, SIG_IGN)


class Interrupted(KeyboardInterrupt):
    """This process was asked to end by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Undoing:
    """While it is entered, what asks to end raises `Interrupted`, so that what was begun is undone on the way out.

    Further such signals do not disturb that. The exception is raised at the end where something has swallowed it.
    """

    def __enter__(self) -> Undoing:
        self._number = 0
        self._before: dict[int, Any] = {number: getsignal(number) for number in ending()}
        for number in self._before:
            signal(number, self._raise)
        return self

    def _raise(self, number: int, _frame: object) -> None:
        ignore(ENDING)
        self._number = number
        raise Interrupted(number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal(number, before)
        if self._number and not isinstance(error, Interrupted):
            raise Interrupted(self._number) from error


def reset_all() -> None:
    """Give every signal its default action and block none, as an executed program expects.

    Python ignores SIGPIPE and SIGXFSZ, and a caller may have handed down other ignored ones (`man 7 signal`, execve). Python
    has looked at all of them when it began, so that only those that have another action cost a call.
    """
    global _heard
    _heard = None
    set_wakeup_fd(-1)
    for number in range(1, _LAST + 1):
        # KILL and STOP cannot be changed
        if number not in _INTERNAL and getsignal(number) != SIG_DFL and number not in (SIGKILL, 19):
            signal(number, SIG_DFL)
    _reset_internal()
    pthread_sigmask(SIG_SETMASK, ())


def _reset_internal() -> None:
    """The two signals that the C library keeps to itself. Its `posix_spawn` (glibc 2.36, called by make) hands them down ignored."""
    import os

    from hakoniwa.kernel.libc import syscall

    call = _RT_SIGACTION.get(os.uname().machine)
    if call is None:
        return  # the trampoline is not written for that machine either
    for number in _INTERNAL:
        syscall(call, number, bytes(32), None, 8)  # a struct sigaction of zeros: the default


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
