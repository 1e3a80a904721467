"""The control socket of a barn: one request a connection, and one answer, whenever that is there.

It is served by the loop of the barn's process, which has no threads, for it forks; so nothing here waits. Who asks too slowly, or
too much, is let go of, and keeps nobody else waiting. The folder of the socket is closed to other users, and who connects is asked for
again (SO_PEERCRED).
"""

from __future__ import annotations

import _socket
import os
import select

from hakoniwa.errors import HakoError, explained
from hakoniwa.kernel.sockets import is_ours
from hakoniwa.run.barn.late.requests import LARGEST, Answer, read_request, refused, written_answer
from hakoniwa.run.barn.record import SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hakoniwa.run.barn.late.requests import Request
    from hakoniwa.run.loop import Loop

    Serve = Callable[[Request, "Visitor"], None]

PATIENCE = 5.0  # seconds for a request to arrive, and for an answer to be taken
_MOST_SILENT = 8  # that have not asked anything yet
_MOST = 256
_CHUNK = 1 << 16
_BACKLOG = 64


class Door:
    """The listening end."""

    def __init__(self, folder: str, loop: Loop, serve: Serve) -> None:
        """`serve` is called with each request and who asks; it may raise HakoError, and answer later. Raises OSError."""
        self.loop = loop
        self.serve = serve
        self.visitors: list[Visitor] = []
        self._socket = _socket.socket(
            _socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        )
        place = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                os.unlink(SOCKET, dir_fd=place)  # a killed process has left it
            except FileNotFoundError:
                pass
            self._socket.bind(f"/proc/self/fd/{place}/{SOCKET}")  # `sun_path` has 108 bytes (man 7 unix)
            self._socket.listen(_BACKLOG)
        finally:
            os.close(place)
        loop.add(self._socket.fileno(), self._accept, "take a connection")

    def close(self) -> None:
        """Let nobody in any more, and everybody go."""
        self.loop.drop(self._socket.fileno())
        for visitor in [*self.visitors]:
            visitor.leave()
        self._socket.close()

    def descriptors(self) -> list[int]:
        """What it has open."""
        return [self._socket.fileno(), *(visitor.connection.fileno() for visitor in self.visitors)]

    def _accept(self) -> None:
        try:
            descriptor, _ = self._socket._accept()  # type: ignore[attr-defined]  # what socket.accept() wraps
        except (BlockingIOError, ConnectionAbortedError):
            return
        connection = _socket.socket(fileno=descriptor)
        connection.setblocking(False)
        if not is_ours(connection):
            connection.close()
            return
        silent = [visitor for visitor in self.visitors if not visitor.has_asked]
        if len(silent) >= _MOST_SILENT:
            silent[0].leave()
        visitor = Visitor(self, connection)
        if len(self.visitors) > _MOST:
            visitor.refuse(HakoError("there are too many requests at the same time", hint="try again"))


class Visitor:
    """Who has connected, until there is nothing more to say."""

    def __init__(self, door: Door, connection: _socket.socket) -> None:
        self.connection = connection
        self.has_asked = False
        self._door = door
        self._number = connection.fileno()
        self._held = b""  # of the request, then of the answer
        self._answered = self._left = False
        door.visitors.append(self)
        door.loop.add(self._number, self._read, "read a request")
        self._time_out = door.loop.after(PATIENCE, self.leave, "let a silent connection go")

    def answer(self, answer: Answer) -> None:
        """Say what is to be said, if there is still somebody to hear it."""
        if self._left:
            return
        self._answered = True
        self._held = written_answer(answer)
        loop = self._door.loop
        loop.cancel(self._time_out)
        self._time_out = loop.after(PATIENCE, self.leave, "let go of who takes no answer")
        loop.drop(self._number)
        loop.add(self._number, self._write, "answer a request", select.POLLOUT)
        self._write()  # as much as goes at once

    def refuse(self, error: HakoError) -> None:
        """Say why not."""
        self.has_asked = True
        self.answer(refused(error))

    def refuse_unanswered(self, error: HakoError) -> None:
        """Say why not, if nothing was said."""
        if not self._answered:
            self.refuse(error)

    def leave(self) -> None:
        """Close the connection."""
        if self._left:
            return
        self._left = True
        self._door.loop.cancel(self._time_out)
        self._door.loop.drop(self._number)
        self._door.visitors.remove(self)
        self.connection.close()

    def _read(self) -> None:
        try:
            more = self.connection.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        self._held += more
        if not more:
            self.leave()
        elif len(self._held) > LARGEST:
            self.refuse(HakoError(f"a request has {LARGEST} bytes at most"))
        elif b"\n" in more:
            self._ask()

    def _ask(self) -> None:
        """Have the request served. From here on, only the other side's going is heard: that is told whatever is asked for."""
        line, self._held, self.has_asked = self._held, b"", True
        loop = self._door.loop
        loop.cancel(self._time_out)
        loop.drop(self._number)
        loop.add(self._number, self.leave, "let go of who has gone", 0)
        try:
            self._door.serve(read_request(line), self)
        except HakoError as error:
            self.refuse(error)
        except Exception as error:  # who asks is told, whatever it is
            self.refuse(HakoError(f"it cannot be done: {explained(error)}"))

    def _write(self) -> None:
        try:
            self._held = self._held[self.connection.send(self._held, _socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            return
        except OSError:
            self._held = b""  # it has gone
        if not self._held:
            self.leave()
