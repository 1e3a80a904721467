"""Build a rootfs aside, and put it in place by one rename when it is complete.

So a rootfs that is there is complete. The folder aside is locked while it is built: what lies unlocked in such a folder
is left over from a build that was killed, and is cleared by the next.
"""

from __future__ import annotations

import fcntl
import os
import time

from hakoniwa import log, state
from hakoniwa.errors import HakoError
from hakoniwa.ids import choose_maps, for_ordinary_user
from hakoniwa.places import ensure_private, lib_dir
from hakoniwa.record import plain
from hakoniwa.rootfs.boot import Boot
from hakoniwa.rootfs.remove import REMOVING, remove_tree
from hakoniwa.rootfs.rootless import as_root
from hakoniwa.supervisor.hooks import explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec import Barn, Container

BUILDING = ".building"


def build_missing(barn: Barn, *, needed: bool = False) -> None:
    """Build the rootfs of each container that lacks one. `needed`: that there is no way to build one is an error."""
    for container in barn.containers:
        if container.bootstrap.skip:
            continue
        if _is_built(container):
            if needed:
                log.write(f"{container.name}: the rootfs {container.rootfs.path} is there already")
        elif container.bootstrap.strategy is not None:
            maps = None if os.geteuid() == 0 else choose_maps(for_ordinary_user(container))
            as_root(lambda container=container: build(container), maps)  # type: ignore[misc]
        elif needed:
            raise HakoError(
                "there is no rootfs, and no strategy to make one",
                where=container.rootfs.where,
                hint='set config.bootstrap.strategy, "host" for one',
            )


def _is_built(container: Container) -> bool:
    """Whether something is in place. An empty folder is nothing."""
    path, where = container.rootfs.path, container.rootfs.where
    try:
        return bool(os.listdir(path))
    except FileNotFoundError:
        if os.path.islink(path):
            raise HakoError(f"the rootfs {path} is a symlink that leads nowhere", where=where) from None
        return False
    except NotADirectoryError:
        raise HakoError(
            f"the rootfs {path} is not a folder", where=where, hint="name a folder in chroot_to()"
        ) from None
    except OSError as error:
        raise HakoError(f"the rootfs {path} cannot be read: {error.strerror}", where=where) from None


def build(container: Container) -> None:
    """Build the rootfs of one container. Raises HakoError; then nothing is left."""
    path = container.rootfs.path
    started = time.monotonic()
    try:
        aside, lock = _open_aside(path)
    except OSError as error:
        raise HakoError(
            f"cannot make the rootfs {path}: {error.filename}: {error.strerror}", where=container.rootfs.where
        ) from None
    try:
        _fill(container, Boot(container, aside))
        if not os.listdir(aside):
            raise HakoError(f"strategy {_shown(container)} left the rootfs empty", where=container.bootstrap.where)
        os.chmod(aside, 0o755)
        state.write_record(container.name, _record(container))
        os.rename(aside, path)
    except BaseException as error:
        remove_tree(aside)
        if isinstance(error, OSError):
            reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
            raise HakoError(f"cannot build the rootfs {path}: {reason}", where=container.bootstrap.where) from error
        raise
    finally:
        os.close(lock)
    log.write(f"{container.name}: built {path} with {_shown(container)} in {time.monotonic() - started:.2f} s")
    if container.bootstrap.strategy != "host" and _is_open_to_others(path):
        told = f"{container.name}: others on this host can execute the set-user-ID programs of {path}"
        log.write(f"{told} (chmod go-x {os.path.dirname(path)})", "warning")


def _is_open_to_others(path: str) -> bool:
    """Whether every folder on the way may be entered by everybody."""
    while path != "/":
        if not os.stat(path).st_mode & 0o001:
            return False
        path = os.path.dirname(path)
    return True


def _shown(container: Container) -> str:
    strategy = container.bootstrap.strategy
    return repr(strategy) if isinstance(strategy, str) else type(strategy).__name__


def _open_aside(path: str) -> tuple[str, int]:
    """An empty, locked folder beside the place of the rootfs. Raises OSError, or HakoError while another build runs."""
    parent, name = os.path.split(path)
    if parent == lib_dir():
        ensure_private(parent)
    else:
        os.makedirs(parent, exist_ok=True)
    aside = os.path.join(parent, f".{name}{BUILDING}")
    while True:
        try:
            os.mkdir(aside, 0o700)
        except FileExistsError:
            pass
        lock = _lock_folder(aside)
        if lock == -1:
            raise HakoError(f"the rootfs {path} is being built by another command", hint="wait for it")
        if lock is None:
            continue  # put in place, or removed, by another build in between
        if _is_there(path):
            os.close(lock)
            remove_tree(aside)
            raise HakoError(f"the rootfs {path} was built by another command in the meantime", hint="go on")
        for entry in os.listdir(aside):
            remove_tree(os.path.join(aside, entry))
        return aside, lock


def _is_there(path: str) -> bool:
    try:
        return bool(os.listdir(path))
    except FileNotFoundError:
        return False


def _lock_folder(path: str) -> int | None:
    """A descriptor that holds the lock of a folder; -1 when another holds it; None when it is not there any more."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(folder), os.stat(path)):
            return folder
    except BlockingIOError:
        os.close(folder)
        return -1
    except FileNotFoundError:
        pass
    os.close(folder)
    return None


def _fill(container: Container, boot: Boot) -> None:
    """Let the strategy fill the folder, then give it its owner and let the file's own functions have it."""
    bootstrap = container.bootstrap
    strategy = bootstrap.strategy
    if isinstance(strategy, str):
        __import__(f"hakoniwa.rootfs.strategies.{strategy}")
        import sys

        sys.modules[f"hakoniwa.rootfs.strategies.{strategy}"].fill(boot, bootstrap)
    else:
        strategy.bootstrap(boot)  # type: ignore[attr-defined]  # the builder has checked that it is there
    if container.rootfs.owner_uid is not None and container.rootfs.owner_gid is not None and strategy != "host":
        _own(boot.rootfs, container.rootfs.owner_uid, container.rootfs.owner_gid)
    for hook in bootstrap.postprocess:
        try:
            hook.function(boot)
        except Exception as error:
            explain(hook, error)
            raise HakoError(f"postprocess failed: {type(error).__name__}: {error}", where=hook.where) from error


def _own(folder: str, uid: int, gid: int) -> None:
    """Give everything in a folder to one owner; symlinks are changed, not followed."""
    for _, folders, files, descriptor in os.fwalk(folder):
        for entry in (*folders, *files):
            os.chown(entry, uid, gid, dir_fd=descriptor, follow_symlinks=False)
    os.chown(folder, uid, gid)


def _record(container: Container) -> dict[str, object]:
    return {
        "name": container.name,
        "barn": container.barn,
        "file": container.file,
        "rootfs": container.rootfs.path,
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "definition": plain(container),
    }


def unfinished() -> list[str]:
    """What killed builds and removals have left in the library folder."""
    try:
        entries = sorted(os.listdir(lib_dir()))
    except FileNotFoundError:
        return []
    left = []
    for path in (os.path.join(lib_dir(), entry) for entry in entries if entry.endswith((BUILDING, REMOVING))):
        lock = _lock_folder(path)
        if lock not in (None, -1):
            os.close(lock)
            left.append(path)
    return left


def clear_unfinished(path: str) -> None:
    """Remove what is left of one, unless it has been taken up again."""
    lock = _lock_folder(path)
    if lock is not None and lock != -1:
        remove_tree(path)
        os.close(lock)
