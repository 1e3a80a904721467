"""Run general hooks: in order, synchronously, for thirty seconds at most."""

from __future__ import annotations

import sys

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.haco.abort import Abort
from hakoniwa.kernel.processes.signals import ITIMER_REAL, SIG_DFL, SIGALRM, put_back, setitimer, signal
from hakoniwa.spec.records import Hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from hakoniwa.spec.records import BackgroundHook
LONGEST = 30.0  # seconds


class _TooLong(BaseException):
    """Not an Exception, so that a hook's own `except Exception` does not swallow it."""


def run_hooks(hooks: Iterable[Hook], subject: object, *, may_refuse: bool, files: set[int] | None = None) -> None:
    """Call each hook with `subject`. What one raises is logged, with the lines of the file, and the next one runs.

    Where `may_refuse`, Haconiwa.Abort refuses the start: HakoError is raised. `files` are the descriptors that the
    container file has open: those that the hooks open and close are noted there.
    """
    if files is None:
        _call_each(hooks, subject, may_refuse=may_refuse)
        return
    from hakoniwa.kernel.descriptors import opened

    before = opened()
    _call_each(hooks, subject, may_refuse=may_refuse)
    after = opened()
    files.intersection_update(after)
    files.update(after - before)


def _call_each(hooks: Iterable[Hook], subject: object, *, may_refuse: bool) -> None:
    for hook in hooks:
        try:
            _call_in_time(hook, subject)
        except Abort as abort:
            if may_refuse:
                raise HakoError(f"the {hook.point} hook refused the start: {abort}", where=hook.where) from None
            log.write(f"{hook.where}: {hook.point} hook: too late to refuse the start: {abort}", "error")
        except _TooLong:
            log.write(f"{hook.where}: {hook.point} hook was stopped after {LONGEST:g} s", "error")
        except BaseException as error:  # SystemExit and KeyboardInterrupt of a hook too: it does not take us down
            explain(hook, error)
        log.flush_prints()


def print_by_line() -> None:
    """Have each line that hooks print written when it is complete, whatever standard output is."""
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(line_buffering=True)


def _call_in_time(hook: Hook, subject: object) -> None:
    def expire(_number: int, _frame: object) -> None:
        raise _TooLong

    signal(SIGALRM, expire)
    setitimer(ITIMER_REAL, LONGEST)
    try:
        hook.function(subject)
    finally:
        setitimer(ITIMER_REAL, 0)
        signal(SIGALRM, SIG_DFL)
        put_back()


def explain(hook: Hook | BackgroundHook, error: BaseException) -> None:
    """Log what a hook raised, and its traceback: the lines of users' code, without source text.

    `traceback` would load `linecache`, which reads files by name: inside the container those are others'.
    """
    name = hook.point if isinstance(hook, Hook) else hook.kind
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, ImportError | LookupError) and "at the top of the file" in str(error):
        what = str(error)
    log.write(f"{hook.where}: {name} hook: {what}", "error")
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename != __file__:
            log.write(f"  {code.co_filename}:{trace.tb_lineno} in {code.co_name}", "error")
        trace = trace.tb_next
