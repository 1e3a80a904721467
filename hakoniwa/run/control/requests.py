"""Requests to a supervisor through its control socket: heard by threads, done by the main one.

The socket is there once the container is held or runs. What a command does is given by name.

Beside it is a FIFO, by which a `kill` hears that all is undone, and need not wait until the memory of the supervisor is freed:
that takes as long as all that it does at the end. Nobody but the supervisor writes to it, and that is its last act.
"""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError, explained, nearest
from hakoniwa.known import OVER
from hakoniwa.log import flush_prints
from hakoniwa.places import folder_of
from hakoniwa.run.control.protocol import Control

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from hakoniwa.run.control.messages import Answer
    from hakoniwa.run.loop import Loop
    from hakoniwa.run.start.undo import Undo

    Result = TypeVar("Result")

_BUSY = 60.0  # seconds that a request waits for the main thread, which may be at a hook


class Call:
    """Something that the main thread is to do, on its way there; and what came of it, on its way back."""

    def __init__(self, action: Callable[[], Any]) -> None:
        import threading

        self.done = threading.Event()
        self.result: Any = None
        self.error: HakoError | None = None
        self._action = action

    def make(self) -> None:
        """Do it; called by the main thread."""
        try:
            self.result = self._action()
        except HakoError as error:
            self.error = error
        except Exception as error:  # whatever it meets, the container goes on
            self.error = HakoError(explained(error))
        self.done.set()


class Requests:
    """The control socket of one supervisor. An answer is called in the thread of its connection."""

    def __init__(self, name: str, undo: Undo) -> None:
        """Open the socket. Who connects waits until we `listen`. Raises HakoError."""
        self._name = name
        self._answers: dict[str, Callable[[], Answer]] = {}
        self._calls: list[Call] = []
        self._listens = False
        self._notice = self._over = -1  # an eventfd: there are calls; and the FIFO
        try:
            self._notice = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._over = _make_fifo(name)
            self._control = Control(name, self.ask)
        except OSError as error:
            for made in (self._notice, self._over):
                if made != -1:
                    os.close(made)
            _remove_fifo(name)
            raise HakoError(f"cannot make the control socket of {name!r}: {error.strerror}") from None
        undo.add("remove the control socket", self._end)

    def answer(self, command: str, answer: Callable[[], Answer]) -> None:
        """Have a command answered so. A HakoError that it raises is the answer, too."""
        self._answers[command] = answer

    def descriptors(self) -> list[int]:
        """Those that are open for it."""
        return [self._notice, self._over, self._control.descriptor]

    def let_go(self) -> None:
        """Close them, in a process that is not the supervisor."""
        os.close(self._notice)
        os.close(self._over)
        self._control.close()

    def tell_over(self) -> None:
        """Tell who waits for it that nothing is left to do: everything is undone, and no lock is held."""
        os.write(self._over, b".")

    def listen(self, loop: Loop) -> None:
        """Take requests, unless they are taken already."""
        if self._listens:
            return
        self._listens = True
        loop.add(self._notice, self._serve, "do what was requested")
        loop.add(self._control.descriptor, self._control.accept, "take a request")

    def ask(self, command: str) -> Answer:
        """The answer to a request. Raises HakoError if it cannot be done."""
        answer = self._answers.get(command)
        if answer is None:
            raise HakoError(f"unknown command {command!r}", hint=nearest(command, [*self._answers]))
        try:
            return answer()
        except HakoError:
            raise
        except Exception as error:
            raise HakoError(explained(error)) from None
        finally:
            flush_prints()

    def call(self, action: Callable[[], Result]) -> Result:
        """Have the main thread do something. Returns what that returns, and raises the HakoError that it raises."""
        call = Call(action)
        self._calls.append(call)
        os.eventfd_write(self._notice, 1)
        if not call.done.wait(_BUSY):
            try:
                self._calls.remove(call)
            except ValueError:
                call.done.wait()  # it is being done
            else:
                raise HakoError("the supervisor is busy, and nothing has changed", hint="is a hook at work? try again")
        if call.error is not None:
            raise call.error
        result: Result = call.result
        return result

    def _serve(self) -> None:
        os.eventfd_read(self._notice)
        while self._calls:
            self._calls.pop(0).make()

    def _end(self) -> None:
        self._control.close()  # and not removed alone: the last that is written may need its descriptor
        self._control.remove(self._name)
        _remove_fifo(self._name)


def _make_fifo(name: str) -> int:
    """A FIFO in the place of what a killed supervisor has left, open to write to it whether anybody reads or not."""
    _remove_fifo(name)
    path = os.path.join(folder_of(name), OVER)
    os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)


def _remove_fifo(name: str) -> None:
    try:
        os.unlink(os.path.join(folder_of(name), OVER))
    except FileNotFoundError:
        pass
