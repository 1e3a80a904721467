"""The front process of an interactive container: it alone owns the user's terminal, and passes bytes to and from the pty."""

from __future__ import annotations

import os
import select

from hakoniwa.kernel import descriptors, terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hakoniwa.run.loop import Loop

_CHUNK = 65536


class UserTerminal:
    """The user's terminal while a container (or an attached command) has it.

    `streams` are those of 0, 1, 2 that are terminals. The pty's master arrives through the socket pair of
    `open_channel`.
    """

    def __init__(self, streams: tuple[int, ...]) -> None:
        self.terminal = streams[0]
        self._input = 0 if 0 in streams else None
        self._output = 1 if 1 in streams else 2 if 2 in streams else 0
        self.saved: list[Any] = terminal.settings(self.terminal)
        self._ours, self.theirs = descriptors.open_pair()
        self._master = -1
        self._pending = b""  # typed, and not taken by the pty yet
        self._raw = False
        self._notes = self.notes = -1  # the ends of a pipe: what others have to say on the terminal meanwhile

    def open_notes(self) -> None:
        """Take notes from a process that is given the other end of a pipe, `notes`."""
        self._notes, self.notes = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._notes, False)

    def close_theirs(self) -> None:
        """Let go of the other ends, once the process that uses them has been forked."""
        self.theirs.close()
        if self.notes != -1:
            os.close(self.notes)

    def restore(self) -> None:
        """Give the terminal back as it was."""
        terminal.restore(self.terminal, self.saved)

    def run(self, loop: Loop, done: Callable[[], bool] = lambda: False) -> None:
        """Pass bytes while `loop` runs, until something is `done`. Output that the pty still holds is passed on, too."""
        self._loop = loop
        try:
            loop.add(self._ours.fileno(), self._receive_master)
            if self._notes != -1:
                loop.add(self._notes, self._pass_notes)
            loop.run(done)
            self._drain()
        finally:
            self.restore()

    def _receive_master(self) -> None:
        received = descriptors.receive(self._ours)
        self._loop.drop(self._ours.fileno())
        self._ours.close()
        if received is None:
            return
        (self._master,) = received[1]
        os.set_blocking(self._master, False)
        if self._input is not None:
            terminal.make_raw(self.terminal)
            self._raw = True
        self.resize()
        self._await_bytes()

    def _await_bytes(self) -> None:
        """Wait for what can be passed on now: no more input is taken before the pty has what was typed."""
        self._loop.drop(0)
        if self._master == -1:
            return
        self._loop.add(self._master, self._serve_master, mask=select.POLLIN | (select.POLLOUT if self._pending else 0))
        if self._input is not None and not self._pending:
            self._loop.add(self._input, self._take_input)

    def _serve_master(self) -> None:
        self._pass_output()
        if self._pending:
            self._give_input()

    def resize(self) -> None:
        """Give the pty the size of the terminal, as it is now."""
        if self._master != -1:
            terminal.copy_size(self.terminal, self._master)

    def _pass_output(self) -> bool:
        """Pass on what there is. False when there is none, or nobody is left to write any."""
        if self._master == -1:
            return False
        try:
            output = os.read(self._master, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # EIO: the last process that had the terminal open has closed it
            self._close_master()
            return False
        _show(self._output, output)
        return True

    def _pass_notes(self) -> bool:
        """Show what others have to say. False when that is nothing. A raw terminal goes to no new line's begin by itself."""
        if self._notes == -1:
            return False
        try:
            said = os.read(self._notes, _CHUNK)
        except BlockingIOError:
            return False
        if not said:
            self._loop.drop(self._notes)
            os.close(self._notes)
            self._notes = -1
            return False
        _show(self._output, said.replace(b"\n", b"\r\n") if self._raw else said)
        return True

    def _take_input(self) -> None:
        try:
            self._pending = os.read(0, _CHUNK)
        except OSError:
            self._pending = b""
        if not self._pending:
            self._input = None  # the terminal has hung up
        self._give_input()

    def _give_input(self) -> None:
        try:
            if self._pending and self._master != -1:
                self._pending = self._pending[os.write(self._master, self._pending) :]
        except BlockingIOError:
            pass
        except OSError:
            self._close_master()
        self._await_bytes()

    def _drain(self) -> None:
        """Output that was written before the end is not lost; reading asks the kernel to move it over (pty(7))."""
        while self._pass_notes() or self._pass_output():
            pass
        if self._master != -1:
            self._close_master()

    def _close_master(self) -> None:
        self._loop.drop(self._master)
        self._loop.drop(0)
        os.close(self._master)
        self._master = -1


def _show(terminal: int, output: bytes) -> None:
    try:
        while output:
            output = output[os.write(terminal, output) :]
    except OSError:
        pass  # the user's terminal has hung up: the signal that says so ends the container


def terminal_type() -> str:
    """The caller's TERM, which describes the terminal that the container gets; nothing else of the host's goes inside."""
    term = os.environ.get("TERM", "")
    plain = term.isascii() and all(character.isalnum() or character in "-+._" for character in term)
    return term if term and plain else "dumb"
