"""Mounts below the root: bind mounts and new file systems. Targets are resolved below the root, by the kernel."""

from __future__ import annotations

import os
import stat

from hakoniwa.errors import HakoError
from hakoniwa.kernel import mount, paths
from hakoniwa.steps.step import Context, Outside, Step

# Options that are attributes of the mount rather than of the file system: (set, clear). `man 8 mount`.
_ATTRIBUTES = {
    "nosuid": (mount.NOSUID, 0),
    "suid": (0, mount.NOSUID),
    "nodev": (mount.NODEV, 0),
    "dev": (0, mount.NODEV),
    "noexec": (mount.NOEXEC, 0),
    "exec": (0, mount.NOEXEC),
    "noatime": (mount.NOATIME, 0),
    "strictatime": (mount.STRICTATIME, 0),
    "relatime": (0, 0),
    "nodiratime": (mount.NODIRATIME, 0),
    "nosymfollow": (mount.NOSYMFOLLOW, 0),
}


def attributes_and_options(words: tuple[str, ...], default: int) -> tuple[int, list[str]]:
    """Split mount options into the mount's attributes, beginning with `default`, and the file system's own options."""
    attributes, options = default, []
    for word in words:
        if word in _ATTRIBUTES:
            put, clear = _ATTRIBUTES[word]
            attributes = attributes & ~clear | put
        else:
            options.append(word)
    return attributes, options


def open_target(context: Context, path: str, *, folder: bool) -> int:
    """The target of a mount inside, made where it is missing. Raises HakoError where it cannot be made."""
    try:
        return paths.make_inside(context.root, path, folder=folder)
    except OSError as error:
        if error.errno == 30:  # EROFS
            raise HakoError(
                f"the mount target {path} is missing in a read-only rootfs",
                hint="make it in the rootfs, or set rootfs.readonly to False",
            ) from None
        raise OSError(error.errno, error.strerror, path) from None


class BindMount(Step):
    """A file or folder of the host, with everything mounted below it."""

    source: str
    target: str
    readonly: bool = False
    options: tuple[str, ...] = ()
    idmap: bool = False  # the payload's user is, on it, who owns the source outside

    def __str__(self) -> str:
        shown = [word for word, is_so in (("read-only", self.readonly), ("ids mapped", self.idmap)) if is_so]
        return f"bind {self.source} on {self.target}{''.join(f', {word}' for word in shown)}"

    def apply(self, context: Context) -> None:
        tree = self._tree() if context.outside is None else context.outside.pop(0)
        target = _located(self, context, folder=stat.S_ISDIR(os.fstat(tree).st_mode))
        mount.attach(tree, target)
        os.close(tree)
        os.close(target)

    def provide(self, outside: Outside) -> list[int]:
        tree = self._tree()
        if self.idmap:
            self._map_owner(tree, outside)
        return [tree]

    def _tree(self) -> int:
        attributes, unknown = attributes_and_options(self.options, mount.NOSUID | mount.NODEV)
        if unknown:
            raise HakoError(f"a bind mount has no option {unknown[0]!r}", where=self.where)
        tree = mount.clone_tree(self.source)
        mount.set_attributes(tree, attributes | (mount.RDONLY if self.readonly else 0))
        return tree

    def _map_owner(self, tree: int, outside: Outside) -> None:
        """Make the source's owner and group those of the payload's user, and nobody else anything.

        One id each: were the container's root mapped besides, its set-user-ID files would be root's outside.
        """
        from hakoniwa.kernel import idmap

        status, account = os.fstat(tree), outside.context.the_account()
        maps = []
        for kind, owner, inside in (("uid", status.st_uid, account.uid), ("gid", status.st_gid, account.gid)):
            seen = idmap.outside_of(idmap.read_map(outside.pid, kind), inside)
            if seen is None:
                raise HakoError(f"{kind} {inside} is not mapped in the user namespace", where=self.where)
            maps.append([(owner, seen, 1)])
        carrier = idmap.make_namespace(*maps)
        try:
            mount.map_ids(tree, carrier)
        except OSError as error:
            raise HakoError(
                f"the ids of {self.source} cannot be mapped: {error.strerror}",
                where=self.where,
                hint="its file system, or one mounted below, has no id-mapped mounts" if error.errno == 22 else "",
            ) from None
        finally:
            os.close(carrier)

    def hint(self, error: OSError) -> str:
        if error.errno == 2:
            return "the source must be there before the container starts"
        if error.errno == 20:
            return "source and target must both be folders, or both be files"
        return ""


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
        opened = self.provide(None) if context.outside is None else context.outside
        number = int.from_bytes(os.read(opened[0], 2), "little")
        names = os.read(opened[0], 65536).decode().split("\0")
        trees = opened[1 : 1 + number]
        os.close(opened[0])
        del opened[: 1 + number]
        for name, tree in zip(names, trees, strict=False):
            try:
                target = paths.open_inside(context.root, f"/proc/{name}")
            except FileNotFoundError:
                continue  # this kernel shows no such file
            mount.attach(tree, target)
            os.close(tree)
            os.close(target)

    def provide(self, outside: Outside | None) -> list[int]:
        """A pipe that tells the number of files and their names, and a detached tree of each."""
        try:
            entries = sorted(os.scandir(f"{self.root}/proc"), key=lambda entry: entry.name)
        except OSError as error:
            raise HakoError(
                f"lxcfs is not mounted on {self.root}: {error.strerror}", where=self.where, hint="apt-get install lxcfs"
            ) from None
        names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        trees = [mount.clone_tree(f"{self.root}/proc/{name}") for name in names]
        for tree in trees:
            mount.set_attributes(tree, mount.NOSUID | mount.NODEV | mount.NOEXEC)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.write(writer, len(names).to_bytes(2, "little") + "\0".join(names).encode())
        os.close(writer)
        return [reader, *trees]


class MakeMount(Step):
    """A new file system."""

    fs: str
    source: str
    target: str
    readonly: bool = False
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = [*self.options, *(["ro"] if self.readonly else [])]
        return f"mount {self.fs} on {self.target}{' (' + ','.join(shown) + ')' if shown else ''}"

    def apply(self, context: Context) -> None:
        attributes, options = attributes_and_options(self.options, mount.NOSUID | mount.NODEV)
        tree = mount.make(self.fs, self.source, options, attributes | (mount.RDONLY if self.readonly else 0))
        target = _located(self, context, folder=True)
        mount.attach(tree, target)
        os.close(tree)
        os.close(target)

    def hint(self, error: OSError) -> str:
        if error.errno == 19:
            return f"this kernel has no file system {self.fs!r}; see /proc/filesystems"
        return ""


def _located(step: BindMount | MakeMount, context: Context, *, folder: bool) -> int:
    """The target; an error about it tells the line of the file."""
    try:
        return open_target(context, step.target, folder=folder)
    except HakoError as error:
        raise HakoError(error.message, where=step.where, hint=error.hint) from None


class HidePaths(Step):
    """Paths that show the host: a folder becomes empty, a file becomes /dev/null. What is not there stays so."""

    paths: tuple[str, ...]

    def __str__(self) -> str:
        return "hide " + " ".join(self.paths)

    def apply(self, context: Context) -> None:
        for path in self.paths:
            try:
                target = paths.open_inside(context.root, path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            cover(context, target)


def cover(context: Context, target: int) -> None:
    """Mount nothing over what `target` refers to, which is closed: an empty folder, or /dev/null."""
    if stat.S_ISDIR(os.fstat(target).st_mode):
        if context.empty == -1:
            context.empty = mount.make("tmpfs", "tmpfs", ["size=4k", "mode=555"], _NOTHING)
            tree = os.dup(context.empty)
        else:
            tree = mount.clone_tree("", at=context.empty)
    else:
        tree = mount.clone_tree("", at=context.null)
        # Read-only, or a chmod inside would change the host's own device.
        mount.set_attributes(tree, mount.RDONLY | mount.NOSUID | mount.NOEXEC)
    mount.attach(tree, target)
    os.close(target)
    os.close(tree)


_NOTHING = mount.RDONLY | mount.NOSUID | mount.NODEV | mount.NOEXEC


class FixPaths(Step):
    """Paths that stay readable and cannot be written, with everything mounted below them."""

    paths: tuple[str, ...]

    def __str__(self) -> str:
        return "make read-only " + " ".join(self.paths)

    def apply(self, context: Context) -> None:
        for path in self.paths:
            try:
                target = paths.open_inside(context.root, path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            tree = mount.clone_tree("", at=target)
            mount.set_attributes(tree, mount.RDONLY)
            mount.attach(tree, target)
            os.close(tree)
            os.close(target)
