"""Where hakoniwa keeps things (docs/guide.md, "Places")."""

from __future__ import annotations

import errno
import os

from hakoniwa.errors import HakoError
from hakoniwa.trust import check_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

BUILDING = ".building"  # ends the name of a folder beside the place of a rootfs
LOCK = ".lock"  # of a folder: nothing else there can have this name
_LONGEST = 200  # of 255 bytes of a file name
_LOCKS, _BARNS = ".rootfs", ".barns"
_trusted: set[str] = set()  # the folders of this process that were found to be ours


def _place(override: str, for_root: str, variable: str, fallback: str) -> str:
    """`override` from the environment, else the place for root, else below the user's own XDG folder.

    Raises HakoError if that could be somebody else's: we believe what we read there.
    """
    chosen = os.environ.get(override)
    if chosen in _trusted:
        return chosen  # in the same words as the folder that was found to be ours
    if chosen:
        folder = os.path.abspath(chosen)
    elif os.geteuid() == 0:
        folder = for_root
    else:
        base = os.environ.get(variable) or os.path.join(os.path.expanduser("~"), fallback)
        folder = os.path.join(base, "hakoniwa")
    if folder not in _trusted and check_folder(folder):
        _trusted.add(folder)
    return folder


def run_dir() -> str:
    """State, locks and sockets of what runs; gone at the next boot."""
    return _place("HAKONIWA_RUN_DIR", "/run/hakoniwa", "XDG_RUNTIME_DIR", ".cache/run")


def lib_dir() -> str:
    """Root file systems."""
    return _place("HAKONIWA_LIB_DIR", "/var/lib/hakoniwa", "XDG_DATA_HOME", ".local/share")


def cache_dir() -> str:
    """What can be fetched or computed again."""
    return _place("HAKONIWA_CACHE_DIR", "/var/cache/hakoniwa", "XDG_CACHE_HOME", ".cache")


def programs_dir() -> str:
    """Where programs of seccomp are kept (seccomp/programs.py)."""
    return os.path.join(cache_dir(), "seccomp")


def descriptions_dir() -> str:
    """Where descriptions are kept (known/kept.py)."""
    return os.path.join(cache_dir(), "descriptions")


def log_dir() -> str:
    """A log file per container."""
    return _place("HAKONIWA_LOG_DIR", "/var/log/hakoniwa", "XDG_STATE_HOME", ".local/state")


def folder_of(name: str) -> str:
    """Where the state of a container lies."""
    return os.path.join(run_dir(), name)


def barn_folder_of(name: str) -> str:
    """Where lies what a barn has besides its containers; no container can have the name of what these lie in."""
    return os.path.join(run_dir(), _BARNS, name)


def layers_dir() -> str:
    """Where the layers lie that rootfs are made of (rootfs/store/layers.py)."""
    return os.path.join(lib_dir(), ".layers")


def layer_tree(layer: str) -> str:
    """The files of one layer."""
    return os.path.join(layers_dir(), layer, "tree")


def layer_trees(layers: Iterable[str]) -> tuple[str, ...]:
    """The files of each of several layers."""
    return tuple(map(layer_tree, layers))


def aside_of(path: str, end: str = BUILDING) -> str:
    """The folder beside the place of a rootfs in which one is built, or removed."""
    parent, name = os.path.split(path)
    return os.path.join(parent, f".{name}{end}")


def file_name_for(path: str) -> str:
    """A file name that stands for a path: the path itself, escaped, unless that is too long."""
    escaped = path.strip("/").replace("%", "%25").replace("/", "%2F")
    if len(os.fsencode(escaped)) <= _LONGEST:
        return escaped
    import hashlib

    return hashlib.sha256(os.fsencode(path)).hexdigest()


def networks_dir() -> str:
    """What the networks of all containers share."""
    return os.path.join(run_dir(), ".network")


def rootfs_locks_dir() -> str:
    """The locks of the places of rootfs."""
    return os.path.join(run_dir(), _LOCKS)


def rootfs_lock_file(path: str) -> str:
    """The file of a place's lock. Raises FileNotFoundError if the folder above is missing."""
    above, name = os.path.split(path)
    status = os.stat(above)
    return os.path.join(rootfs_locks_dir(), f"{status.st_dev:x}-{status.st_ino:x}-{file_name_for(name)}")


def lock_rootfs(path: str, *, shared: bool = False) -> int:
    """Lock the place of a rootfs, whether one is there or not, for as long as the descriptor is open.

    The lock is on a file of our own. On the folder itself it could be taken from inside: there the folder is the root, and
    `flock` locks the inode for whoever has it open. A descriptor that was passed on would keep it after the end of the
    container (`man 2 flock`, `man 7 unix`).
    Raises BlockingIOError while another has it, FileNotFoundError if even the folder above is missing, and HakoError.
    """
    from hakoniwa.kernel.filesystem.files import lock_file

    if os.path.islink(path):
        path = os.path.realpath(path)
    file = rootfs_lock_file(path)
    folder = os.path.dirname(file)
    while True:
        try:
            lock = lock_file(file, shared=shared)
        except FileNotFoundError:
            ensure_private(run_dir())
            ensure_private(folder)
            continue
        except BlockingIOError:
            raise
        except OSError as error:
            told = f"cannot lock the rootfs {path}: {error.filename}: {error.strerror}"
            raise HakoError(told, hint="is the disk full, or the folder not writable?") from None
        if lock is not None:
            return lock


def global_file() -> str:
    """Defaults for all container files."""
    if os.geteuid() == 0:
        return "/etc/hakoniwa.conf.py"
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(base, "hakoniwa", "conf.py")


def ensure_private(folder: str) -> str:
    """`folder`, made with its parents, closed to others: what lies in it holds set-uid files and control files."""
    try:
        make_parents(folder)
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    except NotADirectoryError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder) from None
    check_folder(folder)
    return folder


def wait_for_lock(*folders: str) -> int:
    """A descriptor that holds the lock of the last of these folders, each of which lies in the one before, until the caller closes it.

    They are made, closed to others, if they are missing. Raises OSError, and HakoError if one could be somebody else's.
    """
    import fcntl

    path = os.path.join(folders[-1], LOCK)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        lock = os.open(path, flags, 0o600)
    except FileNotFoundError:
        for folder in folders:
            ensure_private(folder)
        lock = os.open(path, flags, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def make_parents(path: str) -> None:
    """Make the folders above `path` that are missing: nobody else may write to them, whatever the umask is."""
    above = os.path.dirname(path)
    if above and not os.path.isdir(above):
        make_parents(above)
        try:
            os.mkdir(above, 0o755)
        except FileExistsError:
            if not os.path.isdir(above):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), above) from None
