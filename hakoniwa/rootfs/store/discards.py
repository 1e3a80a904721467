"""What goes out of the place of a rootfs: taken away by one rename, then removed, and put back if nothing replaced it.

Nothing is removed through a symlink, nor in another mount.
"""

from __future__ import annotations

import errno
import os
import stat

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem import mount, tree
from hakoniwa.places import aside_of
from hakoniwa.rootfs.store.locks import try_place

REMOVING = ".removing"
_MOST_REMAINS = 100
REPLACED = ".replaced"  # what is out of its place until the new one is there, if the two cannot be swapped


def take_out(path: str) -> tuple[str, int] | None:
    """Rename what is to be removed. Returns its new path and the lock of that, or None if nothing is there."""
    gone, lock = new_place_to_remove(path)
    try:
        os.rename(path, gone)
    except OSError as error:
        os.close(lock)
        if error.errno == errno.ENOENT:
            return None
        raise HakoError(f"cannot remove {path}: {error.strerror}") from None
    return gone, lock


def new_place_to_remove(path: str) -> tuple[str, int]:
    """An empty place beside a rootfs from which it is removed, and the lock of that. Raises HakoError."""
    for number in range(_MOST_REMAINS):
        gone = aside_of(path, f".{number}{REMOVING}" if number else REMOVING)
        lock = try_place(gone)
        if lock == -1:
            continue  # an earlier one is still being removed
        try:
            remove_tree(gone)
        except OSError:
            os.close(lock)  # what cannot be removed stays for `gc` to tell of
        else:
            return gone, lock
    raise HakoError(f"{_MOST_REMAINS} earlier ones of {path} are not removed yet", hint="hako gc tells why")


def discard(gone: str) -> None:
    """Remove what was replaced. The new one is in place already, so a failure here does not fail the command."""
    try:
        remove_tree(gone)
    except OSError as error:
        told = f"cannot remove what was replaced: {gone}: {error.filename}: {error.strerror}"
        log.write(f"{told} (hako gc tries again)", "warning")


def put_back(path: str) -> bool:
    """Put a rootfs back that a killed command has taken out of its place, if no new one is there. The place is locked."""
    replaced = aside_of(path, REPLACED)
    if not os.path.lexists(replaced):
        return False
    if not os.path.lexists(path):
        os.rename(replaced, path)
        return True
    gone, lock = new_place_to_remove(path)
    try:
        os.rename(replaced, gone)
        discard(gone)
    finally:
        os.close(lock)
    return False


def must_hold_no_mount(path: str) -> None:
    """Raise HakoError if something is mounted on a folder or below it: removing the folder would empty it."""
    mounted = mount.points_below(os.path.realpath(path), itself=True)
    if mounted:
        raise HakoError(f"something is mounted on {mounted[0]}", hint=f"umount {mounted[0]}")


def remove_tree(path: str) -> None:
    """Remove a file, or a folder of any depth, if it is there. Raises OSError."""
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            tree.remove(path)
        else:
            os.unlink(path)
    except FileNotFoundError:
        pass
