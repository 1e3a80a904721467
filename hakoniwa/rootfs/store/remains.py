"""What killed commands have left beside the places of rootfs and in the store, and how it is cleared."""

from __future__ import annotations

import os

from hakoniwa.kernel.filesystem.files import entries_of
from hakoniwa.places import BUILDING, aside_of, layers_dir, lib_dir
from hakoniwa.rootfs.store import layers
from hakoniwa.rootfs.store.discards import REMOVING, REPLACED, put_back, remove_tree
from hakoniwa.rootfs.store.locks import try_place
from hakoniwa.rootfs.store.registry import every_mark, path_of, remove_stale_marks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_ENDS = (BUILDING, REMOVING, REPLACED)


def unfinished() -> list[str]:
    """What killed builds and removals have left in the library folder."""
    left = []
    for entry in entries_of(lib_dir()):
        path = os.path.join(lib_dir(), entry)
        if entry.startswith(".") and entry.endswith(_ENDS) and (lock := try_place(path)) != -1:
            os.close(lock)
            left.append(path)
    return [*left, *layers.unfinished()]


def clear_unfinished(path: str) -> None:
    """Remove what is left of one, unless it has been taken up again; put back what was only taken out of its place."""
    parent, name = os.path.split(path)
    if parent == layers_dir():
        layers.clear(path)
        return
    place = os.path.join(parent, name.removeprefix(".").removesuffix(REPLACED))
    lock = try_place(place if path.endswith(REPLACED) else path)
    if lock == -1:
        return
    try:
        if path.endswith(REPLACED):
            put_back(place)
        else:
            remove_tree(path)
            remove_stale_marks(path)
    finally:
        os.close(lock)


def stale_marks() -> list[str]:
    """The places whose marks are of folders that are there no more, and will not be: nothing is built aside."""
    paths = {mark.path for mark in every_mark()[0]}
    return sorted(
        path for path in paths if not any(map(os.path.exists, (path, aside_of(path), aside_of(path, REPLACED))))
    )


def clear_marks(path: str) -> None:
    """Remove the marks of folders that lie at `path` no more, unless it is being worked on."""
    _with_place(path, lambda: remove_stale_marks(path))


def clear_half_written(place: str) -> None:
    """Remove what a killed command has left of a mark, unless its rootfs is being worked on, perhaps by who writes it."""
    _with_place(path_of(place), lambda: os.unlink(place))


def _with_place(path: str, action: Callable[[], object]) -> None:
    """Do something while the place of a rootfs is locked; nothing while another has the lock."""
    if not os.path.isdir(os.path.dirname(path)):
        action()  # nothing can lie there
    elif (lock := try_place(path)) != -1:
        try:
            action()
        finally:
            os.close(lock)
