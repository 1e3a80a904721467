"""The root of the container: how it is mounted, and how it is entered."""

from __future__ import annotations

import os
import stat

from hakoniwa.errors import HakoError
from hakoniwa.kernel import mount
from hakoniwa.steps.step import Context, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec import Mount


class CutOff(Step):
    """No mount made from here on is seen by the host."""

    def __str__(self) -> str:
        return "make all mounts private"

    def apply(self, context: Context) -> None:
        context.null = open_null()
        mount.make_all_private()

    def hint(self, error: OSError) -> str:
        return "/ is no mount point: is this a chroot?" if error.errno == 22 else ""


def open_null() -> int:
    """The host's /dev/null, checked to be the null device: files are masked with it (CVE-2025-31133)."""
    null = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    status = os.fstat(null)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
        raise OSError(22, "not the null device", "/dev/null")
    return null


def open_folder(path: str, where: str, file: str) -> int:
    """The folder of a rootfs as a descriptor. Raises HakoError that says what is in its place."""
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise HakoError(f"the rootfs {path} is missing", where=where, hint=f"hako create {file}") from None
    except NotADirectoryError:
        raise HakoError(
            f"the rootfs {path} is not a folder", where=where, hint="name a folder in chroot_to()"
        ) from None
    except OSError as error:
        raise HakoError(f"the rootfs {path} cannot be opened: {error.strerror}", where=where) from None


class BindRoot(Step):
    """A folder as the root. Devices in it are without effect: the private /dev has those that are needed."""

    path: str
    readonly: bool
    file: str

    def __str__(self) -> str:
        return f"bind {self.path} as the root{', read-only' if self.readonly else ''}"

    def apply(self, context: Context) -> None:
        folder = open_folder(self.path, self.where, self.file)
        if not os.listdir(f"/proc/self/fd/{folder}"):
            raise HakoError(f"the rootfs {self.path} is empty", where=self.where, hint=f"hako create {self.file}")
        tree = mount.clone_tree("", at=folder)
        mount.set_attributes(tree, mount.NODEV | (mount.RDONLY if self.readonly else 0))
        mount.attach(tree, folder)
        context.root = tree


class LayerRoot(Step):
    """An overlay: the host's root file system below, read-only, and the private layer above."""

    path: str
    readonly: bool
    file: str

    def __str__(self) -> str:
        return f"mount overlay of / and {self.path}/upper as the root{', read-only' if self.readonly else ''}"

    def apply(self, context: Context) -> None:
        folder = open_folder(self.path, self.where, self.file)
        layers = []
        for name in ("upper", "work"):
            try:
                layers.append(os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder))
            except OSError:
                raise HakoError(
                    f"the rootfs {self.path} was not made by strategy 'host': it has no folder {name!r}",
                    where=self.where,
                    hint=f"hako rm --rootfs {self.file}, then hako create {self.file}",
                ) from None
        # By descriptor, since the option has its own meaning of commas and colons.
        upper, work = (f"/proc/self/fd/{layer}" for layer in layers)
        # As the upper one even where it is read-only: the kernel refuses a lower layer that lies within another (ELOOP).
        options = ["lowerdir=/", f"upperdir={upper}", f"workdir={work}"]
        tree = mount.make("overlay", "hakoniwa", options, mount.NODEV | (mount.RDONLY if self.readonly else 0))
        mount.attach(tree, folder)
        context.root = tree

    def hint(self, error: OSError) -> str:
        return "overlay needs an upper file system with extended attributes, which is no overlay itself"


class ReplaceRoot(Step):
    """Another source takes the place of the rootfs."""

    mount: Mount
    path: str
    readonly: bool
    file: str

    def __str__(self) -> str:
        return f"mount {self.mount.source} as the root"

    def apply(self, context: Context) -> None:
        from hakoniwa.steps.mounts import attributes_and_options

        folder = open_folder(self.path, self.where, self.file)
        attributes, options = attributes_and_options(self.mount.options, mount.NODEV)
        attributes |= mount.RDONLY if self.readonly else 0
        if self.mount.fs is None:
            tree = mount.clone_tree(self.mount.source)
            mount.set_attributes(tree, attributes)
        else:
            tree = mount.make(self.mount.fs, self.mount.source, options, attributes)
        mount.attach(tree, folder)
        context.root = tree


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
