"""What is known of a barn besides its containers: a folder below `.barns` in the run directory, with its lock, its record, its socket.

The lock is held by the barn's process. Whoever gets it knows that there is none, and may clear what a killed one has left.
"""

from __future__ import annotations

import os

from hakoniwa import fastjson
from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem.files import entries_of, replace_file
from hakoniwa.kernel.processes.pidfd import Identity
from hakoniwa.kernel.processes.signals import SIGKILL, pidfd_send_signal
from hakoniwa.known import state
from hakoniwa.known.statefile import ALIVE, LOCK, Damaged, Later, ProcessRecord
from hakoniwa.places import barn_folder_of, ensure_private, run_dir
from hakoniwa.record import Record, Unreadable
from hakoniwa.trust import read_own

_SCHEMA = 1
_RECORD = "barn.json"
SOCKET = "control.sock"


class BarnRecord(Record):
    """A barn that runs, or has run until its process was killed."""

    name: str
    file: str
    boot_id: str
    process: ProcessRecord
    keep: bool = False
    shared: tuple[str, ...] = ()  # the names of the namespaces that its containers share
    first: ProcessRecord | None = None  # that of a shared pid namespace
    persisted: tuple[str, ...] = ()  # the paths that shared namespaces have

    def identity(self) -> Identity:
        """The barn's process."""
        return Identity(boot=self.boot_id, pid=self.process.pid, started=self.process.started)


def take_lock(name: str) -> int:
    """The lock of a barn, as a descriptor that holds it until it is closed. Raises state.Busy."""
    folder = barn_folder_of(name)
    while True:
        try:
            for one in (run_dir(), os.path.dirname(folder), folder):
                ensure_private(one)
        except FileNotFoundError:
            continue  # the last barn has gone, just now
        lock = state.lock_file_alone(os.path.join(folder, LOCK))
        if lock is not None:
            return lock


def take_lock_of_gone(name: str, until: float | None = None) -> int:
    """The same; waited for, until some time of `time.monotonic` at most, if the barn's process has gone. Raises state.Busy."""
    from hakoniwa.kernel.processes.pidfd import is_ending
    from hakoniwa.run.holders import take_when_let_go

    def lives() -> bool:
        try:
            known = read(name)
        except Damaged:
            return False
        return known is not None and known.identity().lives() and not is_ending(known.process.pid)

    return take_when_let_go(lambda: take_lock(name), lives, until)


def names() -> list[str]:
    """The barns that have a folder."""
    return entries_of(os.path.dirname(barn_folder_of("any")))


def write(known: BarnRecord) -> None:
    """Write the record down, whole or not at all. Raises OSError."""
    replace_file(os.path.join(barn_folder_of(known.name), _RECORD), fastjson.document(known, _SCHEMA))


def read(name: str) -> BarnRecord | None:
    """The record of a barn; None if it has none. Raises Damaged."""
    path = os.path.join(barn_folder_of(name), _RECORD)
    try:
        content = read_own(path)
        from hakoniwa import recordreader  # few barns have a record, and starts look for one

        return recordreader.read(BarnRecord, fastjson.read_document(content, _SCHEMA))
    except FileNotFoundError:
        return None
    except fastjson.Later as later:
        raise Later(name, path, str(later)) from None
    except Unreadable as problem:
        raise Damaged(name, path, str(problem)) from None
    except OSError as error:
        raise Damaged(name, path, error.strerror or str(error)) from None


def needed(name: str) -> list[str]:
    """The containers that run in what a barn shares."""
    try:
        known = read(name)
    except Damaged:
        return []
    if known is None or not known.shared:
        return []
    from hakoniwa.known import listing

    found = listing.heads(recorded=False, tell=False)
    return [one.name for one in found if one.status in ALIVE and (one.barn, one.file) == (known.name, known.file)]


def forget(name: str, lock: int) -> None:
    """Remove the folder of a barn, whose lock is held."""
    folder = barn_folder_of(name)
    state.forget_folder(folder, lock)
    try:
        os.rmdir(os.path.dirname(folder))
    except OSError:
        pass  # it holds others


def clear_leftovers(name: str) -> list[str]:
    """Remove what a killed process of a barn has left; the lock is held. Returns what was cleared, in words.

    Containers outlive the barn's process. Raises HakoError while some of them run in namespaces that are to be cleared.
    """
    if running := needed(name):
        raise HakoError(
            f"the process of barn {name!r} was killed, and {' '.join(running)} still run in what it shared",
            hint="; ".join(f"hako kill -n {one}" for one in running),
        )
    try:
        known = read(name)
    except Later:
        raise
    except Damaged as damaged:
        os.unlink(os.path.join(barn_folder_of(name), _RECORD))
        return [f"a record that could not be read: {damaged.problem}"]
    if known is None:
        return []
    return _clear(known)


def _clear(known: BarnRecord) -> list[str]:
    from hakoniwa.steps.namespaces import release

    cleared = []
    if known.first is not None:
        first = Identity(boot=known.boot_id, pid=known.first.pid, started=known.first.started).open()
        if first is not None:
            pidfd_send_signal(first, SIGKILL)
            os.close(first)
            cleared.append(f"process {known.first.pid}")
    cleared += [f"namespace {path}" for path in known.persisted if release(path)]
    os.unlink(os.path.join(barn_folder_of(known.name), _RECORD))
    return cleared
