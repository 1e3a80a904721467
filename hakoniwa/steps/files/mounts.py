"""Mounts below the root: bind mounts and new file systems. Targets are resolved below the root, by the kernel."""

from __future__ import annotations

import errno
import os
import stat

from hakoniwa.errors import HakoError
from hakoniwa.host import paths as hostpaths
from hakoniwa.kernel.filesystem import mount, paths
from hakoniwa.steps.step import Context, Outside, Step

# What each of spec.MOUNT_WORDS sets and clears.
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
        if error.errno == errno.EROFS:
            raise HakoError(
                f"the mount target {path} is missing in a read-only rootfs",
                hint="make it in the rootfs, or set rootfs.readonly to False",
            ) from None
        raise OSError(error.errno, error.strerror, path) from None


def clone_outside(source: str) -> int:
    """A detached copy of the mounts at a path of the host."""
    place = hostpaths.open_outside(source)
    try:
        return mount.clone_tree("", at=place)
    finally:
        os.close(place)


def map_ids(tree: int, user_namespace: int, what: str, where: str, hint: str) -> None:
    """Show the ids of a tree as in a user namespace. Raises HakoError, with the hint if the file system cannot do it."""
    try:
        mount.map_ids(tree, user_namespace)
    except OSError as error:
        raise HakoError(
            f"the ids of {what} cannot be mapped: {error.strerror}",
            where=where,
            hint=hint if error.errno == errno.EINVAL else "",
        ) from None


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

    def prepare(self, context: Context) -> None:
        hostpaths.be_ready()

    def apply(self, context: Context) -> None:
        provided = context.take_provided()
        (tree,) = [self._tree()] if provided is None else provided
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
        attributes, _ = attributes_and_options(self.options, mount.NOSUID | mount.NODEV)
        tree = clone_outside(self.source)
        mount.set_attributes(tree, attributes | (mount.RDONLY if self.readonly else 0))
        return tree

    def _map_owner(self, tree: int, outside: Outside) -> None:
        """Make the source's owner and group those of the payload's user, and nobody else anything.

        One id each: were the container's root mapped besides, its set-user-ID files would be root's outside.
        """
        from hakoniwa.kernel.processes import idmap

        status, account = os.fstat(tree), outside.find_account()
        maps = []
        for kind, owner, inside in (("uid", status.st_uid, account.uid), ("gid", status.st_gid, account.gid)):
            seen = idmap.outside_of(idmap.read_map(outside.pid, kind), inside)
            if seen is None:
                raise HakoError(f"{kind} {inside} is not mapped in the user namespace", where=self.where)
            maps.append([(owner, seen, 1)])
        carrier = idmap.make_namespace(*maps)
        try:
            hint = "its file system, or one mounted below, has no id-mapped mounts"
            map_ids(tree, carrier, self.source, self.where, hint)
        finally:
            os.close(carrier)

    def hint(self, error: OSError) -> str:
        if error.errno == errno.ENOENT:
            return "the source must be there before the container starts"
        if error.errno == errno.ENOTDIR:
            return "source and target must both be folders, or both be files"
        if error.errno == errno.ELOOP:
            return "name the place that is meant, or remove the symlink"
        return ""


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
        if error.errno == errno.ENODEV:
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
    tree = empty_folder(context) if stat.S_ISDIR(os.fstat(target).st_mode) else _null_device(context)
    mount.attach(tree, target)
    os.close(target)
    os.close(tree)


def _null_device(context: Context) -> int:
    """A tree that is the host's null device, to be attached somewhere and closed.

    Read-only, or a chmod inside would change the device itself. What is attached once is cloned with its attributes.
    """
    if context.mask != -1:
        return mount.clone_tree("", at=context.mask, recursive=False)
    tree = mount.clone_tree("", at=context.null)
    mount.set_attributes(tree, mount.RDONLY | mount.NOSUID | mount.NOEXEC)
    context.mask = os.dup(tree)
    return tree


def empty_folder(context: Context) -> int:
    """A tree that is an empty folder, to be attached somewhere and closed."""
    if context.empty != -1:
        return mount.clone_tree("", at=context.empty, recursive=False)  # it may have something mounted on it
    context.empty = mount.make("tmpfs", "tmpfs", ["size=4k", "mode=555"], _NOTHING)
    return os.dup(context.empty)


_NOTHING = mount.RDONLY | mount.NOSUID | mount.NODEV | mount.NOEXEC


class FixPaths(Step):
    """Paths that stay readable and cannot be written, with everything mounted below them."""

    paths: tuple[str, ...]

    def __str__(self) -> str:
        return "make read-only " + " ".join(self.paths)

    def apply(self, context: Context) -> None:
        _mount_on_themselves(context, self.paths, mount.RDONLY)


class KeepPaths(Step):
    """Folders that cannot be renamed or removed inside, since something is mounted on them: themselves. `man 2 rename`."""

    paths: tuple[str, ...]

    def __str__(self) -> str:
        return "keep in place " + " ".join(self.paths)

    def apply(self, context: Context) -> None:
        _mount_on_themselves(context, self.paths, 0)


def _mount_on_themselves(context: Context, inside: tuple[str, ...], attributes: int) -> None:
    """Mount each path on itself, with everything mounted below it. What is not there is passed over."""
    for path in inside:
        try:
            target = paths.open_inside(context.root, path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        tree = mount.clone_tree("", at=target)
        mount.set_attributes(tree, attributes)
        mount.attach(tree, target)
        os.close(tree)
        os.close(target)
