"""Mounts that show a container what it may know of the host and of itself: parts of /sys, its cgroups, lxcfs's /proc."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.host.paths import open_outside
from hakoniwa.kernel.filesystem import mount, paths
from hakoniwa.steps.files.mounts import attributes_and_options, cover, open_target
from hakoniwa.steps.step import Context, Outside, Step


class BindCovered(Step):
    """A folder of the host, read-only, with what is mounted below it covered: where a copy of it without cannot be had.

    In a user namespace a mount cannot be separated from those below it (`man 7 mount_namespaces`, "locked").
    """

    source: str
    target: str
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"bind {self.source} on {self.target}, read-only, without what is mounted on it"

    def apply(self, context: Context) -> None:
        attributes, _ = attributes_and_options(self.options, mount.NOSUID | mount.NODEV | mount.RDONLY)
        below = mount.points_below(os.path.realpath(self.source))
        tree = mount.clone_tree(self.source)
        mount.set_attributes(tree, attributes)
        target = open_target(context, self.target, folder=True)
        mount.attach(tree, target)
        os.close(target)
        for point in below:
            inside = self.target + point[len(os.path.realpath(self.source)) :]
            try:
                cover(context, paths.open_inside(context.root, inside))
            except FileNotFoundError:
                continue  # below another one, which is covered
        os.close(tree)


class MountCgroups(Step):
    """The container's own part of each cgroup hierarchy that it has a group in: its namespace has no more.

    Read-only, since root could raise its own limits; but in a user namespace, where the limits belong to the host's root
    and the group itself to the container's (Documentation/admin-guide/cgroup-v2.rst, "Delegation").
    """

    hierarchies: tuple[str, ...]  # the controllers of a v1 hierarchy, such as "cpu,cpuacct"; "" is v2
    writable: bool
    target: str = "/sys/fs/cgroup"

    def __str__(self) -> str:
        shown = " ".join(word or "v2" for word in self.hierarchies)
        return f"mount the own cgroups ({shown}) on {self.target}{'' if self.writable else ', read-only'}"

    def apply(self, context: Context) -> None:
        attributes = mount.NOSUID | mount.NODEV | mount.NOEXEC
        unified = attributes | (0 if self.writable else mount.RDONLY)
        place = open_target(context, self.target, folder=True)
        if self.hierarchies == ("",):
            mount.attach(mount.make("cgroup2", "cgroup", [], unified), place)
            return
        around = mount.make("tmpfs", "cgroup", ["mode=755", "size=64k"], attributes)
        for word in self.hierarchies:
            os.mkdir(word or "unified", 0o755, dir_fd=around)
        mount.attach(around, place)
        for word in self.hierarchies:
            tree = (
                mount.make("cgroup", "cgroup", word.split(","), attributes | mount.RDONLY)
                if word
                else mount.make("cgroup2", "cgroup", [], unified)
            )
            mount.attach(tree, os.open(word or "unified", paths.O_PATH, dir_fd=around))
        mount.set_attributes(around, mount.RDONLY, recursive=False)


class BindLxcfs(Step):
    """The files of lxcfs's /proc, which show the container's share of the machine. https://linuxcontainers.org/lxcfs/"""

    root: str

    def __str__(self) -> str:
        return f"bind the files of {self.root}/proc on those of /proc"

    def apply(self, context: Context) -> None:
        provided = context.take_provided()
        listing, *trees = self.provide(None) if provided is None else provided
        names = os.read(listing, 65536).decode().split("\0")
        os.close(listing)
        for name, tree in zip(names, trees, strict=False):
            try:
                target = paths.open_inside(context.root, f"/proc/{name}")
            except FileNotFoundError:
                continue  # this kernel shows no such file
            mount.attach(tree, target)
            os.close(tree)
            os.close(target)

    def provide(self, outside: Outside | None) -> list[int]:
        """A pipe that tells the names of the files, and a detached tree of each."""
        try:
            folder = open_outside(f"{self.root}/proc", os.O_RDONLY | os.O_DIRECTORY)
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise HakoError(
                f"lxcfs is not mounted on {self.root}: {error.strerror}", where=self.where, hint="apt-get install lxcfs"
            ) from None
        names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        trees = []
        for name in names:
            file = paths.open_beneath(folder, name)
            trees.append(mount.clone_tree("", at=file))
            os.close(file)
        os.close(folder)
        for tree in trees:
            mount.set_attributes(tree, mount.NOSUID | mount.NODEV | mount.NOEXEC)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.write(writer, "\0".join(names).encode())
        os.close(writer)
        return [reader, *trees]
