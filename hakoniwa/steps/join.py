"""Joining a running container."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel import paths, process
from hakoniwa.steps.step import Context, Step


def namespaces_apart(pid: int) -> int:
    """The flags of the namespaces that a process does not share with us: exactly those are joined."""
    flags = 0
    for name, flag in process.NAMESPACES.items():
        file = process.FILES.get(name, name)
        try:
            apart = os.readlink(f"/proc/{pid}/ns/{file}") != os.readlink(f"/proc/self/ns/{file}")
        except FileNotFoundError:
            continue  # this kernel has no such namespaces
        flags |= flag if apart else 0
    return flags


class JoinNamespaces(Step):
    """Enter the namespaces of a process, all in one call, and its root. `man 2 setns`."""

    pidfd: int
    flags: int
    chroot: int  # the root of that process, opened on the host: joining does not follow a chroot

    def __str__(self) -> str:
        return "join the namespaces of the container"

    def prepare(self, context: Context) -> None:
        if self._has_user_namespace():
            import hakoniwa.kernel.idmap  # noqa: F401

    def clone(self, cgroup: int | None) -> tuple[int, int]:
        """Clone the process that this step is applied in. Raises OSError.

        A pid namespace takes children only. Who has joined a user namespace has left ours: so the clone is the child of a
        process that has done so, in one call with the others, some of which may belong to the host.
        """
        first = self._joined_before()
        if self._has_user_namespace():
            return process.clone_from(lambda: process.join(self.pidfd, first), 0, cgroup=cgroup)
        if first:
            process.join(self.pidfd, first)
        return process.clone(0, cgroup=cgroup)

    def _has_user_namespace(self) -> bool:
        return bool(self.flags & process.NAMESPACES["user"])

    def _joined_before(self) -> int:
        if self._has_user_namespace():
            return self.flags & ~process.NAMESPACES["mount"]  # until then, /proc is the host's
        return self.flags & process.NAMESPACES["pid"]

    def apply(self, context: Context) -> None:
        inner = self._has_user_namespace()
        if inner:
            context.look_at_user_namespace()
        rest = self.flags & ~self._joined_before()
        if rest:
            process.join(self.pidfd, rest)
        if inner:
            from hakoniwa.kernel import idmap

            idmap.become_root_inside(context.may_set_groups)
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
    """What joins each v1 group of a container, and last the folder of its v2 group (to clone into), or -1.

    Raises HakoError where a group is gone: somebody else has removed it.
    """
    from hakoniwa.kernel.cgroup import v2

    unified, joining = -1, []
    for path in paths:
        if v2.is_group(path):
            unified = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            continue
        try:
            joining.append(os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            hint = "the container's processes were moved out of it; kill and start the container"
            raise HakoError(f"the cgroup {path} is gone", hint=hint) from None
    return [*joining, unified]
