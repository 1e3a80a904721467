"""Reading files of the host for a rootfs: a tree in which containers may be writing at this moment."""

from __future__ import annotations

import os
import stat

from hakoniwa.host.paths import open_outside
from hakoniwa.kernel.filesystem import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def read_tree(source: str) -> Iterator[tuple[str, int]]:
    """A file, or a folder with everything below it, sorted: the name relative to it, and a descriptor of kind O_PATH.

    A symlink is given as itself, but for the source: what that leads to is read. Descriptors are closed as the reading
    goes on. Raises OSError that names the path.
    """
    root = open_outside(source)
    try:
        names = [""]
        if stat.S_ISDIR(os.fstat(root).st_mode):
            names += sorted(_names_below(root), key=lambda name: name.split("/"))
        for name in names:
            entry = paths.open_beneath(root, name, paths.O_PATH | os.O_NOFOLLOW) if name else os.dup(root)
            try:
                yield name, entry
            finally:
                os.close(entry)
    except OSError as error:
        if isinstance(error.filename, str) and not error.filename.startswith("/"):
            raise OSError(error.errno, error.strerror, os.path.join(source, error.filename)) from None
        raise
    finally:
        os.close(root)


def _names_below(root: int) -> list[str]:
    found: list[str] = []
    left = [""]
    while left:
        above = left.pop()
        folder = paths.open_beneath(root, above, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    name = f"{above}/{entry.name}" if above else entry.name
                    found.append(name)
                    if entry.is_dir(follow_symlinks=False):
                        left.append(name)
        finally:
            os.close(folder)
    return found


def reopen(entry: int) -> int:
    """A regular file that is open with O_PATH, for reading."""
    return os.open(f"/proc/self/fd/{entry}", os.O_RDONLY | os.O_CLOEXEC)
