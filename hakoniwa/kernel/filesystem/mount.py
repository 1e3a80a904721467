"""The mount calls that work on file descriptors (Linux 5.12 and later): no path is resolved twice.

`man 2 open_tree`, `move_mount`, `fsopen`, `fsconfig`, `fsmount`, `mount_setattr`, `pivot_root`.
"""

from __future__ import annotations

import errno
import os

from hakoniwa.kernel.libc import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    FSCONFIG,
    FSMOUNT,
    FSOPEN,
    MOUNT_SETATTR,
    MOVE_MOUNT,
    OPEN_TREE,
    call,
    syscall,
)
from hakoniwa.record import Record

# Attributes of a mount (linux/mount.h).
RDONLY = 0x1
NOSUID = 0x2
NODEV = 0x4
NOEXEC = 0x8
_ATIME = 0x70
NOATIME = 0x10
STRICTATIME = 0x20
NODIRATIME = 0x80
NOSYMFOLLOW = 0x200000
_IDMAP = 0x100000

_OPEN_TREE_CLONE = 1
_MOVE_FROM_FD_TO_FD = 0x4 | 0x40  # MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH
_CLOEXEC = 1  # of fsopen and fsmount; open_tree takes O_CLOEXEC
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6  # fsconfig commands
_MS_REC, _MS_PRIVATE, _MS_SHARED = 0x4000, 0x40000, 0x100000
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8


def clone_tree(source: str, *, at: int = AT_FDCWD, recursive: bool = True) -> int:
    """A detached copy of the mounts at `source`, as a descriptor: what a bind mount is made from.

    With `source` empty the tree is the one that `at` refers to.
    """
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    flags |= AT_RECURSIVE if recursive else 0
    flags |= 0 if source else AT_EMPTY_PATH
    return syscall(OPEN_TREE, at, os.fsencode(source), flags, path=source or None)


def attach(tree: int, target: int) -> None:
    """Mount a detached tree on the file that `target` refers to."""
    syscall(MOVE_MOUNT, tree, b"", target, b"", _MOVE_FROM_FD_TO_FD)


def make(fs: str, source: str, options: list[str], attributes: int = 0) -> int:
    """A new file system of type `fs`, mounted nowhere yet, as a descriptor.

    Raises OSError whose text ends with what the file system itself said about a refused option.
    """
    context = syscall(FSOPEN, os.fsencode(fs), _CLOEXEC)
    try:
        _configure(context, source, options)
        syscall(FSCONFIG, context, _CREATE, None, None, 0)
        return syscall(FSMOUNT, context, _CLOEXEC, attributes)
    except OSError as error:
        said = _said(context)
        if said:
            raise OSError(error.errno, f"{error.strerror}: {said}", error.filename) from None
        raise
    finally:
        os.close(context)


def try_options(fs: str, options: list[str]) -> str:
    """What a file system of type `fs` says of options that it does not take, without one being made. Raises OSError."""
    context = syscall(FSOPEN, os.fsencode(fs), _CLOEXEC)
    try:
        _configure(context, "", options)
        return ""
    except OSError as error:
        return _said(context) or str(error.strerror)
    finally:
        os.close(context)


def _configure(context: int, source: str, options: list[str]) -> None:
    if source:
        syscall(FSCONFIG, context, _SET_STRING, b"source", os.fsencode(source), 0)
    for option in options:
        key, equals, value = option.partition("=")
        if equals:
            syscall(FSCONFIG, context, _SET_STRING, os.fsencode(key), os.fsencode(value), 0, path=option)
        else:
            syscall(FSCONFIG, context, _SET_FLAG, os.fsencode(key), None, 0, path=option)


def _said(context: int) -> str:
    """What the file system wrote to its message log, which reading takes out line by line."""
    lines = []
    try:
        while line := os.read(context, 1024):
            lines.append(line.decode(errors="replace").strip().partition(" ")[2])
    except OSError:
        pass  # ENODATA: no further message
    return ", ".join(lines)


def set_attributes(tree: int, attributes: int, *, clear: int = 0, recursive: bool = True) -> None:
    """Add and clear attributes of a tree, all of its submounts included: a read-only bind has no writable corner.

    It is cut off, too: no mount made in it is seen where it is from, nor the other way round.
    """
    if attributes & _ATIME:
        clear |= _ATIME
    record = b"".join(value.to_bytes(8, "little") for value in (attributes, clear, _MS_PRIVATE, 0))
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    syscall(MOUNT_SETATTR, tree, b"", flags, record, len(record))


def map_ids(tree: int, user_namespace: int) -> None:
    """Show the ids on a detached tree as a user namespace maps them: what it has inside is what is on the disk.

    Raises OSError: EINVAL where a file system of the tree cannot do that. `man 2 mount_setattr`, "ID-mapped mounts".
    """
    record = b"".join(value.to_bytes(8, "little") for value in (_IDMAP, 0, 0, user_namespace))
    syscall(MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH | AT_RECURSIVE, record, len(record))


class Seen(Record):
    """A mount of this mount namespace: the device of its file system, what of that it shows, and where."""

    device: bytes
    root: str
    point: str


def every_mount() -> list[Seen]:
    """The mounts of this mount namespace, the later ones on top. `man 5 proc_pid_mountinfo`."""
    found = []
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            _, _, device, *names = line.split(b" ", 5)
            root, point = (os.fsdecode(_unescape(name)) for name in names[:2])
            found.append(Seen(device=device, root=root, point=point))
    return found


def points_below(real: str, *, itself: bool = False) -> list[str]:
    """The mount points below a path without symlinks, in this mount namespace."""
    below = real.rstrip("/") + "/"
    return [one.point for one in every_mount() if one.point.startswith(below) or (itself and one.point == real)]


def _unescape(text: bytes) -> bytes:
    """A path as the kernel writes it there: space, tab, newline and backslash are octal."""
    first, *parts = text.split(b"\\")
    return first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in parts)


def bind_file(source: str, target: int) -> None:
    """Mount one file on another, which `target` refers to."""
    tree = clone_tree(source, recursive=False)
    attach(tree, target)
    os.close(tree)


def detach(path: str) -> None:
    """Take a mount away, whoever still uses it. Raises OSError: EINVAL where none is there. `man 2 umount2`."""
    call("umount2", os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW, path=path)


def share(path: str) -> bool:
    """Have a mount, and those below it, be seen in other mount namespaces as they change here; False if no mount is there."""
    try:
        call("mount", b"none", os.fsencode(path), None, _MS_REC | _MS_SHARED, None, path=path)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def make_all_private() -> None:
    """Cut this mount namespace off: no mount made here is seen outside, nor the other way round."""
    call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None, path="/")


def pivot_root_here() -> None:
    """Make the current folder, a mount, the root, and let go of the old one. `man 2 pivot_root`, "pivot_root(".", ".")"."""
    call("pivot_root", b".", b".", path="/")
    call("umount2", b".", _MNT_DETACH, path="/")
