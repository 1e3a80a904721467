"""From the description of a container to the ordered list of steps that its first process applies."""

from __future__ import annotations

from hakoniwa.record import Record
from hakoniwa.steps import devices, identity, mounts, program, root
from hakoniwa.steps.step import HookPoint, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.spec import Container, Mount

# Paths of /proc and /sys that show or change the host; the same set that other container managers hide and fix.
MASKED = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
]
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

_NO_EXEC = ("noexec",)


class Launch(Record):
    """What differs from one start of a container to the next."""

    command: tuple[str, ...] | None  # in place of the file's own
    terminals: tuple[int, ...]  # the streams that become the container's own pty
    capabilities: int  # resolved: a bit mask


def plan(container: Container, launch: Launch) -> list[Step]:
    """All steps, in order."""
    return [
        HookPoint(point="after_fork"),
        *_network(container),
        *_root(container),
        identity.FindAccount(uid=container.uid, gid=container.gid, groups=container.groups, where=container.where),
        *_mounts(container),
        *_hidden(container),
        *_names(container),
        *([devices.OpenTerminal(streams=launch.terminals)] if launch.terminals else []),
        *_redirects(container, inside=False),
        HookPoint(point="before_chroot"),
        root.Chroot() if container.rootfs.legacy_chroot else root.PivotRoot(),
        HookPoint(point="after_chroot"),
        *become_payload(container, launch),
    ]


def become_payload(container: Container, launch: Launch) -> list[Step]:
    """The last part, which an attached command shares: limits, credentials, folder, program."""
    return [
        *([identity.SetLimits(limits=container.limits)] if container.limits else []),
        identity.BecomeUser(
            capabilities=launch.capabilities,
            no_new_privs=container.no_new_privs,
            where=container.capabilities.where,
        ),
        identity.DieWithSupervisor(),
        *_redirects(container, inside=True),
        program.EnterWorkdir(path=container.workdir, where=container.where),
        program.Execute(command=launch.command or container.init_command, init=container.init),
    ]


def _network(container: Container) -> list[Step]:
    if "net" not in container.namespaces:
        return []
    return [identity.RaiseLoopback(), HookPoint(point="after_network_initialized")]


def _root(container: Container) -> list[Step]:
    rootfs, file = container.rootfs, container.file
    common: dict[str, Any] = {"path": rootfs.path, "readonly": rootfs.readonly, "file": file, "where": rootfs.where}
    if rootfs.replacement is not None:
        return [root.CutOff(), root.ReplaceRoot(mount=rootfs.replacement, **common)]
    return [root.CutOff(), root.LayerRoot(**common) if rootfs.layered else root.BindRoot(**common)]


def _mounts(container: Container) -> list[Step]:
    """The independent mounts first, then the mount points as written; one that would cover an independent comes before."""
    independent = _independent(container)
    covered = [target for target, _ in independent]
    before: list[Step] = []
    after: list[Step] = []
    for point in container.mounts:
        covers = any(target == point.target or target.startswith(point.target + "/") for target in covered)
        (before if covers else after).append(_mount_point(point))
    return [*before, *(step for _, step in independent), *after]


def _mount_point(point: Mount) -> Step:
    if point.fs is None:
        return mounts.BindMount(
            source=point.source, target=point.target, readonly=point.readonly, options=point.options, where=point.where
        )
    if point.fs == "devtmpfs":
        return devices.MakeDev(target=point.target, where=point.where)
    return mounts.MakeMount(
        fs=point.fs,
        source=point.source,
        target=point.target,
        readonly=point.readonly,
        options=point.options,
        where=point.where,
    )


def _independent(container: Container) -> list[tuple[str, Step]]:
    """Target and step of each fresh file system. A private /dev comes with its own terminals and shared memory."""
    asked = set(container.independent)
    if "devtmpfs" in asked:
        asked |= {"devpts", "shm"}
    every: dict[str, tuple[str, Step]] = {
        "procfs": ("/proc", mounts.MakeMount(fs="proc", source="proc", target="/proc", options=_NO_EXEC)),
        # Read-only: whoever is root may write to many of its files, whatever capabilities are left.
        "sysfs": ("/sys", mounts.MakeMount(fs="sysfs", source="sysfs", target="/sys", readonly=True, options=_NO_EXEC)),
        "devtmpfs": ("/dev", devices.MakeDev()),
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


def _hidden(container: Container) -> list[Step]:
    return [
        mounts.FixPaths(paths=(*READONLY, *container.readonly_paths)),
        mounts.HidePaths(paths=(*MASKED, *container.masked_paths)),
    ]


def _names(container: Container) -> list[Step]:
    return [identity.SetHostname(name=container.hostname)] if "uts" in container.namespaces else []


def _redirects(container: Container, *, inside: bool) -> list[Step]:
    streams = tuple(stream for stream in container.streams if stream.inside == inside)
    return [program.Redirect(streams=streams)] if streams else []


def environment(container: Container, term: str) -> dict[str, str]:
    """The environment of the payload: nothing of the host's. HOME is added when the account is known."""
    base = {"PATH": program.DEFAULT_PATH, "TERM": term, "container": "hakoniwa"}
    return base | dict(container.environ)
