"""Joining a running container."""

from __future__ import annotations

import os

from hakoniwa.kernel import paths, process
from hakoniwa.steps.step import Context, Step


class JoinNamespaces(Step):
    """Enter the namespaces of a process, all in one call, and its root. `man 2 setns`."""

    pidfd: int
    flags: int
    chroot: int  # the root of that process, opened on the host: joining does not follow a chroot

    def __str__(self) -> str:
        return "join the namespaces of the container"

    def apply(self, context: Context) -> None:
        # The pid namespace was joined by the parent: it applies to children only.
        process.join(self.pidfd, self.flags & ~process.NAMESPACES["pid"])
        os.fchdir(self.chroot)
        os.chroot(".")
        context.root = os.open("/", paths.O_PATH)
