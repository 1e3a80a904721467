"""`hako logs`: what a background container has printed."""

from __future__ import annotations

import os
import sys

from hakoniwa import state
from hakoniwa.commands.selection import selected
from hakoniwa.errors import HakoError
from hakoniwa.options import NAME, Command, Given, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMMAND = Command(
    name="logs",
    summary="Print what a background container has printed.",
    options=(NAME, Option(flags=("-f", "--follow"), help="go on until the container has ended")),
    by_name=True,
)

_CHUNK = 65536


def run(given: Given) -> int:
    """Print the log of each container that is meant; follow one."""
    found = selected(given)
    if given.flag("follow") and len(found) > 1:
        names = " ".join(known["name"] for known in found)
        raise HakoError(f"one log can be followed, and the file has several: {names}", hint="choose one with -n NAME")
    printed = 0
    for known in found:
        path = state.log_file(known["name"])
        for part in (f"{path}.1", path):
            log = _open(part)
            if log is None:
                continue
            printed += 1
            _print_rest(log)
            if part == path and given.flag("follow"):
                log = _follow(log, path, known)
            os.close(log)
    if not printed:
        raise HakoError("there is no log", where=found[0]["name"], hint="a container logs when it is started with -D")
    return 0


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None


def _print_rest(log: int) -> None:
    """Print from where we are to the end. To a terminal, without what it would act on: the payload is not trusted."""
    sys.stdout.flush()
    while chunk := os.read(log, _CHUNK):
        output = _harmless(chunk) if os.isatty(1) else chunk
        while output:
            output = output[os.write(1, output) :]


def _harmless(chunk: bytes) -> bytes:
    """`chunk` without control characters, but for line ends, tabs and colours."""
    import re

    coloured = re.compile(rb"\x1b\[[0-9;]*m|[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+")
    return b"".join(coloured.findall(chunk))


def _follow(log: int, path: str, known: dict[str, Any]) -> int:
    """Print what is added, as inotify tells, until the supervisor has ended. Returns the file that is open at the end."""
    import select

    supervisor = state.identity(known, "supervisor").open() if "supervisor" in known else None
    if supervisor is None:
        return log
    watch = _watch(os.path.dirname(path))
    poll = select.poll()
    poll.register(supervisor, select.POLLIN)
    poll.register(watch, select.POLLIN)
    ended = False
    log = _print_new(log, path)  # what came before the watch did
    while not ended:
        ready = [descriptor for descriptor, _ in poll.poll()]
        ended = supervisor in ready
        if watch in ready:
            os.read(watch, _CHUNK)
        log = _print_new(log, path)
    return log


def _print_new(log: int, path: str) -> int:
    """Print what was added, and go on with the next file where this one was rotated away or deleted."""
    _print_rest(log)
    following = _open(path)
    if following is None:
        return log
    if os.path.samestat(os.fstat(following), os.fstat(log)):
        os.close(following)
        return log
    _print_rest(log)  # what was written between the two looks
    os.close(log)
    _print_rest(following)
    return following


def _watch(folder: str) -> int:
    """An inotify descriptor that tells when a file in the folder is written to, made or renamed. `man 7 inotify`."""
    from hakoniwa.kernel.libc import call

    in_modify, in_moved_to, in_create = 0x2, 0x80, 0x100
    watch = call("inotify_init1", os.O_CLOEXEC)
    call("inotify_add_watch", watch, os.fsencode(folder), in_modify | in_moved_to | in_create, path=folder)
    return watch
