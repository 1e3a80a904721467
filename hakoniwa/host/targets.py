"""What is mounted on in a rootfs that is shown read-only: it is made before, on the host's side, where it is missing."""

from __future__ import annotations

import os

from hakoniwa.host.paths import open_outside
from hakoniwa.kernel.filesystem import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_READ = os.O_RDONLY | os.O_DIRECTORY


def make_targets(rootfs: str, layers: tuple[str, ...], names: Iterable[str]) -> None:
    """Make empty files in its /etc, unless they are there. What cannot be made, the step that mounts on it tells."""
    try:
        folder = open_outside(rootfs, _READ)
    except OSError:
        return
    try:
        for name in names:
            if layers:
                _make_above(folder, layers, name)
            else:
                os.close(paths.make_inside(folder, f"/etc/{name}", folder=False))
    except OSError:
        pass
    finally:
        os.close(folder)


def _make_above(folder: int, layers: tuple[str, ...], name: str) -> None:
    """The same for a rootfs on layers, which belong to others, too: in the layer of its own. Raises OSError."""
    upper = paths.open_beneath(folder, "upper", _READ)
    below = [paths.open_without_links(layer, _READ) for layer in layers]
    try:
        if not any(_has(place, name) for place in (upper, *below)):
            etc = _own_etc(upper, below)
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                os.close(os.open(name, flags, 0o644, dir_fd=etc))
            finally:
                os.close(etc)
    finally:
        for place in (upper, *below):
            os.close(place)


def _has(layer: int, name: str) -> bool:
    """Whether a layer has something of a name in /etc, be it that it hides what lies below."""
    try:
        os.close(paths.open_beneath(layer, f"etc/{name}", os.O_PATH | os.O_NOFOLLOW))
    except FileNotFoundError:
        return False
    return True


def _own_etc(upper: int, below: list[int]) -> int:
    """/etc of the layer above, which is as that below is unless it was there. Raises OSError."""
    try:
        return paths.open_beneath(upper, "etc", _READ)
    except FileNotFoundError:
        os.mkdir("etc", 0o755, dir_fd=upper)
    own = paths.open_beneath(upper, "etc", _READ)
    for layer in reversed(below):
        try:
            status = os.stat("etc", dir_fd=layer, follow_symlinks=False)
        except FileNotFoundError:
            continue
        os.fchown(own, status.st_uid, status.st_gid)
        os.fchmod(own, status.st_mode & 0o7777)
        break
    return own
