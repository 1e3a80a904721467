"""The execution of a container file beside a running container: in a thread of its own, which is given up after a while.

A thread cannot be ended from outside. One that executes Python is sent an exception; one that waits for something (a lock, a
server) stays until that comes. So few of them may be left behind, and none keeps a later reload waiting.
"""

from __future__ import annotations

import threading

from hakoniwa.errors import HakoError
from hakoniwa.haco.loader import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec.records import Barn

LONGEST = 30.0  # seconds that a file may take, as a general hook may
_MOST_LEFT = 4  # threads that were given up, and have not ended


class _GivenUp(BaseException):
    """Not an Exception, so that a file's own `except Exception` does not swallow it."""


class Loader:
    """Executes a file again and again."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._left: list[threading.Thread] = []

    def load(self) -> Barn:
        """What the file says now. Raises HakoError, also when it does not come to its end."""
        self._left = [thread for thread in self._left if thread.is_alive()]
        if len(self._left) >= _MOST_LEFT:
            told = f"{len(self._left)} earlier reloads have not come to an end of this file"
            raise HakoError(told, where=self._file, hint="restart the container")
        execution = _Execution(self._file)
        execution.start()
        execution.join(LONGEST)
        if execution.is_alive():
            from hakoniwa.kernel.libc import raise_in_thread

            self._left.append(execution)
            raise_in_thread(execution.ident or 0, _GivenUp)
            told = f"the file has not come to its end after {LONGEST:g} s"
            raise HakoError(told, where=self._file, hint="nothing has changed; what does it wait for?")
        if execution.error is not None:
            raise execution.error
        assert execution.barn is not None
        return execution.barn


class _Execution(threading.Thread):
    """One execution: what has come of it."""

    def __init__(self, file: str) -> None:
        super().__init__(daemon=True)
        self._file = file
        self.barn: Barn | None = None
        self.error: HakoError | None = None

    def run(self) -> None:
        try:
            self.barn = load(self._file, "reload")
        except HakoError as error:
            self.error = error
        except BaseException as error:
            self.error = HakoError(f"{type(error).__name__}: {error}", where=self._file)
