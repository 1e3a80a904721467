"""`hako logs`: what a background container has printed, and what the hooks of its barn have."""

from __future__ import annotations

import os
import sys

from hakoniwa.commands.selection import selected
from hakoniwa.errors import HakoError
from hakoniwa.known import listing, state
from hakoniwa.known.statefile import State, said
from hakoniwa.options import NAME, Command, Given, Option
from hakoniwa.record import Record
from hakoniwa.run.loop import Loop
from hakoniwa.run.terminal.harmless import Harmless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hakoniwa.kernel.processes.pidfd import Identity
    from hakoniwa.known.statefile import Made

COMMAND = Command(
    name="logs",
    summary="Print what a background container has printed.",
    options=(NAME, Option(flags=("-f", "--follow"), help="go on until the container has ended")),
    by_name=True,
)

_CHUNK = 65536


class _Log(Record):
    """The log of a container, or of a barn of several."""

    name: str
    writer: Identity | None  # the process whose end ends it, as far as it is known


def run(given: Given) -> int:
    """Print each log that is meant; follow one."""
    found = _barn_logs(given) or _logs(given)
    if given.flag("follow") and len(found) > 1:
        names = " ".join(meant.name for meant in found)
        raise HakoError(f"one log can be followed, and the file has several: {names}", hint="choose one with -n NAME")
    printed = 0
    shown = Harmless() if os.isatty(1) else None
    for meant in found:
        path = state.log_file(meant.name)
        for part in (f"{path}.1", path):
            log = _open(part)
            if log is None:
                continue
            printed += 1
            _print_rest(log, shown)
            if part == path and given.flag("follow"):
                log = _follow(log, path, meant.writer, shown)
            os.close(log)
        if shown is not None:
            _put(shown.end())
    if not printed:
        raise HakoError("there is no log", where=found[0].name, hint="a container logs when it is started with -D")
    return 0


def _logs(given: Given) -> list[_Log]:
    """Those of containers, and before them, where a file is named, that of their barn. Raises HakoError for none."""
    found = selected(given)
    logs = [_Log(name=known.name, writer=_identity(known, "supervisor")) for known in found]
    if given.value("name") is not None:
        return logs
    names = {known.name for known in found}
    barns = dict.fromkeys(known.barn for known in found if known.barn not in names)
    return [*(log for barn in barns if (log := _barn_log(barn, found)) is not None), *logs]


def _barn_logs(given: Given) -> list[_Log]:
    """That of the barn whose name was given, unless a container has it."""
    name = given.value("name")
    if name is None or state.is_known(name):
        return []
    log = _barn_log(name, [one for one in listing.every(tell=False, saying=said(barn=name)) if one.barn == name])
    return [] if log is None else [log]


def _barn_log(barn: str, members: Sequence[State | Made]) -> _Log | None:
    if not members or not os.path.exists(state.log_file(barn)):
        return None
    writers = [_identity(member, "barn_process") for member in members if member.barn == barn]
    living = [writer for writer in writers if writer is not None and writer.lives()]
    return _Log(name=barn, writer=living[0] if living else None)


def _identity(known: State | Made, who: str) -> Identity | None:
    return state.identity(known, who) if isinstance(known, State) and getattr(known, who) else None


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None


def _print_rest(log: int, shown: Harmless | None) -> None:
    """Print from where we are to the end; to a terminal, without what it would act on: the payload is not trusted."""
    sys.stdout.flush()
    while chunk := os.read(log, _CHUNK):
        _put(shown.feed(chunk) if shown is not None else chunk)


def _put(output: bytes) -> None:
    while output:
        output = output[os.write(1, output) :]


def _follow(log: int, path: str, writer: Identity | None, shown: Harmless | None) -> int:
    """Print what is added, as inotify tells, until the writer has ended. Returns the file that is open at the end."""
    pidfd = writer.open() if writer is not None else None
    if pidfd is None:
        return log
    watch, loop = _watch(os.path.dirname(path)), Loop()

    def print_more() -> None:
        nonlocal log
        os.read(watch, _CHUNK)
        log = _print_new(log, path, shown)

    loop.add(watch, print_more)
    loop.add(pidfd, loop.stop)
    log = _print_new(log, path, shown)  # what came before the watch did
    loop.run()
    return _print_new(log, path, shown)


def _print_new(log: int, path: str, shown: Harmless | None) -> int:
    """Print what was added, and go on with the next file where this one was rotated away or deleted."""
    _print_rest(log, shown)
    following = _open(path)
    if following is None:
        return log
    if os.path.samestat(os.fstat(following), os.fstat(log)):
        os.close(following)
        return log
    _print_rest(log, shown)  # what was written between the two looks
    os.close(log)
    _print_rest(following, shown)
    return following


def _watch(folder: str) -> int:
    """An inotify descriptor that tells when a file in the folder is written to, made or renamed. `man 7 inotify`."""
    from hakoniwa.kernel.libc import call

    in_modify, in_moved_to, in_create = 0x2, 0x80, 0x100
    watch = call("inotify_init1", os.O_CLOEXEC)
    call("inotify_add_watch", watch, os.fsencode(folder), in_modify | in_moved_to | in_create, path=folder)
    return watch
