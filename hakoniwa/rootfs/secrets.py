"""Password files and host keys of the host, hidden in the writable layer of a `host` rootfs.

A whiteout of the upper layer hides a file (Documentation/filesystems/overlayfs.rst). Password files are copied without
their hashes instead, so that `useradd` and the like work.
"""

from __future__ import annotations

import os
import stat

from hakoniwa.kernel import idmap, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Folders, and what the names of their hidden files begin with.
WITHOUT_HASHES = (("/etc", "shadow"), ("/etc", "gshadow"))
REMOVED = (("/etc/ssh", "ssh_host_"), ("/var/backups", "shadow"), ("/var/backups", "gshadow"))


_NAMES = ("/etc/passwd", "/etc/group")


def refresh(path: str) -> None:
    """Hide password files and host keys that have appeared on the host since the rootfs was made."""
    try:
        upper = os.open(os.path.join(path, "upper"), paths.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return  # no layer: the start itself says so
    try:
        hide_secrets(upper)
    finally:
        os.close(upper)


def hide_secrets(upper: int) -> None:
    """Hide what is not hidden yet. The layer may be the work of the container: no symlink in it is followed."""
    for folder, start in WITHOUT_HASHES:
        for name in _matching(folder, start):
            _place(upper, folder, name, lambda at, name, source: _copy_without_hashes(source, at, name))
    for folder, start in REMOVED:
        for name in _matching(folder, start):
            _place(upper, folder, name, lambda at, name, _: os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=at))


def _matching(folder: str, start: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.startswith(start)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _place(upper: int, folder: str, name: str, make: Callable[[int, str, str], None]) -> None:
    """Make an entry of the upper layer, unless there is one: then the lower layer's is not seen anyway."""
    try:
        at = make_folder(upper, folder)
    except (NotADirectoryError, FileExistsError):
        return  # the container has something else there, which hides the lower folder whole
    except OSError as error:
        if error.errno == 40:  # ELOOP: a symlink, likewise
            return
        raise
    try:
        os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        make(at, name, os.path.join(folder, name))
    finally:
        os.close(at)


def _copy_without_hashes(source: str, at: int, name: str) -> None:
    """Copy a shadow file; each second field becomes `*`, which no password matches. `man 5 shadow`."""
    try:
        with open(source, "rb") as file:
            status = os.fstat(file.fileno())
            lines = [line.split(b":") for line in file.read().splitlines()]
    except PermissionError:
        status = None  # an ordinary user's layer: the names alone
        with open(_NAMES[name.startswith("gshadow")], "rb") as file:
            lines = [[line.split(b":")[0], *[b""] * (3 if name.startswith("gshadow") else 8)] for line in file]
    for fields in lines:
        if len(fields) > 1:
            fields[1] = b"*"
    content = b"".join(b":".join(fields) + b"\n" for fields in lines)
    copy = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=at)
    try:
        os.write(copy, content)
        if status is not None and idmap.is_host_root():
            os.fchown(copy, status.st_uid, status.st_gid)
            os.fchmod(copy, stat.S_IMODE(status.st_mode))
    finally:
        os.close(copy)


def make_folder(upper: int, path: str) -> int:
    """The folder of the upper layer for a folder of the host, made with the same owner and mode where it is missing."""
    try:
        return paths.open_beneath(upper, path, paths.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        pass
    above, _, last = path.rstrip("/").rpartition("/")
    parent = make_folder(upper, above) if above else os.dup(upper)
    try:
        status = os.stat(path)
        os.mkdir(last, 0o700, dir_fd=parent)
        if idmap.is_host_root():
            os.chown(last, status.st_uid, status.st_gid, dir_fd=parent, follow_symlinks=False)
        os.chmod(last, stat.S_IMODE(status.st_mode), dir_fd=parent)
        return os.open(last, paths.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    finally:
        os.close(parent)
