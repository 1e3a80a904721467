"""The control socket of a supervisor: `control.sock` in the folder of its state, which is closed to other users.

One request a connection, and one answer (messages.py). A connection is served by a thread of
its own, so that one that says nothing, or garbage, or too much, keeps nobody waiting; where there are too many, one that says
nothing is let go of.
"""

from __future__ import annotations

import _socket
import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.sockets import is_ours
from hakoniwa.places import folder_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hakoniwa.run.control.messages import Answer

NAME = "control.sock"
_LARGEST = 4096  # bytes of a request
_PATIENCE = 5.0  # seconds for a request to arrive
_MOST = 8  # connections that are served at the same time
_BACKLOG = 16


def socket_path(name: str) -> tuple[str, int]:
    """A path of the socket that is short enough for `sun_path` (108 bytes), and the descriptor that it needs open."""
    folder = os.open(folder_of(name), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{folder}/{NAME}", folder


class Control:
    """The listening end. `descriptor` is to be polled; `accept` is called when it is readable."""

    def __init__(self, name: str, answer: Callable[[str], Answer]) -> None:
        """`answer` is called with a command, in the thread of a connection."""
        self._answer = answer
        self._silent: list[_socket.socket] = []  # that have not said what they want, the oldest first
        self._answering: list[_socket.socket] = []
        path, folder = socket_path(name)
        self._socket = _socket.socket(
            _socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        )
        try:
            self.remove(name)
            self._socket.bind(path)
            self._socket.listen(_BACKLOG)
        finally:
            os.close(folder)
        self.descriptor = self._socket.fileno()

    @staticmethod
    def remove(name: str) -> None:
        """Take the socket out of the folder."""
        try:
            os.unlink(os.path.join(folder_of(name), NAME))
        except FileNotFoundError:
            pass

    def close(self) -> None:
        """Take no connection any more."""
        self._socket.close()

    def accept(self) -> None:
        """Take a connection, and have it served. Raises OSError where no descriptor is left."""
        try:
            descriptor, _ = self._socket._accept()  # type: ignore[attr-defined]  # what socket.accept() wraps
        except BlockingIOError:
            return
        connection = _socket.socket(fileno=descriptor)
        if not is_ours(connection):
            connection.close()
        elif self._make_room():
            self._begin(connection)
        else:
            _refuse(connection, HakoError("there are too many requests at the same time", hint="try again"))

    def _make_room(self) -> bool:
        """Whether one more can be served: in the place of the oldest that says nothing, where there are too many."""
        if len(self._silent) + len(self._answering) < _MOST:
            return True
        try:
            oldest = self._silent.pop(0)
        except IndexError:
            return False
        try:
            oldest.shutdown(_socket.SHUT_RDWR)  # its thread wakes up, and closes it
        except OSError:
            pass  # it has gone by itself
        return True

    def _begin(self, connection: _socket.socket) -> None:
        import threading

        self._silent.append(connection)
        try:
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
        except RuntimeError as error:
            self._silent.remove(connection)
            _refuse(connection, HakoError(f"the supervisor cannot answer: {error}"))

    def _serve(self, connection: _socket.socket) -> None:
        try:
            connection.settimeout(_PATIENCE)
            request = _receive(connection)
            try:
                self._silent.remove(connection)
            except ValueError:
                return  # another has taken its place
            if request is not None:
                self._answering.append(connection)
                connection.sendall(self._answered(request))
        except OSError:
            pass  # it has gone, or does not read
        finally:
            connection.close()
            for served in (self._silent, self._answering):
                if connection in served:
                    served.remove(connection)

    def _answered(self, request: bytes) -> bytes:
        from hakoniwa.run.control import messages

        try:
            return messages.written(self._answer(messages.read_request(request).command))
        except HakoError as error:
            return messages.written(messages.refused(error))


def _receive(connection: _socket.socket) -> bytes | None:
    """A request, or None where none arrives in time."""
    request = b""
    while not request.endswith(b"\n") and len(request) < _LARGEST:
        try:
            more = connection.recv(_LARGEST - len(request))
        except OSError:
            return None
        if not more:
            return None
        request += more
    return request


def _refuse(connection: _socket.socket, why: HakoError) -> None:
    """Answer at once, without a thread. What was sent is read before: it would make a connection that is closed one that is reset."""
    from hakoniwa.run.control import messages

    connection.setblocking(False)
    try:
        connection.recv(_LARGEST)
    except OSError:
        pass
    try:
        connection.send(messages.written(messages.refused(why)))
    except OSError:
        pass
    connection.close()
