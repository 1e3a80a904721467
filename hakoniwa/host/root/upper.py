"""The upper layer of a `host` rootfs as it is filled from outside: folders, copies, and what hides names of the layer below.

A whiteout hides one name, an opaque folder all that the lower one has, and a redirect lets a folder in an opaque one show
what lies below all the same (Documentation/filesystems/overlayfs.rst). The layer may be the work of a container: no
symlink in it is followed.
"""

from __future__ import annotations

import os
import stat

from hakoniwa.kernel.filesystem import paths
from hakoniwa.kernel.processes import idmap


class UpperLayer:
    """The layer in the folder `root`, a descriptor. Paths are the host's."""

    def __init__(self, root: int) -> None:
        self.by_root = idmap.is_host_root()
        self._root = root
        self._kind = "trusted" if self.by_root else "user"

    def open_folder(self, path: str) -> int:
        """The folder for a folder of the host, made with the same owner and mode if it is missing."""
        try:
            return paths.open_beneath(self._root, path, paths.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            pass
        above, _, last = path.rstrip("/").rpartition("/")
        parent = self.open_folder(above) if above else os.dup(self._root)
        try:
            status = os.stat(path)
            os.mkdir(last, 0o700, dir_fd=parent)
            made = os.open(last, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                self._give_look(made, status)
            finally:
                os.close(made)
            return os.open(last, paths.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        finally:
            os.close(parent)

    def decides_about(self, path: str, *, folder: bool) -> bool:
        """Whether what it has at a path hides the file, or the `folder` as a whole, below."""
        try:
            status = os.stat(path.lstrip("/"), dir_fd=self._root, follow_symlinks=False)
        except OSError:
            return False
        return not (folder and stat.S_ISDIR(status.st_mode))

    def make_opaque(self, path: str) -> None:
        """Have a folder show nothing but what is in this layer."""
        self._mark(path, "opaque", b"y")

    def redirect(self, path: str) -> None:
        """Have a folder in an opaque one show what lies below."""
        self._mark(path, "redirect", os.fsencode(path))

    def _mark(self, path: str, word: str, value: bytes) -> None:
        try:
            folder = self.open_folder(path)
        except FileNotFoundError:
            return  # gone from the host in between
        try:
            os.setxattr(f"/proc/self/fd/{folder}", f"{self._kind}.overlay.{word}", value)
        finally:
            os.close(folder)

    def empty(self, path: str) -> None:
        """Show a folder empty; if there is none, show none that comes later."""
        if is_folder(path):
            self.make_opaque(path)
        else:
            self.remove(path)

    def remove(self, path: str) -> None:
        """Show nothing of a name, whatever is there or comes later; if a folder on the way is missing, not that."""
        above, _, name = path.rpartition("/")
        while above and not is_folder(above):
            above, _, name = above.rpartition("/")
        if not above and not self.by_root:
            return  # not in an overlay there (steps/files/gather.py)
        try:
            at = self.open_folder(above) if above else os.dup(self._root)
        except FileNotFoundError:
            return  # gone from the host in between
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=at)
        except FileExistsError:
            pass
        finally:
            os.close(at)

    def write(self, path: str, content: bytes, status: os.stat_result | None) -> None:
        """Make a file, with the owner, mode and times of the host's."""
        above, _, name = path.rpartition("/")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        at = self.open_folder(above)
        try:
            file = os.open(name, flags, 0o600, dir_fd=at)
        finally:
            os.close(at)
        try:
            while content:
                content = content[os.write(file, content) :]
            if status is not None:
                self._give_look(file, status)
                os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(file)

    def copy(self, path: str) -> None:
        """Copy a file or a symlink of the host; another kind of file is left out."""
        try:
            if os.path.islink(path):
                at = self.open_folder(os.path.dirname(path))
                os.symlink(os.readlink(path), os.path.basename(path), dir_fd=at)
                os.close(at)
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    self.write(path, file.read(), os.fstat(file.fileno()))
        except FileNotFoundError:
            pass  # gone from the host in between

    def _give_look(self, file: int, status: os.stat_result) -> None:
        if self.by_root:
            os.fchown(file, status.st_uid, status.st_gid)
        os.fchmod(file, stat.S_IMODE(status.st_mode))


def is_folder(path: str) -> bool:
    """Whether there is a folder, and not a symlink to one."""
    return os.path.isdir(path) and not os.path.islink(path)
