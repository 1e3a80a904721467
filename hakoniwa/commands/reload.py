"""`hako reload`: have the supervisors of running containers read their file again."""

from __future__ import annotations

import os
import socket
import sys

from hakoniwa import fastjson
from hakoniwa.commands.selection import PID, alive
from hakoniwa.errors import HakoError, printable
from hakoniwa.options import NAME, Command, Given
from hakoniwa.supervisor.control import socket_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMMAND = Command(
    name="reload",
    summary="Read the file again and apply what may change in the running containers; tell what needs a restart.",
    options=(NAME, PID),
    by_name=True,
)


def run(given: Given) -> int:
    """Ask each supervisor, and print what it has done. 125 if anything failed."""
    running = alive(given)
    if not running:
        raise HakoError(
            "no container runs",
            where=str(given.value("name") or given.value("target") or given.file),
            hint="hako start -D runs one",
        )
    failed = False
    for known in running:
        answer = _ask(known.name, {"command": "reload"})
        if "error" in answer:
            for line in answer["error"].splitlines():
                print(f"hako: {line}", file=sys.stderr)
            failed = True
        for what, outcome, bad in answer.get("changes", []):
            print(printable(f"{known.name}: {what}: {outcome}"))
            failed = failed or bad
        if answer.get("changes") == []:
            print(f"{known.name}: nothing has changed")
    return 125 if failed else 0


def _ask(name: str, request: dict[str, Any]) -> dict[str, Any]:
    """Send a request to the supervisor of a container, and return its answer."""
    path, folder = socket_path(name)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(path)
            connection.sendall(fastjson.dumps(request).encode() + b"\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        found: dict[str, Any] = fastjson.loads(answer.decode())
    except (OSError, ValueError) as error:
        raise HakoError(f"the supervisor of container {name!r} does not answer: {error}") from None
    finally:
        os.close(folder)
    return found
