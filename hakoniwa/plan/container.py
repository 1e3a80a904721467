"""From the description of a container to the ordered list of steps that its first process applies: by namespaces, as usual.

(This is the flavour `container`; plan/flavours.py says what a flavour is.)
"""

from __future__ import annotations

from hakoniwa.host.rewritable import NOTHING, Exposed
from hakoniwa.plan.process import ProcessPlan
from hakoniwa.record import Record
from hakoniwa.spec.records import NO_MAPS, Maps
from hakoniwa.steps.files import devices, mounts, root
from hakoniwa.steps.process import identity
from hakoniwa.steps.step import HookPoint, Step, Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence
    from typing import Any

    from hakoniwa.seccomp.programs import Program
    from hakoniwa.spec.records import Container, Mount

# Paths of /proc and /sys that show or change the host: the set that other container managers hide and fix, and what only
# root may read, which root inside would be.
MASKED = [
    "/proc/acpi",
    "/proc/allocinfo",
    "/proc/asound",
    "/proc/bus/pci",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/pagetypeinfo",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/sys/net/ipv4/tcp_fastopen_key",
    "/proc/sys/net/ipv6/conf/default/stable_secret",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/tty/driver",
    "/proc/vmallocinfo",
    "/sys/devices/virtual/dmi",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/slab",
    "/sys/kernel/vmcoreinfo",
]
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

_NO_EXEC = ("noexec",)


class Launch(Record):
    """What differs from one start of a container to the next."""

    command: tuple[str, ...] | None  # in place of the file's own
    terminals: tuple[int, ...]  # the streams that become the container's own pty
    idle: bool = False  # no program: the container is there to be attached to
    hold: bool = False  # the program is not executed before the container is released
    capabilities: int  # resolved: a bit mask
    maps: Maps = NO_MAPS  # of a user namespace of its own
    layers: tuple[str, ...] = ()  # that the rootfs lies on: folders of the store, from the bottom up
    filters: tuple[Program, ...] = ()  # of seccomp
    exposed: Exposed = NOTHING  # what of the definition lies where the container can write


class Handed(Record):
    """What the first process is handed for its steps when it is cloned: descriptors; and what is known by then."""

    hierarchies: tuple[str, ...] = ("",)  # those that the container has a cgroup in, as MountCgroups has them
    folder: str = ""  # of the container's state; who is root of a user namespace by then finds another one
    joining: tuple[int, ...] = ()  # files that join v1 cgroups
    channel: _socket.socket | None = None  # to who does on the host what it cannot do itself
    mounts: int = -1  # a mount namespace that exists, with the mounts of which it begins
    gate: int = -1  # a pipe that opens once the hooks outside have run
    hold: int = -1  # a socket that the release comes through

    def descriptors(self) -> set[int]:
        """What is to stay open in it."""
        channel = -1 if self.channel is None else self.channel.fileno()
        return {*self.joining, channel, self.mounts, self.gate, self.hold} - {-1}


def is_chroot(container: Container) -> bool:
    """Whether the root is entered by `chroot(2)`, out of which cap_sys_chroot leads."""
    return container.files.rootfs.legacy_chroot


def steps_of(container: Container, launch: Launch, handed: Handed, process: ProcessPlan) -> list[Step]:
    """All steps, in order. A step is known by its number in this list, to both sides of the clone."""
    enter = root.Chroot() if is_chroot(container) else root.PivotRoot()
    return all_steps(container, launch, handed, process, enter)


def all_steps(container: Container, launch: Launch, handed: Handed, process: ProcessPlan, enter: Step) -> list[Step]:
    """The same for a root that is entered by a step."""
    if launch.hold:
        process = process.replace(hold=handed.hold)
    return [
        *_joined(handed),
        *process.scheduling(),
        *_own_namespaces(container),
        *_awaited(container, launch, handed),
        *([] if container.network is not None and not container.hooks.general else wait_at_gate(container, handed)),
        *_inner(container, launch, process, handed, enter),
    ]


def process_plan(container: Container, launch: Launch) -> ProcessPlan:
    """What the container's first process is to become."""
    places = dict(container.places)
    places["seccomp"] = container.security.seccomp.where
    places["capabilities"] = container.security.capabilities.where
    places["command"] = "" if launch.command else container.places.get("init_command", "")
    return ProcessPlan(
        process=container.process,
        resources=container.resources,
        security=container.security,
        capabilities=launch.capabilities,
        filters=launch.filters,
        command=launch.command or container.process.command,
        init=None if launch.idle else container.process.init,
        idle=launch.idle,
        terminals=launch.terminals,
        places=places,
        where=container.where,
    )


def _joined(handed: Handed) -> list[Step]:
    if not handed.joining:
        return []
    from hakoniwa.steps.join import JoinGroups

    return [JoinGroups(files=handed.joining)]


def _awaited(container: Container, launch: Launch, handed: Handed) -> list[Step]:
    """What the first process waits for: until then it is who the supervisor is, and not yet root of a user namespace."""
    steps: list[Step] = []
    entered = next((one for one in container.namespaces.entered if one.name == "mount"), None)
    if waits_for_host(container, launch):
        from hakoniwa.steps.outside import AwaitOutside

        inner, announce = container.has_user_namespace(), bool(container.namespaces.persisted)
        steps.append(AwaitOutside(channel=handed.channel, user_namespace=inner, announce=announce))
    if entered is not None:
        from hakoniwa.steps.namespaces import CopyMounts

        steps.append(CopyMounts(namespace=handed.mounts, where=entered.where))
    return steps


def wait_at_gate(container: Container, handed: Handed) -> list[Step]:
    """Wait for what is done on the host's side: a network, and hooks of users'. It is there before their hooks inside are called.

    Without any, it is there before the program: meanwhile both sides go on.
    """
    network = ["the network"] if container.network is not None else []
    what = [*network, *(["the hooks outside"] if container.hooks_at("after_network_created") else [])]
    return [Wait(gate=handed.gate, what=" and ".join(what))] if what else []


def _inner(container: Container, launch: Launch, process: ProcessPlan, handed: Handed, enter: Step) -> list[Step]:
    """What it does from then on."""
    return [
        identity.JoinKeyring(),
        HookPoint(point="after_fork"),
        *_network(container),
        *_root(container, launch),
        process.account(),
        *_mounts(container, launch, handed),
        *hidden_paths(container),
        *_names(container),
        *process.terminal(),
        *process.redirects(inside=False),
        HookPoint(point="before_chroot"),
        enter,
        HookPoint(point="after_chroot"),
        *(wait_at_gate(container, handed) if container.network is not None and not container.hooks.general else []),
        *process.become_program(),
    ]


def _own_namespaces(container: Container) -> list[Step]:
    """Those that the first process makes itself (see `clone_flags`)."""
    steps: list[Step] = []
    made = set(container.namespaces.own) - set(clone_flags(container))
    if not made:
        return steps
    from hakoniwa.steps import namespaces

    if "time" in made and (ahead := container.namespaces.time_offset):
        steps.append(namespaces.ShiftClocks(monotonic=ahead.monotonic, boottime=ahead.boottime, where=ahead.where))
    if "cgroup" in made:
        steps.append(namespaces.MakeCgroupNamespace())
    return steps


def clone_flags(container: Container) -> tuple[str, ...]:
    """The namespaces that the first process is cloned into; the others it makes itself (docs/architecture.md)."""
    later = {"cgroup", *(["time"] if container.namespaces.time_offset else [])}
    return tuple(name for name in container.namespaces.own if name not in later)


def waits_for_host(container: Container, launch: Launch) -> bool:
    """Whether the first process waits for the host's side: for its id maps, or for what it cannot open itself."""
    inner, persisted = container.has_user_namespace(), bool(container.namespaces.persisted)
    return inner or persisted or needs_help_outside(container, launch)


def needs_help_outside(container: Container, launch: Launch) -> bool:
    """Whether the host's root has to open things for the first process (`Step.provide`)."""
    mapped = container.has_user_namespace() or any(point.idmap for point in container.files.mounts)
    return mapped and not launch.maps.rootless


def _network(container: Container) -> list[Step]:
    loopback = [identity.RaiseLoopback()] if "net" in container.namespaces.own else []
    return [*loopback, HookPoint(point="after_network_initialized")]


def _root(container: Container, launch: Launch) -> list[Step]:
    rootfs, file = container.files.rootfs, container.file or "FILE"
    common: dict[str, Any] = {"path": rootfs.path, "readonly": rootfs.readonly, "file": file, "where": rootfs.where}
    # With an owner given, the ids on the disk are those of the host already.
    common["map_ids"] = container.has_user_namespace() and rootfs.owner_uid is None
    if rootfs.replacement is not None:
        return [root.CutOff(), root.ReplaceRoot(mount=rootfs.replacement, **common)]
    if rootfs.layered and launch.maps.rootless:
        from hakoniwa.steps.files.gather import GatherRoot

        del common["map_ids"]
        return [root.CutOff(), GatherRoot(**common)]
    if launch.layers:
        return [root.CutOff(), stacked_root(launch.layers, by_user=launch.maps.rootless, **common)]
    return [root.CutOff(), root.LayerRoot(**common) if rootfs.layered else root.BindRoot(**common)]


def stacked_root(layers: tuple[str, ...], **facts: Any) -> root.LayerRoot:
    """The root of a rootfs that lies on layers of the store (known/marks.py), which are shown by their short names."""
    return root.LayerRoot(layers=layers, names=tuple(layer.split("/")[-2][:12] for layer in layers), **facts)


def _mounts(container: Container, launch: Launch, handed: Handed) -> list[Step]:
    """The independent mounts first, then the mount points as written; one that would cover an independent comes before."""
    independent = independent_mounts(container, handed.hierarchies)
    covered = [target for target, _ in independent]
    before: list[Step] = []
    after: list[Step] = []
    for point in container.files.mounts:
        covers = any(target == point.target or target.startswith(point.target + "/") for target in covered)
        (before if covers else after).append(_mount_point(point, container, launch))
    return [
        *before,
        *(step for _, step in independent),
        *after,
        *_network_files(container, handed.folder),
        *_lxcfs(container),
        *_guarded(launch.exposed),
    ]


def _guarded(exposed: Exposed) -> list[Step]:
    """What root would execute after the container is not the container's to write."""
    steps: list[Step] = [mounts.KeepPaths(paths=exposed.kept)] if exposed.kept else []
    return [*steps, mounts.FixPaths(paths=exposed.fixed)] if exposed.fixed else steps


def _network_files(container: Container, folder: str) -> Sequence[Step]:
    if container.network is None:
        return ()
    from hakoniwa.plan.networkfiles import network_files

    return network_files(container, folder)


def _lxcfs(container: Container) -> list[Step]:
    if container.files.lxcfs_root is None:
        return []
    from hakoniwa.steps.files.shown import BindLxcfs

    return [BindLxcfs(root=container.files.lxcfs_root, where=container.place("lxcfs_root"))]


def _mount_point(point: Mount, container: Container, launch: Launch) -> Step:
    if point.fs is None:
        return mounts.BindMount(
            source=point.source,
            target=point.target,
            readonly=point.readonly,
            options=point.options,
            idmap=point.idmap and not launch.maps.rootless,
            where=point.where,
        )
    if point.fs == "devtmpfs":
        return devices.MakeDev(target=point.target, bind=container.has_user_namespace(), where=point.where)
    return mounts.MakeMount(
        fs=point.fs,
        source=point.source,
        target=point.target,
        readonly=point.readonly,
        options=point.options,
        where=point.where,
    )


def independent_mounts(container: Container, hierarchies: tuple[str, ...]) -> list[tuple[str, Step]]:
    """Target and step of each fresh file system. A private /dev comes with its own terminals and shared memory."""
    asked = set(container.files.independent)
    inner = container.has_user_namespace()
    if "devtmpfs" in asked:
        asked |= {"devpts", "shm"}
    every: dict[str, tuple[str, Step]] = {
        "procfs": ("/proc", mounts.MakeMount(fs="proc", source="proc", target="/proc", options=_NO_EXEC)),
        # Read-only: whoever is root may write to many of its files, whatever capabilities are left.
        "sysfs": ("/sys", _sysfs(container)),
        **({"cgroup": ("/sys/fs/cgroup", _cgroups(hierarchies, writable=inner))} if "cgroup" in asked else {}),
        "devtmpfs": ("/dev", devices.MakeDev(bind=inner)),
        "devpts": ("/dev/pts", devices.MakeDevpts()),
        "shm": (
            "/dev/shm",
            mounts.MakeMount(fs="tmpfs", source="shm", target="/dev/shm", options=("noexec", "mode=1777", "size=64m")),
        ),
        "mqueue": (
            "/dev/mqueue",
            mounts.MakeMount(fs="mqueue", source="mqueue", target="/dev/mqueue", options=_NO_EXEC),
        ),
    }
    return [every[name] for name in every if name in asked]


def _cgroups(hierarchies: tuple[str, ...], *, writable: bool) -> Step:
    from hakoniwa.steps.files.shown import MountCgroups

    return MountCgroups(hierarchies=hierarchies, writable=writable)


def _sysfs(container: Container) -> Step:
    """A user namespace may mount one for its own network namespace only; the host's shows the same, where that is shared."""
    if container.has_user_namespace() and "net" not in container.namespaces.own:
        from hakoniwa.steps.files.shown import BindCovered

        return BindCovered(source="/sys", target="/sys", options=_NO_EXEC)
    return mounts.MakeMount(fs="sysfs", source="sysfs", target="/sys", readonly=True, options=_NO_EXEC)


def hidden_paths(container: Container) -> list[Step]:
    """What of /proc and /sys is fixed or masked."""
    return [
        mounts.FixPaths(paths=(*READONLY, *container.files.readonly_paths)),
        mounts.HidePaths(paths=(*MASKED, *container.files.masked_paths)),
    ]


def _names(container: Container) -> list[Step]:
    return [identity.SetHostname(name=container.hostname)] if "uts" in container.namespaces.own else []
