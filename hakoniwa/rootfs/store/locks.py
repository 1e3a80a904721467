"""Locks: of the place of a rootfs that is built, used or worked on, and of a folder of the store."""

from __future__ import annotations

import fcntl
import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.files import lock_file
from hakoniwa.places import lock_rootfs, rootfs_locks_dir


def lock_folder(path: str) -> int | None:
    """A descriptor that holds the lock of a folder; -1 when another holds it; None when it is not there any more.

    Only for folders that no container can open: others are locked by their place (lock_rootfs).
    """
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(folder), os.stat(path)):
            return folder
    except BlockingIOError:
        os.close(folder)
        return -1
    except FileNotFoundError:
        pass
    os.close(folder)
    return None


def try_claim(path: str) -> int:
    """The lock of a place, as a descriptor; -1 while another holds it, or where not even the folder above is there."""
    try:
        return lock_rootfs(path)
    except (BlockingIOError, FileNotFoundError):
        return -1


def hold_place(path: str, where: str = "") -> int:
    """The lock of the place of a rootfs, on which no container runs, as a descriptor. Raises HakoError while one does.

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
    for entry in os.listdir(folder) if os.path.isdir(folder) else []:
        try:
            lock = lock_file(os.path.join(folder, entry))
        except BlockingIOError:
            continue
        if lock is not None:
            os.unlink(os.path.join(folder, entry))
            os.close(lock)
