"""Joining a running container."""

from __future__ import annotations

import errno
import os

from hakoniwa.kernel.filesystem import paths
from hakoniwa.kernel.processes import process
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
    """Enter the namespaces of a process, before the clone of who is to be inside.

    Who can be seen inside is inside with all that can be looked at: the mounts and the network of a process are open to
    everybody who sees it (/proc/PID/mountinfo, /proc/PID/net). And a pid namespace takes children only. `man 2 setns`.
    """

    pidfd: int
    flags: int

    def __str__(self) -> str:
        return "join the namespaces of the container"

    def has_user_namespace(self) -> bool:
        """Whether a user namespace is among them. Who has joined it has left ours."""
        return bool(self.flags & process.NAMESPACES["user"])

    def left_for_later(self) -> int:
        """What the clone joins itself: a cgroup namespace, from outside of which none is cloned into a cgroup of it.

        (`man 7 cgroups`, nsdelegate. In a user namespace it may be one of the host's, and has to be joined at once.)
        """
        return 0 if self.has_user_namespace() else self.flags & process.NAMESPACES["cgroup"]

    def prepare(self, context: Context) -> None:
        if self.has_user_namespace():
            import hakoniwa.kernel.processes.idmap  # noqa: F401

    def apply(self, context: Context) -> None:
        last = self.flags & process.NAMESPACES["mount"]  # until then, /proc is the host's
        first = self.flags & ~last & ~self.left_for_later()
        if first:
            process.join(self.pidfd, first)
        if self.has_user_namespace():
            context.look_at_user_namespace()
        if last:
            process.join(self.pidfd, last)


class EnterRoot(Step):
    """Take the place of a process of the container: its root, to which joining does not lead, and its user namespace's root."""

    joined: JoinNamespaces
    root: int  # the root of a process of the container, opened on the host

    def __str__(self) -> str:
        return "enter the root of the container"

    def apply(self, context: Context) -> None:
        if rest := self.joined.left_for_later():
            process.join(self.joined.pidfd, rest)
        if self.joined.has_user_namespace():
            from hakoniwa.kernel.processes import idmap

            idmap.become_root_inside(context.may_set_groups)
        os.fchdir(self.root)
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
        return "pids.max must leave room for one process" if error.errno == errno.EAGAIN else ""
