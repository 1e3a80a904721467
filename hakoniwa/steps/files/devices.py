"""The private /dev: a handful of harmless devices, never the host's, and an instance of devpts."""

from __future__ import annotations

import errno
import os
import stat

from hakoniwa.kernel.filesystem import mount
from hakoniwa.steps.files.mounts import open_target
from hakoniwa.steps.process.standard import make_devpts
from hakoniwa.steps.step import Context, Step

# Name, major, minor (Documentation/admin-guide/devices.txt).
DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
LINKS = (
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
)


class MakeDev(Step):
    """A small tmpfs with the device nodes and links. It is filled before it is attached anywhere."""

    target: str = "/dev"
    bind: bool = False  # in a user namespace no device can be made (`man 7 user_namespaces`): the host's are bound

    def __str__(self) -> str:
        return f"make a private {self.target}{', with the devices of the host' if self.bind else ''}"

    def apply(self, context: Context) -> None:
        options = ["mode=755", "size=1m"]
        tree = mount.make("tmpfs", "dev", options, mount.NOSUID | mount.NOEXEC)
        umask = os.umask(0)
        for name, major, minor in DEVICES:
            if self.bind:
                os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=tree))
            else:
                os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=tree)
        os.umask(umask)
        for name, target in LINKS:
            os.symlink(target, name, dir_fd=tree)
        for folder in ("pts", "shm", "mqueue"):
            os.mkdir(folder, 0o755, dir_fd=tree)
        place = open_target(context, self.target, folder=True)
        mount.attach(tree, place)
        if self.bind:
            self._bind_devices(tree)
        os.close(tree)
        os.close(place)

    def _bind_devices(self, folder: int) -> None:
        """Mount the host's nodes on the empty files. Raises OSError where one is not the device that it should be."""
        for name, major, minor in DEVICES:
            node = os.open(f"/dev/{name}", os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
            if os.fstat(node).st_rdev != os.makedev(major, minor):
                raise OSError(errno.EINVAL, "not the device of that name", f"/dev/{name}")
            tree = mount.clone_tree("", at=node)
            mount.set_attributes(tree, mount.NOSUID | mount.NOEXEC)
            mount.attach(tree, os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=folder))
            os.close(tree)
            os.close(node)


class MakeDevpts(Step):
    """Terminals of the container's own. The mount is kept, so that a pty is opened in it and in no other."""

    def __str__(self) -> str:
        return "mount devpts on /dev/pts"

    def apply(self, context: Context) -> None:
        context.devpts = make_devpts(context)
        context.devpts_device = os.fstat(context.devpts).st_dev
        target = open_target(context, "/dev/pts", folder=True)
        mount.attach(context.devpts, target)
        os.close(target)
