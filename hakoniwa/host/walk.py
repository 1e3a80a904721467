"""The walk along a path of the host that has symlinks on the way, some of which a container may have put there: see host/paths.py."""

from __future__ import annotations

import _json  # noqa: F401  # which `fastjson.loads` needs: here it may be called when nothing can be loaded any more
import errno
import os

from hakoniwa import fastjson
from hakoniwa.kernel.filesystem import paths
from hakoniwa.trust import read_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_MOST_LINKS = 40  # as the kernel has it: `man 7 path_resolution`


def identities(folders: set[str], run: str, lib: str) -> set[tuple[int, int]]:
    """What tells the folders that containers can write to from others, whatever leads to them.

    They are `folders`, and those of all containers with a state or a record in these places.
    """
    found = set()
    for folder in {*folders, *_known_folders(run, lib)}:
        try:
            status = os.stat(folder)
        except OSError:
            continue
        found.add((status.st_dev, status.st_ino))
    return found


def _known_folders(run: str, lib: str) -> Iterator[str]:
    """Those of the containers that have a state or a record (known/state.py). What cannot be read is left to who needs it."""
    records = os.path.join(lib, ".containers")
    for folder, ending in ((run, "/state.json"), (records, "")):
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            try:
                known = fastjson.loads(read_own(f"{folder}/{name}{ending}").decode())
                yield from _folders_in(known["definition"])
            except (OSError, ValueError, LookupError, TypeError):
                continue


def _folders_in(definition: dict[str, Any]) -> list[str]:
    files = definition.get("files", definition)  # which were no group of their own until schema 2
    rootfs = files["rootfs"]
    replaced = [] if rootfs["replacement"] is None else [rootfs["replacement"]]
    shared = [
        mount["source"] for mount in (*files["mounts"], *replaced) if mount["fs"] is None and not mount["readonly"]
    ]
    return [rootfs["path"], *shared]


class Walk:
    """The way along one path, link by link. `man 7 path_resolution`."""

    def __init__(self, path: str, distrusted: set[tuple[int, int]]) -> None:
        self._path = path
        self._left = _parts(path)
        self._folders = [os.open("/", paths.O_PATH | os.O_DIRECTORY)]  # from the root to where we are
        self._least = 1  # how many of them we may not go back behind
        self._links = 0
        self._distrusted = distrusted

    def open(self, flags: int, mode: int) -> int:
        """Open what the path leads to."""
        try:
            while self._left:
                name = self._left.pop(0)
                if name == "..":
                    self._go_back()
                    continue
                try:
                    target = os.readlink(name, dir_fd=self._folders[-1])
                except OSError as error:
                    if error.errno != errno.EINVAL and not (
                        error.errno == errno.ENOENT and flags & os.O_CREAT and not self._left
                    ):
                        # Neither EINVAL, of what is no symlink, nor ENOENT, of what is to be made.
                        raise OSError(error.errno, error.strerror, self._path) from None
                    if not self._left:
                        return paths.open_without_links(name, flags, mode, folder=self._folders[-1])
                    here = paths.open_without_links(name, paths.O_PATH | os.O_DIRECTORY, folder=self._folders[-1])
                    self._folders.append(here)
                    continue
                if flags & os.O_NOFOLLOW and not self._left:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self._path)
                opened = self._follow(name, target, flags, mode)
                if opened != -1:
                    return opened
            return paths.open_without_links(".", flags & ~os.O_CREAT, folder=self._folders[-1])
        finally:
            for folder in self._folders:
                os.close(folder)

    def _go_back(self) -> None:
        if len(self._folders) > self._least:
            os.close(self._folders.pop())
        elif self._least > 1:
            self._refuse()

    def _follow(self, name: str, target: str, flags: int, mode: int) -> int:
        """Go on along a symlink. Returns -1, or what a magic one has led to at the end of the path."""
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self._path)
        bound = self._bound()
        if paths.is_magic(self._folders[-1], name, target):  # made by the kernel alone
            if self._least > 1:
                self._refuse()
            if not self._left:
                return os.open(name, flags | os.O_CLOEXEC, mode, dir_fd=self._folders[-1])
            self._folders.append(os.open(name, paths.O_PATH | os.O_DIRECTORY, dir_fd=self._folders[-1]))
            return -1
        if bound:
            self._least = max(self._least, bound)
            if target.startswith("/"):
                self._refuse()
        elif target.startswith("/"):
            while len(self._folders) > 1:
                os.close(self._folders.pop())
        self._left = [*_parts(target), *self._left]
        return -1

    def _bound(self) -> int:
        """How many folders lead to the innermost that containers can write to, on the way to where we are; 0 without."""
        for count in range(len(self._folders), 0, -1):
            status = os.fstat(self._folders[count - 1])
            if (status.st_dev, status.st_ino) in self._distrusted:
                return count
        return 0

    def _refuse(self) -> None:
        folder = os.readlink(f"/proc/self/fd/{self._folders[self._least - 1]}")
        raise OSError(errno.ELOOP, f"a symlink leads out of {folder}, which a container can write to", self._path)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
