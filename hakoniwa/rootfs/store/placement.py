"""The way of a rootfs into its place: a locked folder beside it, and one rename once that is complete.

So a rootfs that is there is complete. What lies unlocked in a folder beside the place is left over from a build that was
killed, and the next one clears it; or a step of provisioning has failed, and the next build goes on at that step.
"""

from __future__ import annotations

import errno
import os
import stat

from hakoniwa.errors import HakoError
from hakoniwa.host.paths import open_outside
from hakoniwa.kernel.filesystem.files import exchange
from hakoniwa.places import aside_of, ensure_private, lib_dir, lock_rootfs, make_parents
from hakoniwa.rootfs.store.discards import REPLACED, discard, must_hold_no_mount, new_place_to_remove
from hakoniwa.rootfs.store.registry import remove_stale_marks
from hakoniwa.trust import check_place


def put_in_place(folder: str, path: str) -> None:
    """Rename a marked folder to `path`; what is there goes. Raises HakoError if that is a mount point, or a symlink."""
    if os.path.islink(path):
        raise HakoError(f"the rootfs {path} is a symlink", hint="name the folder itself in chroot_to()")
    if not is_filled(path):
        try:
            os.rename(folder, path)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EXDEV):
                raise
            hint = "name a folder below it in chroot_to()"
            raise HakoError(f"the rootfs {path} is a mount point of its own", hint=hint) from None
    else:
        must_hold_no_mount(path)
        _replace(folder, path)
    remove_stale_marks(folder)
    remove_stale_marks(path)


def _replace(folder: str, path: str) -> None:
    """Put a folder in the place of what is there, and remove that."""
    gone, lock = new_place_to_remove(path)
    try:
        try:
            exchange(folder, path)
            os.rename(folder, gone)
        except OSError as error:
            if error.errno != errno.EINVAL:  # this file system cannot swap
                raise
            # If we are killed in between, the next command puts it back: `put_back`.
            replaced = aside_of(path, REPLACED)
            os.rename(path, replaced)
            os.rename(folder, path)
            os.rename(replaced, gone)
        discard(gone)
    finally:
        os.close(lock)


def open_aside(path: str, *, rebuild: bool) -> tuple[str, int]:
    """A locked folder beside the place of the rootfs; it may hold what an earlier build has left.

    Raises OSError, or HakoError while another build runs.
    """
    make_parent(path)
    aside = aside_of(path)
    try:
        lock = lock_rootfs(aside)
    except BlockingIOError:
        raise HakoError(f"the rootfs {path} is being built by another command", hint="wait for it") from None
    try:
        if is_filled(path) and not rebuild:
            raise HakoError(f"the rootfs {path} was built by another command in the meantime", hint="go on")
        _make_folder(aside)
    except BaseException:
        os.close(lock)
        raise
    return aside, lock


def make_parent(path: str) -> None:
    """Make the folder that a rootfs is to lie in. Raises OSError."""
    parent = os.path.dirname(path)
    if parent == lib_dir():
        ensure_private(parent)
    else:
        make_parents(path)
        os.close(open_outside(parent))  # unless a container has put a symlink on the way


def _make_folder(aside: str) -> None:
    try:
        os.mkdir(aside, 0o700)
    except FileExistsError:
        check_place(aside)  # its owner can change what is built there
        if not stat.S_ISDIR(os.lstat(aside).st_mode):
            raise HakoError(f"{aside} is not a folder", hint="remove it") from None


def is_filled(path: str) -> bool:
    """Whether something is in a folder, which need not be there."""
    try:
        return bool(os.listdir(path))
    except FileNotFoundError:
        return False
