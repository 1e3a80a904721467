"""`host`: the running system itself, read-only, below a private writable layer.

The rootfs folder holds `upper` and `work` of an overlay whose lower layer is `/`. Folders that must not be seen are
covered by opaque ones of the upper layer (Documentation/filesystems/overlayfs.rst); single files by rootfs/secrets.py.
"""

from __future__ import annotations

import os

from hakoniwa import places
from hakoniwa.errors import HakoError
from hakoniwa.kernel import idmap, paths
from hakoniwa.rootfs.boot import Boot
from hakoniwa.rootfs.secrets import hide_secrets, make_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec import Bootstrap

# Shown empty. /run and /tmp are mounts of their own on most systems, which are not included; so nowhere.
EMPTIED = ("/root", "/home", "/run", "/tmp")


# Mounts of the container's own go there, so that in an ordinary user's layer they are empty folders.
_MADE = ("/dev", "/proc", "/sys")


def fill(boot: Boot, bootstrap: Bootstrap) -> None:
    """Make the layer, and hide what is to be hidden."""
    for name in ("upper", "work"):
        os.mkdir(os.path.join(boot.rootfs, name), 0o755)
    upper = os.open(os.path.join(boot.rootfs, "upper"), paths.O_PATH | os.O_DIRECTORY)
    try:
        if not idmap.is_host_root():
            _prepare_folders(upper, os.path.join(boot.rootfs, "work"))
        for path in (*EMPTIED, *_own_folders()):
            _hide_content(upper, path)
        hide_secrets(upper)
    except OSError as error:
        if error.errno in (95, 1):  # EOPNOTSUPP, EPERM
            raise HakoError(
                f"{boot.rootfs} lies on a file system that cannot hold an overlay's layer: {error.strerror}",
                where=bootstrap.where,
                hint="chroot_to() a folder on ext4, xfs, btrfs or tmpfs",
            ) from None
        raise
    finally:
        os.close(upper)


def _prepare_folders(upper: int, work: str) -> None:
    """What GatherRoot needs (steps/root.py): a folder of each for each of the host, and the links beside them."""
    for entry in os.scandir("/"):
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), entry.name, dir_fd=upper)
        elif entry.path in (*EMPTIED, *_MADE):
            os.close(make_folder(upper, entry.path))
        elif entry.is_dir() and os.access(entry.path, os.R_OK | os.X_OK) and not os.path.ismount(entry.path):
            os.close(make_folder(upper, entry.path))
            os.mkdir(os.path.join(work, entry.name), 0o755)
    _own_accounts(upper)


def _own_accounts(upper: int) -> None:
    """Copies of what lists the accounts: the host's own cannot be changed in place by who does not own them."""
    folder = make_folder(upper, "/etc")
    files = ("passwd", "group", "subuid", "subgid")
    for name in (*files, *(f"{file}-" for file in files), ".pwd.lock"):
        content = b""  # of the lock, and of copies that are root's alone to read
        if os.access(f"/etc/{name}", os.R_OK):
            with open(f"/etc/{name}", "rb") as file:
                content = file.read()
        copy = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=folder)
        os.write(copy, content)
        os.close(copy)
    os.close(folder)


def _own_folders() -> list[str]:
    """hakoniwa's own folders, but for those in a folder that is shown empty anyway."""
    own = [places.run_dir(), places.lib_dir(), places.cache_dir(), places.log_dir()]
    return [folder for folder in own if not folder.startswith(tuple(f"{path}/" for path in EMPTIED))]


def _hide_content(upper: int, path: str) -> None:
    """Show a folder empty: an opaque one in its place."""
    real = os.path.realpath(path)
    if not os.path.isdir(real) or real == "/":
        return
    folder = make_folder(upper, real)
    writable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    os.setxattr(writable, "trusted.overlay.opaque" if idmap.is_host_root() else "user.overlay.opaque", b"y")
    os.close(writable)
    os.close(folder)
