"""What must hold between the settings of a container: one small function per rule, all problems reported together."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.dsl.container import ContainerBuilder
    from hakoniwa.spec import Container


def validate(container: Container, builder: ContainerBuilder) -> None:
    """Note every broken rule in the reading of `builder`."""
    for rule in (
        _rootfs_is_not_the_host,
        _owner_needs_a_build,
        _procfs_needs_pid_namespace,
        _hostname_needs_uts,
        _mount_targets,
        _no_mount_of_mount,
    ):
        rule(container, builder)


def _rootfs_is_not_the_host(container: Container, builder: ContainerBuilder) -> None:
    path = container.rootfs.path
    if path == "/" or path.startswith(("/proc/", "/sys/", "/dev/")) or path in ("/proc", "/sys", "/dev"):
        builder._reading.problem(
            f"the rootfs cannot be {path}",
            'name a folder of its own in chroot_to(); strategy "host" gives a copy of the host',
            container.rootfs.where,
        )


def _owner_needs_a_build(container: Container, builder: ContainerBuilder) -> None:
    strategy = container.bootstrap.strategy
    if container.rootfs.owner_uid is not None and strategy in (None, "host"):
        builder._reading.problem(
            f"rootfs_owner() means nothing to strategy {strategy!r}",
            "it applies to what is built; remove it",
            builder._place("owner"),
        )


def _procfs_needs_pid_namespace(container: Container, builder: ContainerBuilder) -> None:
    if "procfs" in container.independent and "pid" not in container.namespaces:
        builder._reading.problem(
            "a fresh procfs needs a pid namespace of the container's own",
            'drop share("pid"), or bind the host\'s: add_mount_point("/proc", to="/proc")',
            builder._place("independent procfs"),
        )


def _hostname_needs_uts(container: Container, builder: ContainerBuilder) -> None:
    if builder.hostname is not None and "uts" not in container.namespaces:
        builder._reading.problem(
            "a hostname needs a uts namespace of the container's own", 'drop share("uts")', builder._place("hostname")
        )


def _mount_targets(container: Container, builder: ContainerBuilder) -> None:
    for mount in container.mounts:
        if mount.fs == "overlay" and not mount.options:
            builder._reading.problem("an overlay needs options", 'options="lowerdir=...,upperdir=..."', mount.where)


def _no_mount_of_mount(container: Container, builder: ContainerBuilder) -> None:
    """Two mounts on one target: the first would be hidden, which nobody means."""
    seen: dict[str, str] = {}
    for mount in container.mounts:
        if mount.target in seen:
            hint = f"the other is at {seen[mount.target]}"
            builder._reading.problem(f"two mount points have the target {mount.target}", hint, mount.where)
        seen[mount.target] = mount.where


def validate_together(containers: list[Container], builder: ContainerBuilder) -> None:
    """Note what the containers of a barn cannot have in common."""
    pid_files: dict[str, str] = {}
    layers: dict[str, str] = {}
    for container in containers:
        path, rootfs = container.container_pid_file, container.rootfs
        if path is not None and path in pid_files:
            told = f"containers {pid_files[path]!r} and {container.name!r} have one pid file, {path}"
            builder._reading.problem(told, "set container_pid_file in each", container.where)
        if rootfs.layered and rootfs.path in layers:
            told = f"containers {layers[rootfs.path]!r} and {container.name!r} have one layer, {rootfs.path}"
            hint = "it serves one at a time: chroot_to() another folder in each"
            builder._reading.problem(told, hint, rootfs.where)
        pid_files.setdefault(path or "", container.name)
        layers.setdefault(rootfs.path, container.name)
