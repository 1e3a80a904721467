"""Paths below a folder that is not trusted, resolved by the kernel: no symlink leads out. `man 2 openat2`."""

from __future__ import annotations

import errno
import os

from hakoniwa.kernel.libc import AT_FDCWD, OPENAT2, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_NO_XDEV = 0x01
_NO_MAGICLINKS = 0x02
_NO_SYMLINKS = 0x04
_BENEATH = 0x08
_IN_ROOT = 0x10

O_PATH: Final = os.O_PATH | os.O_CLOEXEC
_LARGEST = 1 << 20

NULL: Final = os.makedev(1, 3)  # the device number of /dev/null (Documentation/admin-guide/devices.txt)


def _openat2(folder: int, path: str, flags: int, mode: int, resolve: int) -> int:
    how = b"".join(value.to_bytes(8, "little") for value in (flags | os.O_CLOEXEC, mode, resolve))
    return syscall(OPENAT2, folder, os.fsencode(path) or b".", how, len(how), path=path)


def open_inside(root: int, path: str, flags: int = O_PATH, mode: int = 0) -> int:
    """Open `path` as a process whose root is `root` would, so that neither `..` nor a symlink leads out of it."""
    return _openat2(root, path, flags, mode, _IN_ROOT | _NO_MAGICLINKS)


def open_beneath(folder: int, path: str, flags: int = O_PATH, mode: int = 0) -> int:
    """Open `path` below `folder`, refusing every symlink on the way (ELOOP)."""
    return _openat2(folder, path.strip("/"), flags, mode, _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS)


def open_without_links(path: str, flags: int = O_PATH, mode: int = 0, *, folder: int = AT_FDCWD) -> int:
    """Open `path`, an absolute one or one relative to `folder`, where no symlink is on the way (else ELOOP)."""
    return _openat2(folder, path, flags, mode if flags & os.O_CREAT else 0, _NO_SYMLINKS | _NO_MAGICLINKS)


def is_magic(folder: int, name: str, target: str) -> bool:
    """Whether a symlink is one of those in /proc that the kernel follows by itself. `man 7 symlink`, "Magic links".

    It is followed by no other way, while what it says (`target`) is a path like any other, or none at all.
    """
    return _is_through_magic(folder, name) and not _is_through_magic(folder, target)


def _is_through_magic(folder: int, path: str) -> bool:
    try:
        os.close(_openat2(folder, path, O_PATH, 0, _NO_MAGICLINKS))
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def open_folder_beneath(folder: int, name: str) -> int:
    """Open a folder in `folder` to read it, refusing symlinks (ELOOP) and what is mounted there (EXDEV)."""
    resolve = _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS | _NO_XDEV
    return _openat2(folder, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, 0, resolve)


def make_inside(root: int, path: str, *, folder: bool, mode: int = 0o755, links: int = 40) -> int:
    """Open `path` inside `root`, making it and the folders above it where they are missing.

    `folder` says whether a folder or an empty file is made. Where a symlink leads to what is missing, that is made: a
    rootfs's /etc/resolv.conf is often one, into /run. Raises OSError (EROFS on a read-only root, ELOOP after `links`).
    """
    try:
        return open_inside(root, path)
    except FileNotFoundError:
        if not links:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
    above, _, last = path.rstrip("/").rpartition("/")
    parent = make_inside(root, above or "/", folder=True, links=links - 1)
    try:
        if folder:
            os.mkdir(last, mode, dir_fd=parent)
        else:
            os.close(os.open(last, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent))
    except FileExistsError:
        target = _link_target(last, parent)
        if target is not None:
            return make_inside(root, os.path.join(above or "/", target), folder=folder, mode=mode, links=links - 1)
    finally:
        os.close(parent)
    return open_inside(root, path)


def _link_target(name: str, folder: int) -> str | None:
    """Where a symlink leads, or None for what is none (somebody else has made it in between)."""
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return None


def read_inside(root: int, path: str) -> str:
    """The text of a small regular file inside `root`. Raises OSError; a device, FIFO or huge file is EINVAL."""
    file = open_inside(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(file)
        if status.st_mode & 0o170000 != 0o100000 or status.st_size > _LARGEST:
            raise OSError(errno.EINVAL, "not a regular file of at most 1 MiB", path)
        return os.read(file, _LARGEST).decode(errors="replace")
    finally:
        os.close(file)
