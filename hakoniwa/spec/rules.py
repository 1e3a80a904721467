"""What must hold between the settings of a container: one small function per rule, all problems reported together."""

from __future__ import annotations

from hakoniwa.errors import nearest
from hakoniwa.spec.records import MOUNT_WORDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.haco.container import ContainerBuilder
    from hakoniwa.spec.records import Container


def validate(container: Container, builder: ContainerBuilder) -> None:
    """Note every broken rule in the reading of `builder`."""
    for rule in (
        _rootfs_is_not_the_host,
        _owner_needs_a_build,
        _procfs_needs_pid_namespace,
        _hostname_needs_uts,
        _mount_targets,
        _no_mount_of_mount,
        _mqueue_needs_ipc,
        _cgroups_need_a_namespace,
        _maps_are_whole,
        _assigned_group,
        _kept_namespaces_are_own,
    ):
        rule(container, builder)


def _rootfs_is_not_the_host(container: Container, builder: ContainerBuilder) -> None:
    path = container.files.rootfs.path
    if path == "/" or path.startswith(("/proc/", "/sys/", "/dev/")) or path in ("/proc", "/sys", "/dev"):
        builder._reading.problem(
            f"the rootfs cannot be {path}",
            'name a folder of its own in chroot_to(); strategy "host" gives a copy of the host',
            container.files.rootfs.where,
        )


def _owner_needs_a_build(container: Container, builder: ContainerBuilder) -> None:
    strategy = container.build.bootstrap.strategy
    if container.files.rootfs.owner_uid is not None and strategy in (None, "host"):
        builder._reading.problem(
            f"rootfs_owner() means nothing to strategy {strategy!r}",
            "it applies to what is built; remove it",
            builder._place("owner"),
        )


def _procfs_needs_pid_namespace(container: Container, builder: ContainerBuilder) -> None:
    if "procfs" in container.files.independent and not _has(container, "pid"):
        builder._reading.problem(
            "a fresh procfs needs a pid namespace of the container's own",
            'drop share("pid"), or bind the host\'s: add_mount_point("/proc", to="/proc")',
            builder._place("independent procfs", "lxcfs_root"),
        )


def _has(container: Container, name: str) -> bool:
    """Whether the container is in a namespace other than the host's."""
    return name in container.namespaces.own or any(entered.name == name for entered in container.namespaces.entered)


def _mqueue_needs_ipc(container: Container, builder: ContainerBuilder) -> None:
    if "mqueue" in container.files.independent and container.has_user_namespace() and not _has(container, "ipc"):
        builder._reading.problem(
            "message queues in a user namespace need an ipc namespace of the container's own",
            'drop share("ipc")',
            builder._place("independent mqueue"),
        )


def _cgroups_need_a_namespace(container: Container, builder: ContainerBuilder) -> None:
    if "cgroup" in container.files.independent and not _has(container, "cgroup"):
        builder._reading.problem(
            "a cgroup file system needs a cgroup namespace of the container's own",
            'drop share("cgroup")',
            builder._place("independent cgroup"),
        )


def _maps_are_whole(container: Container, builder: ContainerBuilder) -> None:
    """Both kinds of ids, with an id 0 (who sets the container up), and none twice. `man 7 user_namespaces`."""
    every = {"uid": container.namespaces.uid_map, "gid": container.namespaces.gid_map}
    for kind, ranges in every.items():
        other = "gid" if kind == "uid" else "uid"
        if not ranges:
            if every[other]:
                told = f"set_{other}_mapping() stands alone"
                builder._reading.problem(told, f"write set_{kind}_mapping() too", every[other][0].where)
            continue
        if not any(one.inside == 0 for one in ranges):
            told = f"no set_{kind}_mapping() maps 0, who sets the container up"
            builder._reading.problem(told, "begin a range with min=0", ranges[0].where)
        if len(ranges) > _MOST_RANGES:
            told = f"{len(ranges)} {kind} ranges are more than the {_MOST_RANGES} that the kernel takes"
            builder._reading.problem(told, "join some", ranges[-1].where)
        for number, one in enumerate(ranges):
            for earlier in ranges[:number]:
                for side in ("inside", "outside"):
                    first, other_first = getattr(one, side), getattr(earlier, side)
                    if first < other_first + earlier.count and other_first < first + one.count:
                        told = f"{kind}s from {max(first, other_first)} on are mapped twice {side}"
                        builder._reading.problem(told, f"the other range is at {earlier.where}", one.where)


_MOST_RANGES = 340  # UID_GID_MAP_MAX_EXTENTS, linux/user_namespace.h


def _assigned_group(container: Container, builder: ContainerBuilder) -> None:
    wanted = container.resources.cgroup
    if not wanted.assign_only:
        if wanted.name is not None and "/" in wanted.name:
            told = f"the name of a cgroup that is made must have no '/': {wanted.name}"
            builder._reading.problem(told, "assign_only = True joins one that exists", builder.cgroup._place("name"))
        return
    if wanted.v2 or wanted.memory or wanted.cpus or wanted.pids:
        told = "assign_only is for a v2 group without parameters, and the file sets some"
        builder._reading.problem(told, "remove one of the two", wanted.where)


def _kept_namespaces_are_own(container: Container, builder: ContainerBuilder) -> None:
    for kept in container.namespaces.persisted:
        if kept.name not in container.namespaces.own:
            told = f"the {kept.name} namespace is not the container's own, and cannot be kept"
            builder._reading.problem(told, f'unshare("{kept.name}")', kept.where)


def _hostname_needs_uts(container: Container, builder: ContainerBuilder) -> None:
    if builder.hostname is not None and "uts" not in container.namespaces.own:
        builder._reading.problem(
            "a hostname needs a uts namespace of the container's own", 'drop share("uts")', builder._place("hostname")
        )


def _mount_targets(container: Container, builder: ContainerBuilder) -> None:
    replacement = container.files.rootfs.replacement
    for mount in (*container.files.mounts, *([replacement] if replacement else [])):
        for option in mount.options if mount.fs is None else ():
            if option not in MOUNT_WORDS:
                told = f"a bind mount has no option {option!r}"
                builder._reading.problem(told, nearest(option, (*MOUNT_WORDS, "ro")), mount.where)
        if mount.fs == "overlay" and not mount.options:
            builder._reading.problem("an overlay needs options", 'options="lowerdir=...,upperdir=..."', mount.where)


def _no_mount_of_mount(container: Container, builder: ContainerBuilder) -> None:
    """Two mounts on one target: the first would be hidden, which nobody means."""
    seen: dict[str, str] = {}
    for mount in container.files.mounts:
        if mount.target in seen:
            hint = f"the other is at {seen[mount.target]}"
            builder._reading.problem(f"two mount points have the target {mount.target}", hint, mount.where)
        seen[mount.target] = mount.where


def validate_together(containers: list[Container], builder: ContainerBuilder) -> None:
    """Note what the containers of a barn cannot have in common."""
    pid_files: dict[str, str] = {}
    layers: dict[str, str] = {}
    for container in containers:
        path, rootfs = container.container_pid_file, container.files.rootfs
        if path is not None and path in pid_files:
            told = f"containers {pid_files[path]!r} and {container.name!r} have one pid file, {path}"
            builder._reading.problem(told, "set container_pid_file in each", container.place("container_pid_file"))
        if rootfs.layered and rootfs.path in layers:
            told = f"containers {layers[rootfs.path]!r} and {container.name!r} have one layer, {rootfs.path}"
            hint = "it serves one at a time: chroot_to() another folder in each"
            builder._reading.problem(told, hint, rootfs.where)
        pid_files.setdefault(path or "", container.name)
        layers.setdefault(rootfs.path, container.name)
