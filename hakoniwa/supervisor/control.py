"""The control socket of a supervisor: `control.sock` in the folder of its state, which is closed to other users.

One request a connection: a line of JSON, such as {"command": "reload"}; one answer. A connection is served by a thread of
its own, so that one that says nothing, or garbage, or too much, keeps nobody waiting.
"""

from __future__ import annotations

import _socket
import os

from hakoniwa import fastjson
from hakoniwa.statefile import folder_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

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

    def __init__(self, name: str, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """`answer` is called in the thread of a connection."""
        self._answer = answer
        self._serving: list[object] = []
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

    def accept(self) -> None:
        """Take a connection, and have it served."""
        import socket
        import threading

        try:
            descriptor, _ = self._socket._accept()  # type: ignore[attr-defined]  # what socket.accept() wraps
        except BlockingIOError:
            return
        connection = socket.socket(fileno=descriptor)
        if len(self._serving) >= _MOST or not _is_ours(connection):
            connection.close()
            return
        self._serving.append(connection)
        threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Any) -> None:
        try:
            connection.settimeout(_PATIENCE)
            request = b""
            while not request.endswith(b"\n") and len(request) < _LARGEST:
                more = connection.recv(_LARGEST - len(request))
                if not more:
                    return
                request += more
            connection.settimeout(None)
            connection.sendall(fastjson.dumps(self._answered(request)).encode() + b"\n")
        except OSError:
            pass  # it has gone, or said nothing in time
        finally:
            connection.close()
            self._serving.remove(connection)

    def _answered(self, request: bytes) -> dict[str, Any]:
        try:
            asked = fastjson.loads(request.decode())
        except ValueError:
            return {"error": "the request is no line of JSON"}
        if not isinstance(asked, dict) or not isinstance(asked.get("command"), str):
            return {"error": 'the request is no {"command": ...}'}
        return self._answer(asked)


def _is_ours(connection: Any) -> bool:
    """Whether the other side is root or this user, as the kernel says. `man 7 unix`, SO_PEERCRED."""
    import socket

    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], "little") in (0, os.geteuid())
