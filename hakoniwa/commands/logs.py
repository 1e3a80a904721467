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
        try:
            log = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        printed += 1
        _print_rest(log)
        if given.flag("follow"):
            _follow(log, path, known)
        os.close(log)
    if not printed:
        raise HakoError("there is no log", where=found[0]["name"], hint="a container logs when it is started with -D")
    return 0


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


def _follow(log: int, path: str, known: dict[str, Any]) -> None:
    """Print what is added, as inotify tells, until the supervisor has ended."""
    import select

    supervisor = state.identity(known, "supervisor").open() if "supervisor" in known else None
    if supervisor is None:
        return
    watch = _watch(path)
    poll = select.poll()
    poll.register(supervisor, select.POLLIN)
    poll.register(watch, select.POLLIN)
    _print_rest(log)  # what came before the watch did
    ended = False
    while not ended:
        ready = [descriptor for descriptor, _ in poll.poll()]
        ended = supervisor in ready
        if watch in ready:
            os.read(watch, _CHUNK)
        _print_rest(log)


def _watch(path: str) -> int:
    """An inotify descriptor that tells when the file is written to. `man 7 inotify`."""
    from hakoniwa.kernel.libc import call

    in_modify = 0x2
    watch = call("inotify_init1", os.O_CLOEXEC)
    call("inotify_add_watch", watch, os.fsencode(path), in_modify, path=path)
    return watch
