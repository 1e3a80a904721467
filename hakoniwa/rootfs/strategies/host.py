"""`host`: the running system itself, read-only, below a private writable layer.

The rootfs folder holds `upper` and `work` of an overlay whose lower layer is `/`. What must not be seen of that is hidden
in part by how it is mounted (steps/files/root.py), in part by the upper layer (host/root/secrets.py).
"""

from __future__ import annotations

import errno
import os

from hakoniwa.errors import HakoError
from hakoniwa.host.root.secrets import EMPTIED, hide_secrets
from hakoniwa.host.root.upper import UpperLayer
from hakoniwa.kernel.filesystem import paths
from hakoniwa.kernel.processes import idmap
from hakoniwa.rootfs.tools.boot import Boot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec.records import Bootstrap

SETTINGS: dict[str, str] = {}
HELP: dict[str, str] = {}
EXAMPLE = """\
# This system, read-only, below a private writable layer: no download.
b.strategy = "host"
"""


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
        hide_secrets(upper)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EPERM):
            raise HakoError(
                f"{boot.rootfs} lies on a file system that cannot hold an overlay's layer: {error.strerror}",
                where=bootstrap.where,
                hint="chroot_to() a folder on ext4, xfs, btrfs or tmpfs",
            ) from None
        raise
    finally:
        os.close(upper)


def _prepare_folders(root: int, work: str) -> None:
    """What GatherRoot needs (steps/files/gather.py): a folder of each for each of the host, and the links beside them."""
    upper = UpperLayer(root)
    for entry in os.scandir("/"):
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), entry.name, dir_fd=root)
        elif entry.path in (*EMPTIED, *_MADE):
            os.close(upper.open_folder(entry.path))
        elif entry.is_dir() and os.access(entry.path, os.R_OK | os.X_OK) and not os.path.ismount(entry.path):
            os.close(upper.open_folder(entry.path))
            os.mkdir(os.path.join(work, entry.name), 0o755)
    _own_accounts(upper)


def _own_accounts(upper: UpperLayer) -> None:
    """Copies of what lists the accounts: the host's own cannot be changed in place by who does not own them."""
    folder = upper.open_folder("/etc")
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
