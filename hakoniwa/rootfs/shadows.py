"""Password files that have appeared on the host since a `host` rootfs was made: looked for at each start."""

from __future__ import annotations

import os

from hakoniwa.kernel import paths


def refresh(rootfs: int) -> None:
    """Hide in a rootfs, a descriptor, those that it does not hide yet; what that takes is loaded only where there are some."""
    try:
        upper = os.open("upper", paths.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=rootfs)
    except OSError:
        return  # no layer: the start itself says so
    try:
        new = [name for name in password_files() if not _is_there(upper, name)]
        if new:
            from hakoniwa.rootfs.secrets import hide_shadows
            from hakoniwa.rootfs.upper import UpperLayer

            hide_shadows(UpperLayer(upper), new)
    finally:
        os.close(upper)


def password_files() -> list[str]:
    """The names of those of the host, in /etc."""
    return [name for name in os.listdir("/etc") if name.startswith(("shadow", "gshadow"))]


def _is_there(upper: int, name: str) -> bool:
    try:
        os.stat(f"etc/{name}", dir_fd=upper, follow_symlinks=False)
    except OSError:
        return False
    return True
