"""Paths of the host that root opens for a container, and that lead through folders in which containers can write.

In such a folder a container may put a symlink in the place of what a file names. So a symlink that lies there is followed
within that folder only; all others, which are the host's, lead anywhere. The kernel is asked first to follow none at
all, which settles nearly every path; the others are walked by `host/walk.py`.
"""

from __future__ import annotations

import errno
import os

from hakoniwa.kernel.filesystem import paths
from hakoniwa.places import lib_dir, run_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec.records import Barn, Container


class _Distrusted:
    """The folders that containers can write to, as far as this process knows: of the file's, and of all that are known."""

    folders: set[str] = set()
    places: tuple[str, str] | None = None  # of states and records; who has become root of a namespace has others


def distrust(barn: Barn) -> None:
    """Note what the containers of a barn can write to, for all paths that are opened from now on."""
    _Distrusted.places = (run_dir(), lib_dir())
    for container in barn.containers:
        _Distrusted.folders |= _folders_of(container)


def _folders_of(container: Container) -> set[str]:
    replaced = [] if container.files.rootfs.replacement is None else [container.files.rootfs.replacement]
    shared = {mount.source for mount in (*container.files.mounts, *replaced) if mount.fs is None and not mount.readonly}
    return {container.files.rootfs.path, *shared}


def open_outside(path: str, flags: int = paths.O_PATH, mode: int = 0) -> int:
    """Open an absolute path of the host. Raises OSError: ELOOP also where a container's symlink would lead out."""
    try:
        return paths.open_without_links(path, flags, mode)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    from hakoniwa.host import walk as hostwalk

    distrusted = hostwalk.identities(_Distrusted.folders, *(_Distrusted.places or (run_dir(), lib_dir())))
    return hostwalk.Walk(path, distrusted).open(flags, mode)


def be_ready() -> None:
    """Load what `open_outside` needs for a path with a symlink on the way, before nothing can be loaded any more.

    Few paths have one. For that of the rootfs the supervisor has loaded it, when it claimed the rootfs.
    """
    from hakoniwa.host import walk as hostwalk  # noqa: F401


def open_parent(path: str) -> tuple[int, str]:
    """The folder that an absolute path of the host lies in, opened so, and the name in it."""
    above, name = os.path.split(path)
    return open_outside(above, paths.O_PATH | os.O_DIRECTORY), name


def remove_file(path: str) -> None:
    """Remove a file of the host that we have made. Raises OSError."""
    folder, name = open_parent(path)
    try:
        os.unlink(name, dir_fd=folder)
    finally:
        os.close(folder)
