"""Locks on folders: of a build under way, and of a rootfs that is worked on."""

from __future__ import annotations

import fcntl
import os

from hakoniwa.errors import HakoError


def lock_folder(path: str) -> int | None:
    """A descriptor that holds the lock of a folder; -1 when another holds it; None when it is not there any more."""
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


def hold_rootfs(path: str, where: str = "") -> int:
    """The lock of a rootfs that no container runs on, as a descriptor. Raises HakoError while one does.

    A running container holds the lock of its rootfs (supervisor/supervisor.py).
    """
    lock = lock_folder(os.path.realpath(path))
    if lock is None:
        raise HakoError(f"the rootfs {path} is missing", where=where, hint="hako create makes it")
    if lock == -1:
        raise HakoError(
            f"the rootfs {path} is in use",
            where=where,
            hint="hako kill ends a container that runs on it; wait for another command",
        )
    return lock
