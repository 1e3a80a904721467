"""`hako gc`: clear whatever a crash has left."""

from __future__ import annotations

import os

from hakoniwa import leftovers, log, ranges, state
from hakoniwa.errors import FAILED, HakoError, printable
from hakoniwa.options import Command, Given
from hakoniwa.rootfs.rootless import as_root
from hakoniwa.rootfs.store import layers
from hakoniwa.rootfs.store.locks import clear_locks
from hakoniwa.rootfs.store.registry import every_mark, half_written_marks, is_stale
from hakoniwa.rootfs.store.remains import (
    clear_half_written,
    clear_marks,
    clear_unfinished,
    stale_marks,
    unfinished,
)
from hakoniwa.run.barn import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

COMMAND = Command(
    name="gc", summary="Clear whatever a crash has left: processes, cgroups, unfinished builds.", file="", undone=True
)


class _Clearing:
    """What was cleared so far. What cannot be is told, and keeps nothing else from being cleared."""

    def __init__(self) -> None:
        self.cleared = 0
        self.failed = False

    def attempt(self, what: str, action: Callable[[], Iterable[str] | None]) -> None:
        """Clear something; `action` tells what it has cleared, and nothing where that is `what`."""
        try:
            done = action()
            for told in [what] if done is None else done:
                print(printable(told), flush=True)
                self.cleared += 1
        except (HakoError, OSError) as error:
            reason = str(error) if isinstance(error, HakoError) else f"{error.filename}: {error.strerror}"
            log.write(f"{what}: {reason}", "warning")
            self.failed = True


def run(given: Given) -> int:
    """Go through all states whose lock is free, all unfinished builds, and all marks."""
    clearing = _Clearing()
    for name in state.names():
        clearing.attempt(name, lambda name=name: _clear_state(name))  # type: ignore[misc]
    for name in record.names():
        clearing.attempt(name, lambda name=name: _clear_barn(name))  # type: ignore[misc]
    for name in state.recorded_names():
        clearing.attempt(name, lambda name=name: _clear_record(name))  # type: ignore[misc]
    for path in unfinished():
        clearing.attempt(
            f"unfinished build {path}",
            lambda path=path: as_root(lambda: clear_unfinished(path)),  # type: ignore[misc]
        )
    for path in stale_marks():
        clearing.attempt(f"what was known of {path}", lambda path=path: clear_marks(path))  # type: ignore[misc]
    for place in half_written_marks():
        clearing.attempt(f"mark {place}", lambda place=place: clear_half_written(place))  # type: ignore[misc]
    for place in every_mark()[1]:
        clearing.attempt(f"mark {place}", lambda place=place: _clear_damaged(place))  # type: ignore[misc]
    for layer in layers.orphans():
        clearing.attempt(f"unfinished snapshot {layer}", lambda: as_root(layers.clear_orphans))
    clearing.attempt("ids", lambda: [f"ids of {name}" for name in ranges.free_forgotten()])
    clear_locks()
    if not clearing.cleared and not clearing.failed:
        print("nothing was left")
    return FAILED if clearing.failed else 0


def _clear_state(name: str) -> list[str]:
    try:
        lock = state.take_lock(name)
    except state.Busy:
        return []
    try:
        cleared = [f"{name}: {what}" for what in (*leftovers.clear(name), *leftovers.clear_damaged(name))]
        if state.read(name) is None:
            state.forget(name, os.dup(lock))
    finally:
        os.close(lock)
    return cleared


def _clear_barn(name: str) -> list[str]:
    """What a killed process of a barn has left, once none of its containers needs it any more."""
    try:
        lock = record.take_lock(name)
    except state.Busy:
        return []
    try:
        if record.needed(name):
            return []
        cleared = [f"barn {name}: {what}" for what in record.clear_leftovers(name)]
        record.forget(name, os.dup(lock))
    finally:
        os.close(lock)
    return cleared


def _clear_record(name: str) -> list[str]:
    return [f"{name}: {what}" for what in leftovers.clear_damaged_record(name)]


def _clear_damaged(place: str) -> None:
    """Remove a mark that cannot be read, once its rootfs has gone: until then, that would pass for a plain folder."""
    if not is_stale(place):
        raise HakoError(
            "it cannot be read, and its rootfs cannot be used",
            hint="hako create --rebuild makes that anew, hako rm --rootfs removes it",
        )
    os.unlink(place)
