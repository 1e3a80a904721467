"""Password files that have appeared on the host since a `host` rootfs was made: looked for at each start."""

from __future__ import annotations

import os

from hakoniwa.kernel import paths


def refresh(path: str) -> None:
    """Hide in the rootfs at `path` those that it does not hide yet; what that takes is loaded only where there are some."""
    try:
        upper = os.open(os.path.join(path, "upper"), paths.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
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
