"""Construction of one rootfs: aside, in a folder that is locked meanwhile, and put in place when it is complete.

The place of the rootfs is locked as well, from before the build until everything is written down: so nobody removes the
one and the record of the other.
"""

from __future__ import annotations

import os
import time

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.known import state
from hakoniwa.known.statefile import Made
from hakoniwa.rootfs.build.assembly import Assembly
from hakoniwa.rootfs.build.exposure import program_for_others
from hakoniwa.rootfs.build.strategy import described
from hakoniwa.rootfs.store.discards import must_hold_no_mount, put_back, remove_tree
from hakoniwa.rootfs.store.locks import hold_place
from hakoniwa.rootfs.store.placement import is_filled, open_aside, put_in_place
from hakoniwa.rootfs.store.registry import is_marked, remove_stale_marks, salvage_mark, write_mark
from hakoniwa.rootfs.tools.progress import progress_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.rootfs.build.options import BuildOptions
    from hakoniwa.rootfs.tools.progress import Progress
    from hakoniwa.spec.records import Container, Maps


def build(container: Container, options: BuildOptions, *, shared: bool, maps: Maps | None) -> None:
    """Build the rootfs of one container, whose siblings may share it. Raises HakoError, and leaves nothing half-made."""
    path = container.files.rootfs.path
    started = time.monotonic()
    progress = progress_for(container.name, quiet=options.quiet, verbose=options.verbose)
    try:
        aside, lock = open_aside(path, rebuild=options.rebuild)
    except OSError as error:
        raise HakoError(
            f"cannot make the rootfs {path}: {error.filename}: {error.strerror}", where=container.files.rootfs.where
        ) from None
    try:
        place = hold_place(path, container.files.rootfs.where)
        try:
            if put_back(path) and not options.rebuild:
                progress.tell(f"put {path} back, which a killed command had taken out of its place")
                return
            if is_filled(path):
                _must_be_replaceable(container)
            assembly = _assemble(container, options, progress, aside, maps, shared=shared)
        finally:
            os.close(place)
    finally:
        os.close(lock)
    progress.tell(f"built {path} with {described(container)} in {time.monotonic() - started:.2f} s")
    if assembly.mark.layers:
        progress.tell(f"{path} holds no files but layers of them: hako mount {container.file} shows the whole")
    if container.build.bootstrap.strategy != "host" and (program := program_for_others(path)):
        told = (
            f"{container.name}: others on this host can execute set-user-ID programs of the rootfs, such as {program}"
        )
        log.write(f"{told} (chmod go-x {os.path.dirname(path)})", "warning")


def _assemble(
    container: Container, options: BuildOptions, progress: Progress, aside: str, maps: Maps | None, *, shared: bool
) -> Assembly:
    """Assemble it in the folder aside, and put it in place; the caller holds the locks of both."""
    assembly = Assembly(container, aside, options, progress, maps)
    try:
        assembly.make(shared=shared)
        _put_in_place(container, assembly, container.files.rootfs.path)
    except BaseException as error:
        if assembly.is_resumable():
            progress.tell(f"kept what was done: hako create {container.file} goes on at that step, hako gc clears it")
        else:
            remove_tree(aside)
            remove_stale_marks(aside)
            remove_stale_marks(container.files.rootfs.path)
        if isinstance(error, OSError):
            raise _explained(container, error) from error
        raise
    finally:
        if assembly.store != -1:
            os.close(assembly.store)
    return assembly


def _must_be_replaceable(container: Container) -> None:
    """Raise HakoError if the rootfs is somebody else's work, or something is mounted in it."""
    path, where = container.files.rootfs.path, container.files.rootfs.where
    mark, record = salvage_mark(path), state.read_record(container.name)
    made_here = bool(mark.asked) if mark is not None else is_marked(path)
    if not made_here and (record is None or record.rootfs != path):
        hint = "remove it by hand, if it is to be replaced"
        raise HakoError(f"the rootfs {path} was not made by hako create", where=where, hint=hint)
    must_hold_no_mount(path)


def _explained(container: Container, error: OSError) -> HakoError:
    reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return HakoError(
        f"cannot build the rootfs {container.files.rootfs.path}: {reason}", where=container.build.bootstrap.where
    )


def _put_in_place(container: Container, assembly: Assembly, path: str) -> None:
    """Mark what was made, and give it its name."""
    os.chmod(assembly.folder, 0o755)
    before = salvage_mark(path)
    mark = assembly.mark if before is None else assembly.mark.replace(snapshots=before.snapshots)
    write_mark(path, mark, folder=assembly.folder)
    state.write_record(Made.of(container))
    put_in_place(assembly.folder, path)
