"""Build a rootfs aside, and put it in place by one rename when it is complete.

So a rootfs that is there is complete. The folder aside has a lock, held while it is built: what lies unlocked in such a
folder is left over from a build that was killed, and is cleared by the next; or it was left by a step of provisioning that
failed, and is taken up at that step. The place of the rootfs is locked as well, from before the build until everything
is written down: so nobody removes the one and the record of the other.
"""

from __future__ import annotations

import os
import stat
import time

from hakoniwa import boxes, log, state
from hakoniwa.errors import HakoError
from hakoniwa.hostpaths import open_outside
from hakoniwa.kernel.files import exchange
from hakoniwa.places import ensure_private, lib_dir, make_parents
from hakoniwa.rootfs.build.assembly import Making, described
from hakoniwa.rootfs.build.exposure import program_for_others
from hakoniwa.rootfs.store import layers
from hakoniwa.rootfs.store.locks import hold_place, try_claim
from hakoniwa.rootfs.store.removal import (
    REMOVING,
    REPLACED,
    discard,
    must_hold_no_mount,
    new_place_to_remove,
    put_back,
    remove_tree,
)
from hakoniwa.rootfs.tools.progress import progress_for
from hakoniwa.statefile import Definition, Made
from hakoniwa.trust import check_place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hakoniwa.rootfs.build.selection import How
    from hakoniwa.rootfs.tools.progress import Progress
    from hakoniwa.spec.records import Container, Maps

_ENDS = (boxes.BUILDING, REMOVING, REPLACED)


def build(container: Container, how: How, *, shared: bool, maps: Maps | None) -> None:
    """Build the rootfs of one container, whose siblings may share it. Raises HakoError; then nothing half-made is there."""
    path = container.files.rootfs.path
    started = time.monotonic()
    progress = progress_for(container.name, quiet=how.quiet, verbose=how.verbose)
    try:
        aside, lock = open_aside(path, rebuild=how.rebuild)
    except OSError as error:
        raise HakoError(
            f"cannot make the rootfs {path}: {error.filename}: {error.strerror}", where=container.files.rootfs.where
        ) from None
    try:
        place = hold_place(path, container.files.rootfs.where)
        try:
            if put_back(path) and not how.rebuild:
                progress.tell(f"put {path} back, which a killed command had taken out of its place")
                return
            if _is_there(path):
                _must_be_replaceable(container)
            making = _make(container, how, progress, aside, maps, shared=shared)
        finally:
            os.close(place)
    finally:
        os.close(lock)
    progress.tell(f"built {path} with {described(container)} in {time.monotonic() - started:.2f} s")
    if making.mark["layers"]:
        progress.tell(f"{path} holds no files but layers of them: hako mount {container.file} shows the whole")
    if container.build.bootstrap.strategy != "host" and (program := program_for_others(path)):
        told = (
            f"{container.name}: others on this host can execute set-user-ID programs of the rootfs, such as {program}"
        )
        log.write(f"{told} (chmod go-x {os.path.dirname(path)})", "warning")


def _make(container: Container, how: How, progress: Progress, aside: str, maps: Maps | None, *, shared: bool) -> Making:
    """Make it in the folder aside and put it in place, both of which are locked."""
    making = Making(container, aside, how, progress, maps)
    try:
        making.make(shared=shared)
        _put_in_place(container, making, container.files.rootfs.path)
    except BaseException as error:
        if making.is_resumable():
            progress.tell(f"kept what was done: hako create {container.file} goes on at that step, hako gc clears it")
        else:
            remove_tree(aside)
            boxes.remove_stale(aside)
            boxes.remove_stale(container.files.rootfs.path)
        if isinstance(error, OSError):
            raise _explained(container, error) from error
        raise
    finally:
        if making.store != -1:
            os.close(making.store)
    return making


def _must_be_replaceable(container: Container) -> None:
    """Raise HakoError where a rootfs is somebody else's work, or something is mounted in it."""
    path, where = container.files.rootfs.path, container.files.rootfs.where
    mark, record = boxes.salvage(path), state.read_record(container.name)
    made_here = mark["asked"] if mark is not None else boxes.is_marked(path)
    if not made_here and (record is None or record.rootfs != path):
        hint = "remove it by hand, if it is to be replaced"
        raise HakoError(f"the rootfs {path} was not made by hako create", where=where, hint=hint)
    must_hold_no_mount(path)


def _explained(container: Container, error: OSError) -> HakoError:
    reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return HakoError(
        f"cannot build the rootfs {container.files.rootfs.path}: {reason}", where=container.build.bootstrap.where
    )


def _put_in_place(container: Container, making: Making, path: str) -> None:
    """Mark what was made, and give it its name."""
    os.chmod(making.folder, 0o755)
    before = boxes.salvage(path)
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
        _replace(folder, path)
    boxes.remove_stale(folder)
    boxes.remove_stale(path)


def _replace(folder: str, path: str) -> None:
    """Put a folder in the place of what is there, and remove that."""
    gone, lock = new_place_to_remove(path)
    try:
        try:
            exchange(folder, path)
            os.rename(folder, gone)
        except OSError as error:
            if error.errno != 22:  # EINVAL: this file system cannot swap
                raise
            # What is killed in between is put back by the next command: `put_back`.
            replaced = boxes.aside_of(path, REPLACED)
            os.rename(path, replaced)
            os.rename(folder, path)
            os.rename(replaced, gone)
        discard(gone)
    finally:
        os.close(lock)


def open_aside(path: str, *, rebuild: bool) -> tuple[str, int]:
    """A locked folder beside the place of the rootfs; it may hold what an earlier build has left.

    Raises OSError, or HakoError while another build runs.
    """
    make_parent(path)
    aside = boxes.aside_of(path)
    try:
        lock = boxes.claim(aside)
    except BlockingIOError:
        raise HakoError(f"the rootfs {path} is being built by another command", hint="wait for it") from None
    try:
        if _is_there(path) and not rebuild:
            raise HakoError(f"the rootfs {path} was built by another command in the meantime", hint="go on")
        _make_folder(aside)
    except BaseException:
        os.close(lock)
        raise
    return aside, lock


def make_parent(path: str) -> None:
    """Make the folder that a rootfs is to lie in. Raises OSError."""
    parent = os.path.dirname(path)
    if parent == lib_dir():
        ensure_private(parent)
    else:
        make_parents(path)
        os.close(open_outside(parent))  # unless a container has put a symlink on the way


def _make_folder(aside: str) -> None:
    try:
        os.mkdir(aside, 0o700)
    except FileExistsError:
        check_place(aside)  # whose it is can change what is built there
        if not stat.S_ISDIR(os.lstat(aside).st_mode):
            raise HakoError(f"{aside} is not a folder", hint="remove it") from None


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
        rootfs=container.files.rootfs.path,
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
    for entry in entries:
        path = os.path.join(lib_dir(), entry)
        if entry.startswith(".") and entry.endswith(_ENDS) and (lock := try_claim(path)) != -1:
            os.close(lock)
            left.append(path)
    return [*left, *layers.unfinished()]


def clear_unfinished(path: str) -> None:
    """Remove what is left of one, unless it has been taken up again; put back what was only taken out of its place."""
    parent, name = os.path.split(path)
    if parent == boxes.layers_dir():
        layers.clear(path)
        return
    place = os.path.join(parent, name.removeprefix(".").removesuffix(REPLACED))
    lock = try_claim(place if path.endswith(REPLACED) else path)
    if lock == -1:
        return
    try:
        if path.endswith(REPLACED):
            put_back(place)
        else:
            remove_tree(path)
            boxes.remove_stale(path)
    finally:
        os.close(lock)


def stale_marks() -> list[str]:
    """The places whose marks are of folders that are there no more, and will not be: nothing is built aside."""
    paths = {str(mark["path"]) for mark in boxes.every()[0]}
    return sorted(
        path
        for path in paths
        if not any(map(os.path.exists, (path, boxes.aside_of(path), boxes.aside_of(path, REPLACED))))
    )


def clear_marks(path: str) -> None:
    """Remove the marks of folders that lie at `path` no more, unless it is being worked on."""
    _with_place(path, lambda: boxes.remove_stale(path))


def clear_half_written(place: str) -> None:
    """Remove what a killed command has left of a mark, unless its rootfs is being worked on, perhaps by who writes it."""
    _with_place(boxes.path_of(place), lambda: os.unlink(place))


def _with_place(path: str, action: Callable[[], object]) -> None:
    """Do something while the place of a rootfs is locked; nothing while another has the lock."""
    if not os.path.isdir(os.path.dirname(path)):
        action()  # nothing can lie there
    elif (lock := try_claim(path)) != -1:
        try:
            action()
        finally:
            os.close(lock)
