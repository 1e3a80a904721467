"""The host's side of a start: what a supervisor does there for its container, stage by stage, and undoes at the end.

The steps are a part of the plan, which `start --dry-run` prints. What a container has to itself is claimed first: its name, and
once the lock of that is held its rootfs and its range of ids. What a killed supervisor has left, the next command clears
(known/leftovers.py).
"""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.host.paths import open_outside
from hakoniwa.known import state
from hakoniwa.known.markglance import trees_under
from hakoniwa.known.statefile import ALIVE
from hakoniwa.places import lock_rootfs
from hakoniwa.run.life import CLAIM, HostStep, Life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from hakoniwa.known.markglance import Glance
    from hakoniwa.known.marks import Mark
    from hakoniwa.spec.records import Container, Rootfs


def host_steps(container: Container) -> list[HostStep]:
    """All steps of the host's side, in order."""
    steps: list[HostStep] = [ClaimName(container.name), ClaimRootfs(container.files.rootfs)]
    if "user" in container.namespaces.own:
        steps.append(ClaimIds(container.name))
    if container.network is not None:
        from hakoniwa.run.start.network import network_steps

        steps += network_steps(container)
    if container.needs_groups():
        from hakoniwa.run.start.hostgroups import MakeGroups

        steps.append(MakeGroups(container))
    if container.namespaces.persisted or container.container_pid_file is not None:
        from hakoniwa.run.start.hostfiles import KeepNamespace, WritePidFile

        steps += [KeepNamespace(kept) for kept in container.namespaces.persisted]
        if container.container_pid_file is not None:
            where = container.place("container_pid_file")
            steps.append(WritePidFile(container.container_pid_file, where))
    return steps


def needs_undoing(container: Container) -> bool:
    """Whether something is made outside of the container, or hooks stand for something."""
    return bool(
        container.hooks.general
        or container.hooks.background
        or container.container_pid_file
        or container.namespaces.persisted
        or container.has_user_namespace()  # its ids
        or container.needs_groups()
        or container.network is not None
    )


def outlasts_a_kill(container: Container) -> bool:
    """Whether a killed supervisor would leave something that lives, or is looked for by others.

    An empty cgroup, a range of ids, an address and its rules are neither: they are noted, and the next command clears them.
    """
    network = container.network
    return bool(
        container.hooks.general
        or container.hooks.background
        or container.container_pid_file
        or container.namespaces.persisted
        or not container.has_pid_namespace()  # its first process is all that the kernel kills
        or (network is not None and network.namespace)  # others may use what has a name
        or container.resources.cgroup.v1  # the processes of a frozen group wait for who thaws them
    )


def take(steps: Iterable[HostStep], stage: str, life: Life) -> None:
    """Do the steps of one stage. What undoes them is registered before, for as much of a step as will be done."""
    for step in steps:
        if step.stage == stage:
            life.undo.add(step.undoing(), step.undo)
            try:
                step.do(life)
            finally:
                if step.lock != -1:
                    life.undo.descriptors.append(step.lock)


class ClaimName(HostStep):
    """Take the lock of the container, clear what a killed supervisor has left, and see that the name is its own."""

    stage = CLAIM

    def __init__(self, name: str) -> None:
        self._name = name

    def __str__(self) -> str:
        return f"lock the name {self._name}"

    def do(self, life: Life) -> None:
        name = self._name
        try:
            self.lock = _take_lock(name)
        except OSError as error:
            raise HakoError(
                f"cannot make the state of {name!r}: {error.strerror}: {error.filename}",
                hint="is the disk full, or the folder not writable?",
            ) from None
        if state.has_ended(name, file=life.container.file):
            return
        if not state.has_ended(name):
            from hakoniwa.known import leftovers

            for what in leftovers.clear(name):
                log.write(f"{name}: cleared what a killed supervisor had left: {what}", "warning")
        state.must_belong(life.container)

    def undo(self) -> None:
        if self.lock != -1:
            state.release(self._name, self.lock)

    def undoing(self) -> str:
        return "release the lock"


def _take_lock(name: str) -> int:
    """The lock of a container, though its last supervisor may not have let go of it yet. Raises HakoError and OSError."""
    try:
        return state.take_lock(name)
    except state.Busy:
        from hakoniwa.run import holders  # it is rare
    try:
        return holders.take_lock(name)
    except state.Busy:
        raise _already_running(name) from None


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


class ClaimRootfs(HostStep):
    """Have the rootfs locked while it is in use, so that nobody changes it from outside.

    A layer that is written to we have to ourselves: the kernel lets it be mounted twice, and calls the result undefined.
    """

    stage = CLAIM

    def __init__(self, rootfs: Rootfs) -> None:
        self._rootfs = rootfs

    def __str__(self) -> str:
        return f"lock the rootfs {self._rootfs.path}"

    def do(self, life: Life) -> None:
        rootfs, launch = self._rootfs, life.launch
        layered = rootfs.replacement is None and (rootfs.layered or bool(launch.layers))
        try:
            folder = open_outside(rootfs.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            if not layered:
                return  # the step that mounts it tells why, where it is needed at all
            from hakoniwa.steps.files.root import open_folder

            folder = open_folder(rootfs.path, rootfs.where, life.container.file)
        try:
            # Read-only, it is mounted without an upper layer; but not `host` for who is not root (steps/files/gather.py).
            gathered = rootfs.layered and launch.maps.rootless
            alone = layered and (gathered or not rootfs.readonly)
            try:
                self.lock = lock_rootfs(rootfs.path, shared=not alone)
            except BlockingIOError:
                raise _in_use(rootfs, layered=layered, gathered=gathered) from None
            if launch.layers != trees_under(rootfs.path):
                told = f"the rootfs {rootfs.path} was replaced by another command in the meantime"
                raise HakoError(told, where=rootfs.where, hint="try again")
            if alone and rootfs.layered:
                _hide_new_secrets(folder)
        finally:
            os.close(folder)

    def undo(self) -> None:
        if self.lock != -1:
            os.close(self.lock)

    def undoing(self) -> str:
        return "release the rootfs"


def _hide_new_secrets(folder: int) -> None:
    """Hide what has appeared on the host since its copy was made."""
    from hakoniwa.host.root import shadows

    if new := shadows.find_new(folder):
        from hakoniwa.host.root.secrets import hide_new

        hide_new(folder, new)


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


class ClaimIds(HostStep):
    """A range of ids for root's container that has a user namespace, unless its file names one."""

    stage = CLAIM

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_new = False

    def __str__(self) -> str:
        return "have ids that are nobody else's, unless the file maps some"

    def do(self, life: Life) -> None:
        if life.launch.maps.uids:
            return
        from hakoniwa.known.idmaps import ranges

        maps, self._is_new = ranges.maps_of(self._name)
        life.launch = life.launch.replace(maps=maps)

    def undo(self) -> None:
        """If the container has come to nothing, its range is free again."""
        if self._is_new:
            from hakoniwa.known.idmaps import ranges

            ranges.free_unless_known(self._name)

    def undoing(self) -> str:
        return "free the ids"
