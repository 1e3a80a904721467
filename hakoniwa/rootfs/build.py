"""Build a rootfs aside, and put it in place by one rename when it is complete.

So a rootfs that is there is complete. The folder aside is locked while it is built: what lies unlocked in such a folder
is left over from a build that was killed, and is cleared by the next; or it was left by a step of provisioning that failed,
and is taken up at that step.
"""

from __future__ import annotations

import os
import time

from hakoniwa import boxes, log, state
from hakoniwa.errors import HakoError
from hakoniwa.hostpaths import open_outside
from hakoniwa.kernel.files import exchange
from hakoniwa.places import ensure_private, lib_dir, make_parents
from hakoniwa.rootfs import layers
from hakoniwa.rootfs.exposed import program_for_others
from hakoniwa.rootfs.locking import hold_rootfs, lock_folder
from hakoniwa.rootfs.making import Making, described
from hakoniwa.rootfs.progress import progress_for
from hakoniwa.rootfs.remove import REMOVING, must_hold_no_mount, remove_tree
from hakoniwa.statefile import Definition, Made
from hakoniwa.trust import check_place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.rootfs.missing import How
    from hakoniwa.spec import Container, Maps

BUILDING = ".building"


def build(container: Container, how: How, *, shared: bool, maps: Maps | None) -> None:
    """Build the rootfs of one container, whose siblings may share it. Raises HakoError; then nothing half-made is there."""
    path = container.rootfs.path
    started = time.monotonic()
    progress = progress_for(container.name, quiet=how.quiet, verbose=how.verbose)
    replaced = _hold_replaced(container) if how.rebuild and _is_there(path) else -1
    try:
        aside, lock = open_aside(path, rebuild=how.rebuild)
    except OSError as error:
        raise HakoError(
            f"cannot make the rootfs {path}: {error.filename}: {error.strerror}", where=container.rootfs.where
        ) from None
    making = Making(container, aside, how, progress, maps)
    try:
        making.make(shared=shared)
        _put_in_place(container, making, path)
    except BaseException as error:
        if making.is_resumable():
            progress.tell(f"kept what was done: hako create {container.file} goes on at that step, hako gc clears it")
        else:
            remove_tree(aside)
            boxes.remove_stale(aside)
        if isinstance(error, OSError):
            raise _explained(container, error) from error
        raise
    finally:
        for descriptor in (lock, making.store, replaced):
            if descriptor != -1:
                os.close(descriptor)
    progress.tell(f"built {path} with {described(container)} in {time.monotonic() - started:.2f} s")
    if making.mark["layers"]:
        progress.tell(f"{path} holds no files but layers of them: hako mount {container.file} shows the whole")
    if container.bootstrap.strategy != "host" and (program := program_for_others(path)):
        told = (
            f"{container.name}: others on this host can execute set-user-ID programs of the rootfs, such as {program}"
        )
        log.write(f"{told} (chmod go-x {os.path.dirname(path)})", "warning")


def _hold_replaced(container: Container) -> int:
    """The lock of the rootfs that is to be replaced. Raises HakoError where it is in use, or somebody else's work."""
    path, where = container.rootfs.path, container.rootfs.where
    mark, record = boxes.read(path), state.read_record(container.name)
    made_here = (mark is not None and mark["asked"]) or (record is not None and record.rootfs == path)
    if not made_here:
        hint = "remove it by hand, if it is to be replaced"
        raise HakoError(f"the rootfs {path} was not made by hako create", where=where, hint=hint)
    must_hold_no_mount(path)
    return hold_rootfs(path, where)


def _explained(container: Container, error: OSError) -> HakoError:
    reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return HakoError(f"cannot build the rootfs {container.rootfs.path}: {reason}", where=container.bootstrap.where)


def _put_in_place(container: Container, making: Making, path: str) -> None:
    """Mark what was made, and give it its name."""
    os.chmod(making.folder, 0o755)
    before = boxes.read(path)
    if before is not None:
        making.mark["snapshots"] = before["snapshots"]
    boxes.write(path, making.mark, folder=making.folder)
    state.write_record(record_of(container))
    put_in_place(making.folder, path)


def put_in_place(folder: str, path: str) -> None:
    """Rename a marked folder to `path`; what is there goes. Raises HakoError where that is a mount point, or a symlink."""
    if os.path.islink(path):
        raise HakoError(f"the rootfs {path} is a symlink", hint="name the folder itself in chroot_to()")
    if not _is_there(path):
        try:
            os.rename(folder, path)
        except OSError as error:
            if error.errno not in (16, 18):  # EBUSY, EXDEV
                raise
            hint = "name a folder below it in chroot_to()"
            raise HakoError(f"the rootfs {path} is a mount point of its own", hint=hint) from None
    else:
        must_hold_no_mount(path)
        gone = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}{REMOVING}")
        remove_tree(gone)
        try:
            exchange(folder, path)
            os.rename(folder, gone)
        except OSError as error:
            if error.errno != 22:  # EINVAL: this file system cannot swap
                raise
            os.rename(path, gone)
            os.rename(folder, path)
        remove_tree(gone)
    boxes.remove_stale(folder)
    boxes.remove_stale(path)


def open_aside(path: str, *, rebuild: bool) -> tuple[str, int]:
    """A locked folder beside the place of the rootfs; it may hold what an earlier build has left.

    Raises OSError, or HakoError while another build runs.
    """
    parent, name = os.path.split(path)
    if parent == lib_dir():
        ensure_private(parent)
    else:
        make_parents(path)
        os.close(open_outside(parent))  # unless a container has put a symlink on the way
    aside = os.path.join(parent, f".{name}{BUILDING}")
    while True:
        try:
            os.mkdir(aside, 0o700)
        except FileExistsError:
            check_place(aside)  # whose it is can change what is built there
        lock = lock_folder(aside)
        if lock == -1:
            raise HakoError(f"the rootfs {path} is being built by another command", hint="wait for it")
        if lock is None:
            continue  # put in place, or removed, by another build in between
        if _is_there(path) and not rebuild:
            os.close(lock)
            remove_tree(aside)
            raise HakoError(f"the rootfs {path} was built by another command in the meantime", hint="go on")
        return aside, lock


def _is_there(path: str) -> bool:
    try:
        return bool(os.listdir(path))
    except FileNotFoundError:
        return False


def record_of(container: Container) -> Made:
    """What is remembered of a container whose rootfs was made (state.py)."""
    return Made(
        name=container.name,
        barn=container.barn,
        file=container.file,
        rootfs=container.rootfs.path,
        created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        definition=Definition.of(container),
    )


def unfinished() -> list[str]:
    """What killed builds and removals have left in the library folder."""
    try:
        entries = sorted(os.listdir(lib_dir()))
    except FileNotFoundError:
        return []
    left = []
    for path in (os.path.join(lib_dir(), entry) for entry in entries if entry.endswith((BUILDING, REMOVING))):
        lock = lock_folder(path)
        if lock not in (None, -1):
            os.close(lock)
            left.append(path)
    return [*left, *layers.unfinished()]


def stale_marks() -> list[str]:
    """The places whose marks are of folders that are there no more, and will not be: nothing is built aside."""
    paths = {str(mark["path"]) for mark in boxes.every()}
    return sorted(
        path
        for path in paths
        if not os.path.exists(path)
        and not os.path.exists(os.path.join(os.path.dirname(path), f".{os.path.basename(path)}{BUILDING}"))
    )


def clear_unfinished(path: str) -> None:
    """Remove what is left of one, unless it has been taken up again."""
    lock = lock_folder(path)
    if lock is not None and lock != -1:
        remove_tree(path)
        boxes.remove_stale(path)
        os.close(lock)
