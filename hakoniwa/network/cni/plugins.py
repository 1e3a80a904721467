"""The programs that make networks of CNI. https://www.cni.dev/docs/spec/, section 2."""

from __future__ import annotations

import json
import os
import select
import signal
import time

from hakoniwa import trust
from hakoniwa.errors import HakoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

FOLDERS = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
_PATIENCE = 60.0  # seconds that a plugin may take
_LARGEST = 1 << 20  # bytes of what it answers
_MOST_TOLD = 2000  # bytes of an error that it tells without JSON
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find(name: str) -> str:
    """Where a plugin lies; root executes it, so it is root's. Raises HakoError."""
    for folder in FOLDERS:
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK):
            trust.check(path)
            return path
    told = f"the CNI plugin {name!r} is not installed in {' '.join(FOLDERS)}"
    raise HakoError(told, hint="apt-get install containernetworking-plugins")


def run(command: str, given: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Have the plugin that a configuration names do a command. Returns its result. Raises HakoError."""
    name = given["type"]
    code, said, noted = _execute(find(name), json.dumps(given).encode(), {**environ, "CNI_COMMAND": command})
    if code == 0 and not said.strip():
        return {}
    try:
        answer = json.loads(said)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        answer = {}
        if code == 0:
            raise HakoError(f"the CNI plugin {name!r} has answered {command} with what is no JSON object")
    if code == 0:
        return answer
    raise HakoError(f"the CNI plugin {name!r} cannot {command}: {_reason(answer, code, noted)}")


def _reason(answer: Mapping[str, Any], code: int, noted: bytes) -> str:
    """What a plugin says of its failure: `{code, msg, details}`; or what it has written to standard error."""
    message, details = answer.get("msg"), answer.get("details")
    if not isinstance(message, str) or not message:
        told = noted[:_MOST_TOLD].decode(errors="replace").strip()
        return f"it ended with {code}{f': {told}' if told else ''}"
    more = [details] if isinstance(details, str) and details else []
    number = answer.get("code")
    return f"{message} ({'; '.join([f'code {number}', *more])})" if isinstance(number, int) else message


def _execute(path: str, given: bytes, environ: Mapping[str, str]) -> tuple[int, bytes, bytes]:
    """Run a plugin: how it ended, what it has answered, and what it has told besides. Raises HakoError."""
    words, noted = os.memfd_create("given", os.MFD_CLOEXEC), os.memfd_create("noted", os.MFD_CLOEXEC)
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(writer, True)
    try:
        with open(words, "wb", closefd=False) as file:
            file.write(given)
        os.lseek(words, 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, number, at) for at, number in enumerate((words, writer, noted))]
        try:
            pid = os.posix_spawn(path, [path], {"PATH": _PATH, **environ}, file_actions=actions)
        except OSError as error:
            raise HakoError(f"cannot execute the CNI plugin {path}: {error.strerror}") from None
        os.close(writer)
        writer = -1
        said, over = _read(pid, reader)
        _, status = os.waitpid(pid, 0)
        if over:
            raise HakoError(f"the CNI plugin {path} {over}, and was killed")
        return os.waitstatus_to_exitcode(status), said, os.pread(noted, _MOST_TOLD, 0)
    finally:
        for number in (words, noted, reader, writer):
            if number != -1:
                os.close(number)


def _read(pid: int, reader: int) -> tuple[bytes, str]:
    """What a plugin answers until it has ended; and why it was killed, if it was."""
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(reader, select.POLLIN)
    said, end = b"", time.monotonic() + _PATIENCE
    try:
        while True:
            ready = {number for number, _ in poll.poll(max(0.0, end - time.monotonic()) * 1000)}
            if reader in ready:
                more = _take(reader)
                said += more
                if not more:
                    poll.unregister(reader)
            over = "has answered too much" if len(said) > _LARGEST else "" if ready else "takes too long"
            if over:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                return b"", over
            if pidfd in ready and reader not in ready:
                return said, ""
    finally:
        os.close(pidfd)


def _take(reader: int) -> bytes:
    try:
        return os.read(reader, 1 << 16)
    except BlockingIOError:
        return b""
