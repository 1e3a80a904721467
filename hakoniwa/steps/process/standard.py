"""The standard streams: the container's own null device, and a terminal of its own."""

from __future__ import annotations

import os
import stat

from hakoniwa.kernel.filesystem import mount, paths
from hakoniwa.steps.step import Context, Step

_DEVPTS_OPTIONS = ["mode=620", "ptmxmode=666"]


def make_devpts(context: Context) -> int:
    """A new devpts instance, attached nowhere."""
    options = [*_DEVPTS_OPTIONS, *([f"gid={context.tty_group}"] if context.tty_group != -1 else [])]
    return mount.make("devpts", "devpts", options, mount.NOSUID | mount.NOEXEC)


class TakeNull(Step):
    """The container's own null device in place of the host's: whoever has that open could change its mode and owner."""

    def __str__(self) -> str:
        return "open the container's own /dev/null"

    def apply(self, context: Context) -> None:
        if not context.null_streams:
            return
        device = self._find(context.null_streams[0])
        if device == -1:
            device = self._make()
        if device == -1:
            return
        for number in context.null_streams:
            os.dup2(device, number)
        os.close(device)

    def _find(self, stream: int) -> int:
        """That of /dev, where it is not the host's, which the stream leads to, or -1."""
        root = os.open("/", paths.O_PATH)
        try:
            device = paths.open_beneath(root, "dev/null", os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
            found, outside = os.fstat(device), os.fstat(stream)
        except OSError:
            return -1
        finally:
            os.close(root)
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == paths.NULL and not os.path.samestat(found, outside):
            os.set_blocking(device, True)
            return device
        os.close(device)
        return -1

    def _make(self) -> int:
        """One in a file system of its own. -1 in a user namespace, to which the host's node does not belong either."""
        try:
            tree = mount.make("tmpfs", "null", ["size=4k", "nr_inodes=4", "mode=755"], mount.NOSUID | mount.NOEXEC)
        except PermissionError:
            return -1
        try:
            os.mkdir("dev", 0o755, dir_fd=tree)
            os.mknod("dev/null", stat.S_IFCHR | 0o600, paths.NULL, dir_fd=tree)
            os.chmod("dev/null", 0o666, dir_fd=tree)
            return os.open("dev/null", os.O_RDWR | os.O_CLOEXEC, dir_fd=tree)
        except PermissionError:
            return -1
        finally:
            os.close(tree)


class OpenTerminal(Step):
    """A pty in place of the streams that are terminals; its master goes to the process that owns the user's."""

    streams: tuple[int, ...]
    instance: int | None = None  # the device number of the container's devpts, where it is mounted already

    def __str__(self) -> str:
        return "open a terminal"

    def prepare(self, context: Context) -> None:
        import hakoniwa.kernel.descriptors
        import hakoniwa.kernel.terminal  # noqa: F401

    def apply(self, context: Context) -> None:
        from hakoniwa.kernel import terminal

        if context.devpts == -1:
            context.devpts = self._find_devpts(context)
        master, slave = terminal.open_pty(context.devpts)
        terminal.copy_size(self.streams[0], master)
        account = context.the_account()
        os.fchown(slave, account.uid, context.tty_group)
        if 0 not in self.streams:
            terminal.leave_output_alone(slave)
        terminal.make_controlling(slave)
        for number in self.streams:
            os.dup2(slave, number)
        os.close(slave)
        assert context.front is not None
        context.front(master)
        os.close(master)
        os.close(context.devpts)
        context.devpts = -1

    def _find_devpts(self, context: Context) -> int:
        """The instance that was mounted for the container, where it is still in its place; else a new one.

        Attached nowhere, a new one works all the same, but has no name inside.
        """
        if self.instance is not None:
            try:
                found = paths.open_beneath(context.root, "dev/pts")
                if os.fstat(found).st_dev == self.instance:
                    return found
            except OSError:
                pass
        return make_devpts(context)
