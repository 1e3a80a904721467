"""Ask the supervisor of a container for something, through its control socket."""

from __future__ import annotations

import os
import socket
import struct
import time

from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes.pidfd import is_stopped
from hakoniwa.run.control.messages import Answer, Request, read_answer, written
from hakoniwa.run.control.protocol import socket_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.known.statefile import State

PATIENCE = 180.0  # seconds: longer than a supervisor waits for anything (run/reload/reloader.py)
_LOOK = struct.pack(
    "ll", 0, 500_000
)  # a struct timeval: after that it is looked whether there is still something to wait for
_LARGEST = 16 << 20  # bytes of an answer


def ask(known: State, command: str) -> Answer:
    """Ask the supervisor of a container for something, and return its answer. Raises HakoError, also that it was not done."""
    path, folder = socket_path(known.name)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):  # of a connect, too: `man 7 unix`
                connection.setsockopt(socket.SOL_SOCKET, option, _LOOK)
            answer = _exchange(connection, path, written(Request(command=command)), known)
    except (OSError, ValueError) as error:
        raise _no_answer(known.name, str(error)) from None
    finally:
        os.close(folder)
    return read_answer(answer)


def _exchange(connection: socket.socket, path: str, request: bytes, known: State) -> bytes:
    """Send a line and read one, for as long as the supervisor can be at it. Raises OSError, ValueError and HakoError."""
    answer, deadline = b"", time.monotonic() + PATIENCE
    acts = [lambda: connection.connect(path), lambda: _send(connection, request)]
    while not answer.endswith(b"\n"):
        try:
            if acts:
                acts[0]()
                acts.pop(0)
                continue
            more = connection.recv(65536)
        except BlockingIOError:
            _must_go_on(known, deadline)
            continue
        if not more:
            raise ValueError("it has closed the connection")
        answer += more
        if len(answer) > _LARGEST:
            raise ValueError("it says too much")
    return answer


def _send(connection: socket.socket, request: bytes) -> None:
    try:
        connection.sendall(request)
    except BrokenPipeError:
        pass  # it was refused before it was heard: why, is there to be read


def _must_go_on(known: State, deadline: float) -> None:
    """Raise HakoError where there is nothing to wait for."""
    pid = known.supervisor.pid
    if is_stopped(pid):
        raise _no_answer(known.name, "it is stopped", f"kill -CONT {pid}")
    if time.monotonic() > deadline:
        raise _no_answer(known.name, f"it has not in {PATIENCE:g} s", f"its pid is {pid}")


def _no_answer(name: str, why: str, hint: str = "") -> HakoError:
    return HakoError(f"the supervisor of container {name!r} does not answer: {why}", hint=hint)
