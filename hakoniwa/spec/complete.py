"""What follows from the settings of a spec: made once, when its front end has said all that it has to say."""

from __future__ import annotations

import os

from hakoniwa.places import lib_dir
from hakoniwa.spec.records import INDEPENDENT_MOUNTS, Mount, Namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from hakoniwa.spec.networks import Network
    from hakoniwa.spec.records import Barn, Build, Container, Files

NETWORK_FILES = ("resolv.conf", "hosts")


def complete(barn: Barn) -> Barn:
    """A barn with everything that its settings entail. To complete it again changes nothing."""
    members = barn.containers
    name = barn.name or (members[0].name if members else "")
    several = len(members) > 1 or any(one.name != name for one in members)
    siblings = mark_of([one.name for one in members]) if several else ""
    own = {"barn": name, "file": barn.file, "origin": barn.origin, "siblings": siblings}
    return barn.replace(name=name, containers=tuple(complete_container(one.replace(**own)) for one in members))


def mark_of(names: Iterable[str]) -> str:
    """What tells a set of names from others, and is as short for a thousand of them."""
    from zlib import crc32

    every = sorted({*names})
    return f"{len(every)}:{crc32(chr(10).join(every).encode()):08x}"


def complete_container(container: Container) -> Container:
    """The same for one container, by itself."""
    return container.replace(
        hostname=container.hostname or container.name,
        namespaces=_complete_namespaces(container),
        files=_complete_files(container),
        network=_complete_network(container),
        build=_complete_build(container.build),
    )


def _complete_namespaces(container: Container) -> Namespaces:
    """A fly container has nothing but its mounts to itself, unless something else was said: then a rule tells."""
    wanted = container.namespaces
    if container.flavour == "fly":
        return wanted.replace(own=("mount",)) if wanted.own is Namespaces.own else wanted
    if container.network is None or container.network.share_with is not None:
        return wanted
    settled = (*wanted.own, *(one.name for one in wanted.entered))
    return wanted if "net" in settled else wanted.replace(own=(*wanted.own, "net"))


def _complete_network(container: Container) -> Network | None:
    """A network has an interface on the default bridge, unless it has others, or nobody is to be reached."""
    network = container.network
    if network is None or network.interfaces or network.share_with is not None:
        return network
    if network.policy is not None and network.policy.default == "none" and not network.published:
        return network
    from hakoniwa.spec.networks import Interface

    return network.replace(interfaces=(Interface(where=network.where),))


def _complete_files(container: Container) -> Files:
    files = container.files
    path = files.rootfs.path or os.path.join(lib_dir(), container.name)
    mounts = [*files.mounts, *_network_etc(container)]
    readonly, replacement = files.rootfs.readonly, files.rootfs.replacement
    for mount in [mount for mount in mounts if mount.target == "/"]:  # what is mounted on the root takes its place
        readonly = readonly or mount.readonly
        if mount.fs is not None or mount.source != path:
            replacement = mount
    implied = files.lxcfs_root is not None and all(mount.target != "/proc" for mount in mounts)
    named = (*files.independent, "procfs") if implied else files.independent
    layered = container.build.bootstrap.strategy == "host"
    return files.replace(
        rootfs=files.rootfs.replace(path=path, readonly=readonly, replacement=replacement, layered=layered),
        mounts=tuple(mount for mount in mounts if mount.target != "/"),
        independent=tuple(word for word in INDEPENDENT_MOUNTS if word in named),
    )


def _network_etc(container: Container) -> list[Mount]:
    """The mounts that `network_etc` stands for, unless they are there."""
    folder = container.files.network_etc
    if folder is None:
        return []
    known = {(mount.source, mount.target, mount.readonly) for mount in container.files.mounts}
    pairs = [(f"{folder}/{name}", f"/etc/{name}") for name in NETWORK_FILES]
    return [
        Mount(source=source, target=target, readonly=True, where=container.place("network_etc"))
        for source, target in pairs
        if (source, target, True) not in known
    ]


def _complete_build(build: Build) -> Build:
    steps = build.provision.steps
    if not steps:
        return build
    labelled = tuple(step.replace(label=step.name or f"step {number}") for number, step in enumerate(steps, 1))
    return build.replace(provision=build.provision.replace(steps=labelled))
