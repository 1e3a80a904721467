"""Removing a rootfs, with the layers that it had for itself."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.host.paths import open_outside
from hakoniwa.known import listing
from hakoniwa.known.statefile import ALIVE
from hakoniwa.rootfs.store import layers
from hakoniwa.rootfs.store.discards import must_hold_no_mount, put_back, remove_tree, take_out
from hakoniwa.rootfs.store.locks import hold_place
from hakoniwa.rootfs.store.registry import remove_stale_marks, salvage_mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def remove_rootfs(path: str, forget: Callable[[], object]) -> None:
    """Take a rootfs out of its place by one rename, then remove it. Raises HakoError while it is in use.

    `forget` is called when the place is empty, and before anybody else can put a rootfs there.
    """
    if path == "/" or os.path.islink(path):
        raise HakoError(f"refusing to remove {path}", hint="remove it by hand")
    try:
        os.close(open_outside(os.path.dirname(path)))
    except FileNotFoundError:
        forget()
        return
    except OSError as error:
        raise HakoError(f"refusing to remove {path}: {error.strerror}", hint="remove it by hand") from None
    for known in listing.heads(recorded=False):
        if known.rootfs == path and known.status in ALIVE:
            told = f"the rootfs {path} is in use by container {known.name!r}"
            raise HakoError(told, hint=f"hako kill -n {known.name}")
    must_hold_no_mount(path)
    place = hold_place(path)
    try:
        put_back(path)
        mark = salvage_mark(path)
        gone = take_out(path)
        forget()
        remove_stale_marks(path)
    finally:
        os.close(place)
    if gone is not None:
        try:
            remove_tree(gone[0])
        except OSError as error:
            told = f"cannot remove {gone[0]}: {error.filename}: {error.strerror}"
            raise HakoError(told, hint="hako gc tries again") from None
        finally:
            os.close(gone[1])
    if mark is not None:
        layers.remove_own(mark)
