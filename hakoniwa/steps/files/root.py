"""The root of the container: how it is mounted, and how it is entered."""

from __future__ import annotations

import errno
import os
import stat

from hakoniwa.errors import HakoError
from hakoniwa.host.paths import be_ready, open_outside
from hakoniwa.kernel.filesystem import mount
from hakoniwa.kernel.security import capabilities
from hakoniwa.steps.files.mounts import attributes_and_options, clone_outside, empty_folder, map_ids
from hakoniwa.steps.step import Context, Outside, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec.records import Mount


class CutOff(Step):
    """No mount made from here on is seen by the host."""

    def __str__(self) -> str:
        return "make all mounts private"

    def apply(self, context: Context) -> None:
        context.null = open_null()
        mount.make_all_private()

    def hint(self, error: OSError) -> str:
        return "/ is no mount point: is this a chroot?" if error.errno == errno.EINVAL else ""


def open_null() -> int:
    """The host's /dev/null, checked to be the null device: files are masked with it (CVE-2025-31133)."""
    null = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    status = os.fstat(null)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
        raise OSError(errno.EINVAL, "not the null device", "/dev/null")
    return null


def open_folder(path: str, where: str, file: str) -> int:
    """The folder of a rootfs as a descriptor. Raises HakoError that says what is in its place."""
    try:
        return open_outside(path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        raise HakoError(f"the rootfs {path} is missing", where=where, hint=f"hako create {file or 'FILE'}") from None
    except NotADirectoryError:
        raise not_a_folder(path, where) from None
    except OSError as error:
        raise HakoError(f"the rootfs {path} cannot be opened: {error.strerror}", where=where) from None


def not_a_folder(path: str, where: str) -> HakoError:
    """The error for something else in the place of a rootfs."""
    return HakoError(f"the rootfs {path} is not a folder", where=where, hint="name a folder in chroot_to()")


class _Root(Step):
    """The root as a detached tree, made by this process, or for it by the host's root where it is not that itself."""

    path: str
    readonly: bool
    file: str
    map_ids: bool = False  # what the rootfs has on the disk are ids of the user namespace

    def apply(self, context: Context) -> None:
        if (provided := context.take_provided()) is not None:
            (context.root,) = provided
            place = os.open("/", os.O_PATH | os.O_CLOEXEC)  # the folder itself may be out of reach
        else:
            place = self._open_place()
            context.root = self._make(context, place, -1)
        mount.attach(context.root, place)
        os.close(place)

    def provide(self, outside: Outside) -> list[int]:
        context = outside.context
        place = self._open_place()
        try:
            context.root = self._make(context, place, outside.user_namespace if self.map_ids else -1)
        finally:
            os.close(place)
        return [context.root]

    def _open_place(self) -> int:
        """The folder that the tree is made of, and attached on."""
        return open_folder(self.path, self.where, self.file)

    def _make(self, context: Context, folder: int, user_namespace: int) -> int:
        """The tree, with its ids shown as `user_namespace` maps them (-1: as they are)."""
        raise TypeError(f"{type(self).__name__} cannot be made")

    def _map(self, tree: int, user_namespace: int, what: str) -> None:
        """Show the ids of a tree otherwise. Raises HakoError where its file system cannot."""
        if user_namespace == -1:
            return
        hint = "its file system has no id-mapped mounts: make it anew with rootfs_owner(uid=, gid=)"
        map_ids(tree, user_namespace, what, self.where, hint)


class BindRoot(_Root):
    """A folder as the root. Devices in it are without effect: the private /dev has those that are needed."""

    def __str__(self) -> str:
        return f"bind {self.path} as the root{', read-only' if self.readonly else ''}"

    def _make(self, context: Context, folder: int, user_namespace: int) -> int:
        if not os.listdir(f"/proc/self/fd/{folder}"):
            raise HakoError(f"the rootfs {self.path} is empty", where=self.where, hint=f"hako create {self.file}")
        tree = mount.clone_tree("", at=folder)
        mount.set_attributes(tree, mount.NODEV | (mount.RDONLY if self.readonly else 0))
        self._map(tree, user_namespace, self.path)
        return tree


def open_layers(folder: int, path: str, where: str, file: str, *, make_missing: bool) -> list[int]:
    """The upper layer of the rootfs `path`, whose folder is open, and the folder that its overlay works in. Raises HakoError.

    The latter is empty between two mounts. With `make_missing` one that somebody has removed is made anew.
    """
    opened: list[int] = []
    for name in ("upper", "work"):
        try:
            opened.append(_open_in(folder, name, make=bool(opened) and make_missing))
        except OSError:
            raise HakoError(
                f"the rootfs {path} is no overlay's: it has no folder {name!r}",
                where=where,
                hint=f"hako rm --rootfs {file}, then hako create {file}",
            ) from None
    return opened


def _open_in(folder: int, name: str, *, make: bool) -> int:
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
    os.mkdir(name, 0o700, dir_fd=folder)
    return os.open(name, flags, dir_fd=folder)


HOST = ("/",)  # the layers of strategy `host`


class LayerRoot(_Root):
    """An overlay: what lies below is read-only, the private layer above."""

    layers: tuple[str, ...] = HOST  # what lies below, from the bottom up; "/" is the host's root file system
    names: tuple[str, ...] = ()  # how they are shown
    by_user: bool = False  # made in a user namespace, whose root may set no attributes of the kind "trusted"

    def __str__(self) -> str:
        below = " ".join(self.names or self.layers)
        return f"mount overlay of {below} and {self.path}/upper as the root{', read-only' if self.readonly else ''}"

    def _make(self, context: Context, folder: int, user_namespace: int) -> int:
        below = [self._open_layer(path) for path in self.layers]
        if user_namespace != -1:
            # An overlay cannot be mapped; its layers can. Before Linux 6.15 they must be mounted somewhere to be used.
            above = self._mapped(folder, folder, user_namespace, self.path)
            owner = os.fstat(above)  # the overlay works on its layers as who mounts it, whom they must know
            below = [self._mapped(layer, folder, user_namespace, "a layer") for layer in below]
        if self.layers == HOST:
            below = [self._veiled(context, below[0], folder)]
        if user_namespace != -1:
            folder = above
            capabilities.act_on_files_as(owner.st_uid, owner.st_gid)
        upper, work = open_layers(folder, self.path, self.where, self.file, make_missing=True)
        if self.readonly:  # without an upper one, which serves one overlay: so it may be mounted for many
            options = [f"lowerdir={_lower([*below, upper])}"]
        else:
            # By descriptor, since the option has its own meaning of commas and colons.
            options = [
                f"lowerdir={_lower(below)}",
                *(f"{word}dir=/proc/self/fd/{at}" for word, at in (("upper", upper), ("work", work))),
            ]
        if self.layers == HOST:
            options.append("redirect_dir=follow")  # host/root/secrets.py puts redirects there
        if self.by_user:
            options.append("userxattr")
        return mount.make("overlay", "hakoniwa", options, mount.NODEV | (mount.RDONLY if self.readonly else 0))

    def _veiled(self, context: Context, lower: int, place: int) -> int:
        """The host's root file system without what is not for everybody's eyes, whenever it comes to be there.

        An overlay asks the kernel for its lower files as who has mounted it (Documentation/filesystems/overlayfs.rst,
        "Permission model"): here a user who may read what all users may, and nothing else. It takes two lower layers.
        """
        empty = empty_folder(context)
        mount.attach(empty, place)
        try:
            with capabilities.AsStranger():
                return mount.make("overlay", "hakoniwa", [f"lowerdir={_lower([lower, empty])}"], mount.RDONLY)
        except OSError as error:
            if error.errno != errno.EINVAL or not _is_overlay():
                raise
            raise HakoError(
                "the host's root is an overlay itself, on which secrets cannot be hidden",
                where=self.where,
                hint="take another strategy, debootstrap for one",
            ) from None
        finally:
            os.close(empty)

    def _open_layer(self, path: str) -> int:
        try:
            return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise HakoError(
                f"a layer of the rootfs {self.path} is missing: {path}: {error.strerror}",
                where=self.where,
                hint=f"hako create --rebuild {self.file}",
            ) from None

    def _mapped(self, folder: int, place: int, user_namespace: int, what: str) -> int:
        """A copy of the mount at `folder` with its ids mapped, attached on `place`."""
        tree = mount.clone_tree("", at=folder, recursive=False)
        self._map(tree, user_namespace, what)
        mount.attach(tree, place)
        return tree

    def hint(self, error: OSError) -> str:
        return "overlay needs an upper file system with extended attributes, which is no overlay itself"


def _lower(below: list[int]) -> str:
    """The option for layers from the bottom up, of which the kernel takes 255 bytes: so names relative to /proc/self/fd."""
    if len(below) == 1:
        return f"/proc/self/fd/{below[0]}"
    os.chdir("/proc/self/fd")
    return ":".join(str(layer) for layer in reversed(below))


def _is_overlay() -> bool:
    """Whether the host's / is an overlay: the kernel stacks two at most (FILESYSTEM_MAX_STACK_DEPTH)."""
    with open("/proc/self/mountinfo") as file:
        lines = [line.split() for line in file]
    return any(line[4] == "/" and line[line.index("-") + 1] == "overlay" for line in lines)


class ReplaceRoot(_Root):
    """Another source takes the place of the rootfs."""

    mount: Mount

    def __str__(self) -> str:
        return f"mount {self.mount.source} as the root"

    def prepare(self, context: Context) -> None:
        be_ready()

    def _open_place(self) -> int:
        return os.open("/", os.O_PATH | os.O_CLOEXEC)  # the folder of the rootfs need not be there

    def _make(self, context: Context, folder: int, user_namespace: int) -> int:
        attributes, options = attributes_and_options(self.mount.options, mount.NODEV)
        attributes |= mount.RDONLY if self.readonly else 0
        if self.mount.fs is not None:
            tree = mount.make(self.mount.fs, self.mount.source, options, attributes)
        else:
            tree = clone_outside(self.mount.source)
            mount.set_attributes(tree, attributes)
        self._map(tree, user_namespace, self.mount.source)
        return tree


class EmptyRoot(Step):
    """A root in which there is nothing: whoever gets into it finds no file of the host's, and can make none."""

    def __str__(self) -> str:
        return "mount an empty root"

    def apply(self, context: Context) -> None:
        attributes = mount.NOSUID | mount.NODEV | mount.NOEXEC | mount.RDONLY
        context.root = mount.make("tmpfs", "empty", ["size=4k", "mode=555"], attributes)
        place = os.open("/", os.O_PATH | os.O_CLOEXEC)
        mount.attach(context.root, place)
        os.close(place)


class PivotRoot(Step):
    """Enter the root for good: the host's is not mounted any more."""

    def __str__(self) -> str:
        return "enter the root (pivot_root)"

    def apply(self, context: Context) -> None:
        os.fchdir(context.root)
        mount.pivot_root_here()
        os.chdir("/")


class Chroot(Step):
    """Enter the root by `chroot(2)`: no boundary against a root user with cap_sys_chroot."""

    def __str__(self) -> str:
        return "enter the root (chroot)"

    def apply(self, context: Context) -> None:
        os.fchdir(context.root)
        os.chroot(".")
        os.chdir("/")
