"""The locks of places of rootfs, which are built, used or worked on there; and of folders of the store."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem.files import entries_of, lock_file, lock_folder
from hakoniwa.places import lock_rootfs, rootfs_lock_file, rootfs_locks_dir


def try_folder(path: str) -> int:
    """The lock of a folder of the store, as a descriptor; -1 while another holds it, or if the folder is not there."""
    try:
        lock = lock_folder(path)
    except BlockingIOError:
        return -1
    return -1 if lock is None else lock


def try_place(path: str) -> int:
    """The lock of a place, as a descriptor; -1 while another holds it, or if not even the folder above is there."""
    try:
        return lock_rootfs(path)
    except (BlockingIOError, FileNotFoundError):
        return -1


def hold_place(path: str, where: str = "") -> int:
    """The lock of the place of a rootfs, as a descriptor. Raises HakoError while a container runs on it.

    A running container holds the lock of its rootfs (run/supervisor.py).
    """
    try:
        return lock_rootfs(path)
    except BlockingIOError:
        raise HakoError(
            f"the rootfs {path} is in use",
            where=where,
            hint="hako kill ends a container that runs on it; wait for another command",
        ) from None
    except FileNotFoundError:
        raise _missing(path, where) from None


def hold_rootfs(path: str, where: str = "") -> int:
    """The same for a rootfs that must be there. Raises HakoError."""
    lock = hold_place(path, where)
    if not os.path.isdir(path):
        os.close(lock)
        raise _missing(path, where)
    return lock


def _missing(path: str, where: str) -> HakoError:
    return HakoError(f"the rootfs {path} is missing", where=where, hint="hako create makes it")


def clear_locks() -> None:
    """Remove the lock files of places that nobody holds."""
    folder = rootfs_locks_dir()
    for entry in entries_of(folder):
        _clear(os.path.join(folder, entry))


def clear_locks_of(*places: str) -> None:
    """Remove the lock files of places where nothing is any more, unless somebody holds them."""
    for place in places:
        try:
            file = rootfs_lock_file(place)
        except FileNotFoundError:
            continue  # nor is the folder above
        if os.path.exists(file):
            _clear(file)


def _clear(file: str) -> None:
    try:
        lock = lock_file(file)
    except BlockingIOError:
        return
    if lock is not None:
        os.unlink(file)
        os.close(lock)
