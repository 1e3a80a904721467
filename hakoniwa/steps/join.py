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


class JoinGroups(Step):
    """Enter v1 cgroups, before anything is set up: the process writes itself into them, and so waits for no other."""

    files: tuple[int, ...]  # cgroup.procs of each, opened by the supervisor

    def __str__(self) -> str:
        return "join the cgroups"

    def apply(self, context: Context) -> None:
        for file in self.files:
            os.write(file, b"0")
            os.close(file)

    def hint(self, error: OSError) -> str:
        if error.errno == 28:  # ENOSPC: cpuset
            return "a cpuset takes processes once cpuset.cpus and cpuset.mems are set"
        return "pids.max must leave room for one process" if error.errno == 11 else ""


def open_groups(paths: list[str]) -> list[int]:
    """What joins each v1 group of a container, and last the folder of its v2 group (to clone into), or -1."""
    from hakoniwa.kernel.cgroup import v2

    unified, joining = -1, []
    for path in paths:
        if v2.is_group(path):
            unified = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        else:
            joining.append(os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
    return [*joining, unified]
