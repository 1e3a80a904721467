"""The use case `clear`: whatever crashes have left is ended and removed. What is in use, or another command is at, stays."""

from __future__ import annotations

import os
import time

from hakoniwa.errors import HakoError
from hakoniwa.known import copies, glance, leftovers, state
from hakoniwa.known.idmaps import ranges
from hakoniwa.places import networks_dir
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
from hakoniwa.run import holders
from hakoniwa.run.barn import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Clearing = Callable[[], Iterable[str] | None]


class Used(str):
    """What is in use, and so was not cleared: in words."""


def clear_everything() -> Iterator[str | HakoError]:
    """Clear all states whose lock is free, all unfinished builds, and all marks.

    Yields what was cleared, as soon as it is, what is in use, and why something could not be cleared, which keeps nothing else
    from being so.
    """
    for what, clear in _everything(time.monotonic() + holders.LETTING_GO):
        try:
            cleared = clear()
            yield from [what] if cleared is None else cleared
        except HakoError as error:
            yield HakoError(str(error), where=what)
        except OSError as error:
            yield HakoError(f"{error.filename}: {error.strerror}", where=what)


def _everything(until: float) -> Iterator[tuple[str, Clearing]]:
    """Each thing that may be there, and what clears it and tells what it has cleared, or nothing where that is the thing.

    `until` then, locks are waited for whose holders have gone.
    """
    for name in glance.names():
        yield name, lambda name=name: _clear_state(name, until)  # type: ignore[misc]
    if os.path.isdir(networks_dir()):
        yield "networks", _clear_networks
    for name in record.names():
        yield name, lambda name=name: _clear_barn(name, until)  # type: ignore[misc]
    for name in glance.recorded_names():
        yield name, lambda name=name: _clear_record(name)  # type: ignore[misc]
    for path in unfinished():
        yield f"unfinished build {path}", lambda path=path: as_root(lambda: clear_unfinished(path))  # type: ignore[misc]
    for path in stale_marks():
        yield f"what was known of {path}", lambda path=path: clear_marks(path)  # type: ignore[misc]
    for place in half_written_marks():
        yield f"mark {place}", lambda place=place: clear_half_written(place)  # type: ignore[misc]
    for place in every_mark()[1]:
        yield f"mark {place}", lambda place=place: _clear_damaged(place)  # type: ignore[misc]
    for layer in layers.orphans():
        yield f"unfinished snapshot {layer}", lambda: as_root(layers.clear_orphans)
    yield "ids", lambda: [f"ids of {name}" for name in ranges.free_forgotten()]
    yield "locks", _clear_locks
    yield "descriptions", _clear_descriptions


def _clear_networks() -> list[str]:
    """What containers have left on bridges that do not live, whatever is known of them."""
    from hakoniwa.network.clearing import clear

    return clear()


def _clear_locks() -> list[str]:
    clear_locks()
    return []


def _clear_descriptions() -> list[str]:
    copies.clear_stale()
    return []


def _clear_state(name: str, until: float) -> list[str]:
    try:
        lock = holders.take_lock(name, until)
    except state.Busy as busy:
        return [Used(f"{name}: {holders.told(busy)}")]
    try:
        cleared = [f"{name}: {what}" for what in (*leftovers.clear(name), *leftovers.clear_damaged(name))]
        if state.read(name) is None:
            state.forget(name, os.dup(lock))
    finally:
        os.close(lock)
    return cleared


def _clear_barn(name: str, until: float) -> list[str]:
    """What a killed process of a barn has left, once none of its containers needs it any more."""
    try:
        lock = record.take_lock_of_gone(name, until)
    except state.Busy as busy:
        return [Used(f"barn {name}: {holders.told(busy)}")]
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
