"""Remove a rootfs: never through a symlink, never into another mount."""

from __future__ import annotations

import os
import shutil

from hakoniwa import boxes, state
from hakoniwa.errors import HakoError
from hakoniwa.hostpaths import open_outside
from hakoniwa.kernel import mount
from hakoniwa.rootfs.locking import hold_rootfs

REMOVING = ".removing"


def remove_rootfs(path: str) -> None:
    """Take a rootfs out of its place by one rename, then remove it. Raises HakoError while it is in use."""
    if path == "/" or os.path.islink(path):
        raise HakoError(f"refusing to remove {path}", hint="remove it by hand")
    try:
        os.close(open_outside(os.path.dirname(path)))
    except FileNotFoundError:
        return
    except OSError as error:
        raise HakoError(f"refusing to remove {path}: {error.strerror}", hint="remove it by hand") from None
    for known in state.every(recorded=False):
        if known.rootfs == path and known.status == "running":
            told = f"the rootfs {path} is in use by container {known.name!r}"
            raise HakoError(told, hint=f"hako kill -n {known.name}")
    must_hold_no_mount(path)
    mark = boxes.read(path)
    lock = hold_rootfs(path) if os.path.isdir(path) else -1
    parent, name = os.path.split(path)
    aside = os.path.join(parent, f".{name}{REMOVING}")
    remove_tree(aside)
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    finally:
        if lock != -1:
            os.close(lock)
    remove_tree(aside)
    boxes.remove_stale(path)
    if mark is not None:
        from hakoniwa.rootfs.snapshots import remove_own

        remove_own(mark)


def must_hold_no_mount(path: str) -> None:
    """Raise HakoError where something is mounted on a folder or below it: to remove the one would empty the other."""
    mounted = mount.points_below(os.path.realpath(path), itself=True)
    if mounted:
        raise HakoError(f"something is mounted on {mounted[0]}", hint=f"umount {mounted[0]}")


def remove_tree(path: str) -> None:
    """Remove a file or folder whole. `shutil.rmtree` walks by descriptors, so that no symlink is followed."""
    try:
        if os.path.islink(path) or not os.path.isdir(path):
            os.unlink(path)
        else:
            shutil.rmtree(path)
    except FileNotFoundError:
        pass
