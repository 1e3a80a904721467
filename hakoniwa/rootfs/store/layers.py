"""The store of layers: what rootfs are made of, each built once and found again by its key.

A layer is a folder with `tree`, its files (an overlay's layer: Documentation/filesystems/overlayfs.rst), and `layer.json`.
It is built beside its place, locked, and renamed when it is complete; so one that is there is complete. It never changes
after that. Layers are no cache that may be emptied by hand: rootfs lie on them.
"""

from __future__ import annotations

import fcntl
import os
import time

from hakoniwa import fastjson, log, recordreader
from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem.files import entries_of, read_file
from hakoniwa.known.statefile import timestamp
from hakoniwa.places import BUILDING, ensure_private, layers_dir, lib_dir
from hakoniwa.record import Record, Unreadable
from hakoniwa.rootfs.store.discards import remove_tree
from hakoniwa.rootfs.store.locks import try_folder
from hakoniwa.rootfs.store.registry import every_mark, is_stale

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hakoniwa.known.marks import Mark
    from hakoniwa.rootfs.tools.progress import Progress

_BETWEEN = 0.1  # seconds between two tries to get a lock
_FACTS = "layer.json"
_SCHEMA = 1
_BUILT = ("bootstrap", "step")  # kinds that can be built again
# Of one overlay. Their names must fit into one option of 255 bytes (steps/files/root.py): four for each, if need be.
MOST_LAYERS = 60


class Facts(Record):
    """What is written down of a layer."""

    what: str = "?"  # as a list of layers shows it
    kind: str = "?"  # "bootstrap", "step" or "snapshot"
    parent: str | None = None  # the layer below
    seconds: float | None = None  # that it took to build
    created_at: str = ""


def obtain(key: str, facts: Facts, fill: Callable[[str], None], progress: Progress, *, anew: bool = False) -> str:
    """The layer of that key: found, or built by `fill(folder)`, which makes `folder/tree`. Raises what `fill` raises.

    `anew`: built in any case; it is the one that is found from then on.
    """
    name = _newest(key, anew=anew)
    place, told = os.path.join(layers_dir(), name), False
    while not os.path.isdir(place):
        _open_store()
        aside = place + BUILDING
        lock = _try_aside(aside)
        if lock == -1:
            # Not by one call that waits: a signal that comes just before it would not end it.
            if not told:
                progress.tell("waiting for another command that builds the same")
            told = True
            time.sleep(_BETWEEN)
            continue
        try:
            for entry in os.listdir(aside):
                remove_tree(os.path.join(aside, entry))
            if os.path.isdir(place):
                os.rmdir(aside)  # the other command has built it since we looked
                break
            _build(aside, facts, fill)
            os.rename(aside, place)
        except BaseException:
            remove_tree(aside)
            raise
        finally:
            os.close(lock)
    os.utime(place)  # when it was used last
    return name


def _try_aside(aside: str) -> int:
    """The folder in which a layer is built, made if it is missing, and its lock; -1 while another command has that."""
    try:
        os.mkdir(aside, 0o700)
    except FileExistsError:
        pass
    return try_folder(aside)


def _newest(key: str, *, anew: bool) -> str:
    """The name of the newest layer of a key, or of the next one. The first is called by the key itself."""
    name, number = key, 0
    while os.path.isdir(os.path.join(layers_dir(), following := f"{key}.{number + 1}")):
        name, number = following, number + 1
    there = os.path.isdir(os.path.join(layers_dir(), name))
    return f"{key}.{number + 1}" if anew and there else name


def _build(aside: str, facts: Facts, fill: Callable[[str], None]) -> None:
    started = time.monotonic()
    fill(aside)
    _write_facts(aside, facts.replace(seconds=round(time.monotonic() - started, 2)))


def _write_facts(folder: str, facts: Facts) -> None:
    """Write down what a layer is: in a folder that gets its name, or its first use, only after that."""
    with open(os.path.join(folder, _FACTS), "wb") as file:
        file.write(fastjson.document(facts.replace(created_at=timestamp()), _SCHEMA))


def read_facts(layer: str) -> Facts:
    """What a layer is; all of it unknown if that cannot be read."""
    try:
        content = read_file(os.path.join(layers_dir(), layer, _FACTS))
        return recordreader.read(Facts, fastjson.read_document(content, _SCHEMA, unversioned=True))
    except (OSError, Unreadable):
        return Facts()


def _open_store() -> None:
    ensure_private(lib_dir())
    ensure_private(layers_dir())


def new(facts: Facts) -> str:
    """A layer of its own with an empty tree, such as a snapshot: its name."""
    _open_store()
    name = f"{time.time_ns():x}-{os.getpid():x}"
    folder = os.path.join(layers_dir(), name)
    os.mkdir(folder, 0o700)
    os.mkdir(os.path.join(folder, "tree"), 0o755)
    _write_facts(folder, facts)
    return name


def hold_store() -> int:
    """A descriptor that keeps layers from being pruned while it is open. Raises HakoError while they are."""
    _open_store()
    store = os.open(layers_dir(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(store, fcntl.LOCK_SH)
    return store


def names() -> list[str]:
    """All layers that are complete."""
    return [entry for entry in entries_of(layers_dir()) if not entry.endswith(BUILDING) and not entry.startswith(".")]


def users() -> dict[str, int]:
    """How many rootfs and snapshots lie on each layer."""
    found: dict[str, int] = {}
    for mark in every_mark()[0]:
        for chain in (mark.layers, *(kept.layers for kept in mark.snapshots.values())):
            for layer in chain:
                found[layer] = found.get(layer, 0) + 1
    return found


def unused(candidates: list[str]) -> list[str]:
    """Those that nothing lies on. If a mark cannot be read, this warns, and keeps what cannot be built again."""
    used = users()
    found = [layer for layer in candidates if layer not in used]
    damaged = [place for place in every_mark()[1] if not is_stale(place)]
    if not damaged or not found:
        return found
    hint = "hako gc tells whose they are"
    log.write(f"snapshots are kept, since marks of rootfs cannot be read: {' '.join(damaged)} ({hint})", "warning")
    return [layer for layer in found if read_facts(layer).kind in _BUILT]


def remove_unused(candidates: list[str]) -> list[str]:
    """Remove those of the layers that nothing lies on, and return them. Warns of what cannot be removed; it stays aside."""
    found = unused(candidates)
    for layer in found:
        remove(layer)
    return found


def remove(layer: str) -> None:
    """Remove one layer: out of its place by one rename first, so that it is whole or gone."""
    place = os.path.join(layers_dir(), layer)
    gone = f"{place}.removed-{time.time_ns():x}{BUILDING}"
    try:
        os.rename(place, gone)
    except FileNotFoundError:
        return
    try:
        remove_tree(gone)
    except OSError as error:
        _tell(gone, error)


def _tell(path: str, error: OSError) -> None:
    log.write(f"cannot remove {path}: {error.filename}: {error.strerror} (hako gc tries again)", "warning")


def remove_own(mark: Mark) -> None:
    """Remove the layers that a rootfs had for itself, once it is gone: its snapshots, and what lies on them."""
    remove_snapshots([*mark.layers, *(layer for kept in mark.snapshots.values() for layer in kept.layers)])


def remove_snapshots(candidates: Iterable[str]) -> None:
    """Remove those of the layers that hold a snapshot, and that nothing lies on any more."""
    remove_unused([layer for layer in candidates if read_facts(layer).kind == "snapshot"])


def prune(*, only_show: bool = False) -> list[str]:
    """Remove every layer that nothing lies on. Raises HakoError while a rootfs is being built."""
    store = _hold_store_alone()
    if store == -1:
        raise HakoError("a rootfs is being built, whose layers would be pruned", hint="wait for it")
    try:
        return unused(names()) if only_show else remove_unused(names())
    finally:
        os.close(store)


def orphans() -> list[str]:
    """What a snapshot that was killed has made: nothing lies on it, and nothing would find it again."""
    if not os.path.isdir(layers_dir()):
        return []
    store = _hold_store_alone()
    if store == -1:
        return []
    os.close(store)
    return unused([layer for layer in names() if read_facts(layer).kind not in _BUILT])


def clear_orphans() -> None:
    """Remove them, unless they are being put to use."""
    store = _hold_store_alone()
    if store != -1:
        remove_unused([layer for layer in names() if read_facts(layer).kind not in _BUILT])
        os.close(store)


def _hold_store_alone() -> int:
    """A descriptor that holds the lock of the store; -1 while layers are being built or put to use."""
    _open_store()
    store = os.open(layers_dir(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(store, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(store)
        return -1
    return store


def clear_unfinished() -> None:
    """Remove what killed builds and removals have left. What cannot be removed is told: others can be built all the same."""
    for path in unfinished():
        try:
            clear(path)
        except OSError as error:
            _tell(path, error)


def clear(path: str) -> None:
    """Remove what is left of one build or removal, unless it has been taken up again. Raises OSError."""
    lock = try_folder(path)
    if lock != -1:
        try:
            remove_tree(path)
        finally:
            os.close(lock)


def unfinished() -> list[str]:
    """What killed builds and removals have left in the store."""
    left = []
    for entry in entries_of(layers_dir()):
        path = os.path.join(layers_dir(), entry)
        if entry.endswith(BUILDING) and (lock := try_folder(path)) != -1:
            os.close(lock)
            left.append(path)
    return left
