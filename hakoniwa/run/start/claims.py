"""What a container has to itself while it runs: its name, and once the lock of that is held its rootfs and its range of ids."""

from __future__ import annotations

import os

from hakoniwa import log, state
from hakoniwa.errors import HakoError
from hakoniwa.hostpaths import open_outside
from hakoniwa.markglance import trees_under
from hakoniwa.places import lock_rootfs
from hakoniwa.statefile import ALIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.markglance import Glance
    from hakoniwa.marks import Mark
    from hakoniwa.plan.container import Launch
    from hakoniwa.spec.records import Container, Rootfs
    from hakoniwa.undo import Undo


def needs_undoing(container: Container) -> bool:
    """Whether something is made outside of the container, or hooks stand for something."""
    return bool(
        container.hooks.general
        or container.hooks.background
        or container.container_pid_file
        or container.namespaces.persisted
        or container.has_user_namespace()  # its ids
        or container.needs_groups()
    )


def must_be_provisioned(container: Container, mark: Mark | Glance) -> None:
    """Raise HakoError if provisioning has stopped half-way, or goes on."""
    rootfs = container.files.rootfs
    if mark.provisioning is None:
        return
    try:
        os.close(lock_rootfs(rootfs.path))
    except BlockingIOError:
        raise _in_use(rootfs, layered=False, gathered=False) from None
    raise HakoError(
        f"the provisioning of {rootfs.path} has stopped at {mark.provisioning!r}",
        where=rootfs.where,
        hint=f"hako provision {container.file} goes on with it",
    )


def claim_name(container: Container, undo: Undo) -> None:
    """Take the lock of the container, clear what a killed supervisor has left, and see that the name is its own.

    Raises HakoError. To release the lock is the first thing in `undo`.
    """
    name = container.name
    try:
        lock = state.take_lock(name)
    except state.Busy:
        raise _already_running(name) from None
    except OSError as error:
        raise HakoError(
            f"cannot make the state of {name!r}: {error.strerror}: {error.filename}",
            hint="is the disk full, or the folder not writable?",
        ) from None
    undo.add("release the lock", lambda: state.release(name, lock), holds=lock)
    if not state.has_ended(name):
        from hakoniwa import leftovers

        for what in leftovers.clear(name):
            log.write(f"{name}: cleared what a killed supervisor had left: {what}", "warning")
    state.must_belong(container)


def _already_running(name: str) -> HakoError:
    """Who holds the lock."""
    known = state.read(name)
    if known is None or known.status not in ALIVE:
        return HakoError(f"container {name!r} is being started or stopped by another command", hint="try again")
    pid, since = known.init.pid, known.created_at
    if known.status == "created":
        told = f"container {name!r} is held already: pid {pid}, since {since}, from {known.file or 'standard input'}"
        return HakoError(told, hint=f"hako release -n {name}, or hako kill -n {name}")
    return HakoError(
        f"container {name!r} is already running: pid {pid}, since {since}, from {known.file or 'standard input'}",
        hint=f"hako attach -n {name}, or hako kill -n {name}",
    )


def claim_rootfs(container: Container, launch: Launch, undo: Undo) -> None:
    """Have the rootfs locked while it is in use, so that nobody changes it from outside. Raises HakoError.

    A layer that is written to we have to ourselves: the kernel lets it be mounted twice, and calls the result undefined.
    """
    rootfs = container.files.rootfs
    layered = rootfs.replacement is None and (rootfs.layered or bool(launch.layers))
    try:
        folder = open_outside(rootfs.path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        if not layered:
            return  # the step that mounts it tells why, where it is needed at all
        from hakoniwa.steps.root import open_folder

        folder = open_folder(rootfs.path, rootfs.where, container.file)
    try:
        # Read-only, it is mounted without an upper layer; but not `host` for who is not root (steps/gather.py).
        gathered = rootfs.layered and launch.maps.rootless
        alone = layered and (gathered or not rootfs.readonly)
        try:
            lock = lock_rootfs(rootfs.path, shared=not alone)
        except BlockingIOError:
            raise _in_use(rootfs, layered=layered, gathered=gathered) from None
        undo.add("release the rootfs", lambda: os.close(lock), holds=lock)
        if launch.layers != trees_under(rootfs.path):
            raise HakoError(
                f"the rootfs {rootfs.path} was replaced by another command in the meantime",
                where=rootfs.where,
                hint="try again",
            )
        if alone and rootfs.layered:
            from hakoniwa.hostroot import shadows

            if new := shadows.find_new(folder):
                from hakoniwa.hostroot.secrets import hide_new

                hide_new(folder, new)
    finally:
        os.close(folder)


def _in_use(rootfs: Rootfs, *, layered: bool, gathered: bool) -> HakoError:
    """Why the lock of a rootfs is not to be had, and what lets several containers run."""
    told = f"the rootfs {rootfs.path} is in use by another {'container' if layered else 'command'}"
    if not layered:
        return HakoError(told, where=rootfs.where, hint="wait for it")
    ways = ["give this one a chroot_to() of its own"]
    if not gathered:
        ways.append("set rootfs.readonly = True in all of them")
    if not rootfs.layered:
        ways.append("make it a plain folder by bootstrap.cache = False and create --rebuild")
    hint = f"a layer that is written to serves one container at a time: {', or '.join(ways)}"
    return HakoError(told, where=rootfs.where, hint=hint)


def claim_ids(container: Container, launch: Launch, undo: Undo) -> Launch:
    """The launch with a range of ids where root's container has a user namespace and its file names none."""
    if "user" not in container.namespaces.own or launch.maps.uids:
        return launch
    from hakoniwa import ranges

    maps, new = ranges.maps_of(container.name)
    if new:  # where the container comes to nothing, its range is free again
        undo.add("free the ids", lambda: ranges.free_unless_known(container.name))
    return launch.replace(maps=maps)
