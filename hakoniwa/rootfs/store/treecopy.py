"""A copy of a tree of any depth, with all that it has: owners, modes, times, links, attributes, holes, devices.

`cp` goes by paths, which end at PATH_MAX; what a container has nested deeper could not be copied.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem import tree

_CLONE = 0x40049409  # FICLONE, `man 2 ioctl_ficlone`
_CHUNK = 1 << 30
_LINKS = ".hakoniwa-links"
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# Attributes that the kernel's own modules give to a file when it is made, and may not let us set.
_MODULES = ("security.selinux", "security.ima", "security.evm", "security.SMACK64")


def copy_tree(source: str, target: str) -> None:
    """Copy the content of a folder, and what the folder itself looks like, into another. Raises HakoError."""
    try:
        with tree.Place(source) as there, tree.Place(target) as here:
            copy = _TreeCopy(there, here)
            try:
                copy.run()
            except OSError as error:
                raise OSError(error.errno, error.strerror, there.path(copy.name)) from error
    except OSError as error:
        raise HakoError(f"cannot copy {os.path.join(source, error.filename)}: {error.strerror}") from error


class _TreeCopy:
    """A copy under way: two places that move together."""

    def __init__(self, there: tree.Place, here: tree.Place) -> None:
        self.there = there
        self.here = here
        self.name = ""  # what is being copied, in the folder that we are in
        self._clones = True  # until the file system says that it cannot
        # A folder in which the first of each set of hard links has a second name: its own may lie too deep for a path.
        self._links = -1
        self._awaited: dict[str, int] = {}  # how many links to each of these are still to come

    def run(self) -> None:
        """Copy everything below, then what the folder itself looks like. Raises OSError."""
        top = os.dup(self.here.folder)
        held = self._make_links_folder()
        try:
            for event, name in self.there.walk():
                self.name = name if event != tree.ENTERED else ""
                if event == tree.FILE:
                    self._copy(name)
                elif event == tree.ENTERED:
                    os.mkdir(name, 0o700, dir_fd=self.here.folder)
                    self.here.enter(name)
                else:
                    self._finish_folder(f"/proc/self/fd/{self.there.folder}/{name}")
                    self.here.leave()
        finally:
            tree.empty(self._links)
            os.close(self._links)
            os.rmdir(held, dir_fd=top)
            os.close(top)
        self.name = ""
        self._finish_folder(f"/proc/self/fd/{self.there.folder}/.")

    def _make_links_folder(self) -> str:
        name = _LINKS
        while name in os.listdir(self.there.folder):
            name += "-"
        os.mkdir(name, 0o700, dir_fd=self.here.folder)
        self._links = os.open(name, os.O_RDONLY | os.O_DIRECTORY | _FLAGS, dir_fd=self.here.folder)
        return name

    def _finish_folder(self, source: str) -> None:
        """Once everything is in it: each entry changes its times, and an ACL of it would be handed on to them."""
        status, folder = os.lstat(source), self.here.folder
        os.chown(folder, status.st_uid, status.st_gid)
        os.chmod(folder, stat.S_IMODE(status.st_mode))
        _copy_attributes(source, f"/proc/self/fd/{folder}/.")
        os.utime(folder, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _copy(self, name: str) -> None:
        there, here = self.there.folder, self.here.folder
        status = os.stat(name, dir_fd=there, follow_symlinks=False)
        known = f"{status.st_dev:x}-{status.st_ino:x}"
        if status.st_nlink > 1 and known in self._awaited:
            self._link(known, name)
            return
        if stat.S_ISREG(status.st_mode):
            self._copy_file(name, status)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=there), name, dir_fd=here)
        else:
            os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=here)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=here, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=here)
        _copy_attributes(f"/proc/self/fd/{there}/{name}", f"/proc/self/fd/{here}/{name}")
        os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=here, follow_symlinks=False)
        if status.st_nlink > 1:
            os.link(name, known, src_dir_fd=here, dst_dir_fd=self._links, follow_symlinks=False)
            self._awaited[known] = status.st_nlink - 1

    def _link(self, known: str, name: str) -> None:
        os.link(known, name, src_dir_fd=self._links, dst_dir_fd=self.here.folder, follow_symlinks=False)
        self._awaited[known] -= 1
        if not self._awaited[known]:
            del self._awaited[known]
            os.unlink(known, dir_fd=self._links)

    def _copy_file(self, name: str, status: os.stat_result) -> None:
        source = os.open(name, os.O_RDONLY | _FLAGS, dir_fd=self.there.folder)
        try:
            target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600, dir_fd=self.here.folder)
            try:
                if not self._clone(source, target):
                    _copy_data(source, target, status)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _clone(self, source: int, target: int) -> bool:
        """Share the blocks, if the file system can."""
        if self._clones:
            try:
                fcntl.ioctl(target, _CLONE, source)
            except OSError:
                self._clones = False
        return self._clones


def _copy_data(source: int, target: int, status: os.stat_result) -> None:
    """Copy the content; its holes stay holes."""
    at, size = 0, status.st_size
    whole = status.st_blocks * 512 >= size
    while at < size:
        end = size
        if not whole:
            try:
                at = os.lseek(source, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:  # no data any more: `man 2 lseek`
                    raise
                break
            end = os.lseek(source, at, os.SEEK_HOLE)
            os.lseek(target, at, os.SEEK_SET)
        while at < end:
            count = os.sendfile(target, source, at, min(end - at, _CHUNK))
            if not count:
                raise OSError(errno.EIO, "it has become shorter in the meantime")
            at += count
    if not whole:
        os.ftruncate(target, size)


def _copy_attributes(source: str, target: str) -> None:
    """Extended attributes, ACLs and file capabilities among them."""
    for name in os.listxattr(source, follow_symlinks=False):
        try:
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
        except OSError:
            if name not in _MODULES:
                raise
