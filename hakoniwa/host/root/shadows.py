"""Password files that have appeared on the host since a `host` rootfs was made: each start looks for them."""

from __future__ import annotations

import os

from hakoniwa.kernel.filesystem import paths


def find_new(rootfs: int) -> list[str]:
    """The names of the host's password files that a rootfs, a descriptor, does not hide yet."""
    try:
        upper = open_upper(rootfs)
    except OSError:
        return []  # no layer: the start itself says so
    try:
        return [name for name in password_files() if not _is_there(upper, name)]
    finally:
        os.close(upper)


def open_upper(rootfs: int) -> int:
    """The upper layer of a rootfs, as a descriptor. Raises OSError."""
    return os.open("upper", paths.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=rootfs)


def password_files() -> list[str]:
    """The names of those of the host, in /etc."""
    return [name for name in os.listdir("/etc") if name.startswith(("shadow", "gshadow"))]


def _is_there(upper: int, name: str) -> bool:
    try:
        os.stat(f"etc/{name}", dir_fd=upper, follow_symlinks=False)
    except OSError:
        return False
    return True
