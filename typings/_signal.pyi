from collections.abc import Callable, Iterable

Handler = Callable[[int, object], object] | int | None

ITIMER_REAL: int
SIG_BLOCK: int
SIG_DFL: int
SIG_IGN: int
SIG_SETMASK: int
SIGALRM: int
SIGCHLD: int
SIGCONT: int
SIGHUP: int
SIGINT: int
SIGKILL: int
SIGQUIT: int
SIGTERM: int
SIGTTOU: int
SIGWINCH: int

def default_int_handler(number: int, frame: object, /) -> None: ...
def getsignal(number: int, /) -> Handler: ...
def pidfd_send_signal(pidfd: int, number: int, /) -> None: ...
def pthread_sigmask(how: int, mask: Iterable[int], /) -> object: ...
def set_wakeup_fd(fd: int, /, *, warn_on_full_buffer: bool = True) -> int: ...
def setitimer(which: int, seconds: float, interval: float = 0, /) -> tuple[float, float]: ...
def signal(number: int, handler: Handler, /) -> Handler: ...
