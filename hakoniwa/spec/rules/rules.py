"""What must hold between the settings of a spec: one small function per rule, all problems reported together.

A rule looks at a complete container (complete.py) and yields a problem with the path of the setting that it is about. Hints
are in the words of container files; `plainly` has those of documents, if the two differ.
"""

from __future__ import annotations

from hakoniwa.errors import nearest
from hakoniwa.spec.records import MOUNT_WORDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from hakoniwa.spec.records import Barn, Container, Sharing


class Problem:
    """Something that is wrong with a container: with the setting at `path`, such as `files.mounts[2].target`."""

    def __init__(self, path: str, message: str, hint: str = "", plainly: str | None = None) -> None:
        self.container = 0  # its number in the barn
        self.path = path
        self.message = message
        self.hint = hint
        self.plainly = hint if plainly is None else plainly


def broken_rules(barn: Barn) -> list[Problem]:
    """Every problem of a barn that is complete."""
    found = []
    for number, container in enumerate(barn.containers):
        for problem in rules_of_one(container):
            problem.container = number
            found.append(problem)
    return [*found, *rules_of_all(barn)]


def rules_of_sharing(shared: Sharing) -> Iterator[Problem]:
    """The problems of what a barn shares. Their paths begin there."""
    for word, setting, name in (
        ("hostname", shared.hostname, "uts"),
        ("time_offset", shared.time_offset, "time"),
        ("uid_map", shared.uid_map, "user"),
        ("gid_map", shared.gid_map, "user"),
    ):
        if setting and name not in shared.namespaces:
            yield Problem(word, f"it needs a shared {name} namespace", f'add "{name}" to the namespaces')
    if bool(shared.uid_map) != bool(shared.gid_map):
        yield Problem("uid_map", "uid_map and gid_map go together")
    for number, kept in enumerate(shared.persisted):
        if kept.name not in shared.namespaces:
            yield Problem(f"persisted[{number}]", f"the {kept.name} namespace is not shared, and cannot be kept")


def rules_of_one(container: Container) -> Iterator[Problem]:
    """The problems of one container, by itself."""
    for rule in _RULES:
        yield from rule(container)


def where_of(container: Container, path: str) -> str:
    """The place at which the setting at `path` was written, as the records on the way to it have it."""
    place = container.where
    value: Any = container
    for part in path.replace("[", ".").replace("]", "").split("."):
        value = value[int(part)] if part.isdecimal() else getattr(value, part, None)
        place = getattr(value, "where", "") or place
    return place


def _rootfs_is_not_the_host(container: Container) -> Iterator[Problem]:
    path = container.files.rootfs.path
    if path == "/" or path.startswith(("/proc/", "/sys/", "/dev/")) or path in ("/proc", "/sys", "/dev"):
        yield Problem(
            "files.rootfs.path",
            f"the rootfs cannot be {path}",
            'name a folder of its own in chroot_to(); strategy "host" gives a copy of the host',
            'name a folder of its own; strategy "host" gives a copy of the host',
        )


def _owner_needs_a_build(container: Container) -> Iterator[Problem]:
    strategy, rootfs = container.build.bootstrap.strategy, container.files.rootfs
    if rootfs.owner_uid is not None and strategy in (None, "host"):
        told = f"rootfs_owner() means nothing to strategy {strategy!r}"
        yield Problem("files.rootfs.owner_uid", told, "it applies to what is built; remove it")
    if (rootfs.owner_uid is None) != (rootfs.owner_gid is None):
        yield Problem("files.rootfs.owner_uid", "an owner of the rootfs needs owner_uid and owner_gid")


def _procfs_needs_pid_namespace(container: Container) -> Iterator[Problem]:
    if "procfs" in container.files.independent and not _has(container, "pid") and container.flavour != "fly":
        yield Problem(
            "files.independent.procfs",
            "a fresh procfs needs a pid namespace of the container's own",
            'drop share("pid"), or bind the host\'s: add_mount_point("/proc", to="/proc")',
            'add "pid" to namespaces.own, or bind the host\'s /proc',
        )


def _has(container: Container, name: str) -> bool:
    """Whether the container is in a namespace other than the host's."""
    return name in container.namespaces.own or any(entered.name == name for entered in container.namespaces.entered)


def _mqueue_needs_ipc(container: Container) -> Iterator[Problem]:
    if "mqueue" in container.files.independent and container.has_user_namespace() and not _has(container, "ipc"):
        told = "message queues in a user namespace need an ipc namespace of the container's own"
        yield Problem("files.independent.mqueue", told, 'drop share("ipc")', 'add "ipc" to namespaces.own')


def _cgroups_need_a_namespace(container: Container) -> Iterator[Problem]:
    if "cgroup" in container.files.independent and not _has(container, "cgroup") and container.flavour != "fly":
        told = "a cgroup file system needs a cgroup namespace of the container's own"
        yield Problem("files.independent.cgroup", told, 'drop share("cgroup")', 'add "cgroup" to namespaces.own')


def _maps_are_whole(container: Container) -> Iterator[Problem]:
    """Both kinds of ids, with an id 0 (who sets the container up), and none twice. `man 7 user_namespaces`."""
    every = {"uid": container.namespaces.uid_map, "gid": container.namespaces.gid_map}
    if any(every.values()) and "user" not in container.namespaces.own:
        told = "ids are mapped in a user namespace, and the container has none of its own"
        yield Problem("namespaces.own", told, 'unshare("user")', 'add "user" to namespaces.own')
    for kind, ranges in every.items():
        other = "gid" if kind == "uid" else "uid"
        if not ranges:
            if every[other]:
                told, hint = f"set_{other}_mapping() stands alone", f"write set_{kind}_mapping() too"
                yield Problem(f"namespaces.{other}_map[0]", told, hint, f"add namespaces.{kind}_map")
            continue
        path = f"namespaces.{kind}_map"
        if not any(one.inside == 0 for one in ranges):
            told = f"no set_{kind}_mapping() maps 0, who sets the container up"
            yield Problem(f"{path}[0]", told, "begin a range with min=0", "begin a range with 0 inside")
        if len(ranges) > _MOST_RANGES:
            told = f"{len(ranges)} {kind} ranges are more than the {_MOST_RANGES} that the kernel takes"
            yield Problem(f"{path}[{len(ranges) - 1}]", told, "join some")
            continue
        for number, one in enumerate(ranges):
            if max(one.inside, one.outside) + one.count > _LAST_ID + 1:
                told = f"{one.count} ids from {max(one.inside, one.outside)} on go beyond the last one, {_LAST_ID}"
                yield Problem(f"{path}[{number}]", told, "map fewer")
            for earlier in ranges[:number]:
                for side in ("inside", "outside"):
                    first, other_first = getattr(one, side), getattr(earlier, side)
                    if first < other_first + earlier.count and other_first < first + one.count:
                        told = f"{kind}s from {max(first, other_first)} on are mapped twice {side}"
                        yield Problem(f"{path}[{number}]", told, f"the other range is at {earlier.where}")


_MOST_RANGES = 340  # UID_GID_MAP_MAX_EXTENTS, linux/user_namespace.h
_LAST_ID = 2**32 - 2


def _assigned_group(container: Container) -> Iterator[Problem]:
    wanted = container.resources.cgroup
    if not wanted.assign_only:
        if wanted.name is not None and "/" in wanted.name:
            told = f"the name of a cgroup that is made must have no '/': {wanted.name}"
            yield Problem("resources.cgroup.name", told, "assign_only = True joins one that exists")
        return
    if wanted.v2 or wanted.memory or wanted.cpus or wanted.pids:
        told = "assign_only is for a v2 group without parameters, and the file sets some"
        yield Problem("resources.cgroup.assign_only", told, "remove one of the two")


def _kept_namespaces_are_own(container: Container) -> Iterator[Problem]:
    for number, kept in enumerate(container.namespaces.persisted):
        if kept.name not in container.namespaces.own:
            told = f"the {kept.name} namespace is not the container's own, and cannot be kept"
            hint = f'unshare("{kept.name}")'
            yield Problem(f"namespaces.persisted[{number}]", told, hint, f'add "{kept.name}" to namespaces.own')


def _namespaces_fit(container: Container) -> Iterator[Problem]:
    """What the words of a container file cannot even say."""
    own, entered = container.namespaces.own, [one.name for one in container.namespaces.entered]
    if not _has(container, "mount"):
        told = "the mount namespace cannot be shared"
        yield Problem("namespaces.own", told, "a container has a root file system", 'add "mount" to namespaces.own')
    for number, name in enumerate(entered):
        if name in own:
            yield Problem(f"namespaces.entered[{number}]", f"the {name} namespace is the container's own, and entered")
    if container.namespaces.time_offset is not None and "time" not in own:
        told = "a time offset needs a time namespace of the container's own"
        yield Problem("namespaces.time_offset", told, 'unshare("time")', 'add "time" to namespaces.own')


def _hostname_needs_uts(container: Container) -> Iterator[Problem]:
    if container.hostname != container.name and "uts" not in container.namespaces.own and container.flavour != "fly":
        told = "a hostname needs a uts namespace of the container's own"
        yield Problem("hostname", told, 'drop share("uts")', 'add "uts" to namespaces.own')


def _fly_shares_all(container: Container) -> Iterator[Problem]:
    """A fly container has a root of its own, and nothing else."""
    if container.flavour != "fly":
        return
    wanted, usual = container.namespaces, 'flavour = "container" has it'
    for name in wanted.own:
        if name != "mount":
            told = f"a fly container has no {name} namespace of its own"
            yield Problem(f"namespaces.own.{name}", told, usual, f'remove "{name}"; the flavour "container" has it')
    for setting in ("entered", "persisted"):
        for number, one in enumerate(getattr(wanted, setting)):
            told = f"a fly container has the {one.name} namespace of the host, and no other"
            what = "enters namespaces" if setting == "entered" else "keeps namespaces"
            yield Problem(f"namespaces.{setting}[{number}]", told, f'flavour = "container" {what}')
    if container.hostname != container.name:
        told = "a fly container has the host's name, and no hostname of its own"
        yield Problem("hostname", told, "remove it")
    if "cgroup" in container.files.independent:
        told = "a cgroup file system needs a cgroup namespace, and a fly container has none of its own"
        yield Problem("files.independent.cgroup", told, "mount /sys/fs/cgroup of the host")


def _mounts_make_sense(container: Container) -> Iterator[Problem]:
    replacement = container.files.rootfs.replacement
    mounts = [(f"files.mounts[{number}]", mount) for number, mount in enumerate(container.files.mounts)]
    for path, mount in [*mounts, *([("files.rootfs.replacement", replacement)] if replacement else [])]:
        for option in mount.options if mount.fs is None else ():
            if option not in MOUNT_WORDS:
                hint = nearest(option, (*MOUNT_WORDS, "ro"))
                yield Problem(path, f"a bind mount has no option {option!r}", hint, nearest(option, MOUNT_WORDS))
        if mount.fs == "overlay" and not mount.options:
            hint, plainly = 'options="lowerdir=...,upperdir=..."', '"options": ["lowerdir=...", "upperdir=..."]'
            yield Problem(path, "an overlay needs options", hint, plainly)
        if mount.fs is None and not mount.source.startswith("/"):
            yield Problem(f"{path}.source", f"the source of a bind mount must be absolute, not {mount.source!r}")
        if mount.fs is not None and mount.idmap:
            told = f"idmap is for bind mounts, and this is a new {mount.fs!r}"
            yield Problem(f"{path}.idmap", told, "remove one of the two")
    if replacement is not None and replacement.target != "/":
        told = f"what takes the place of the rootfs has the target '/', and not {replacement.target!r}"
        yield Problem("files.rootfs.replacement.target", told)


def _nothing_is_said_twice(container: Container) -> Iterator[Problem]:
    """Two mounts on one target: the first would be hidden, which nobody means. The same goes for whatever has a name."""
    cgroup, names = container.resources.cgroup, container.namespaces
    steps = [step.label for step in container.build.provision.steps]  # their names, if they have any
    every: dict[str, tuple[str, list[Any]]] = {
        "files.mounts": ("mount points have the target", [mount.target for mount in container.files.mounts]),
        "process.streams": ("redirections are of stream", [stream.number for stream in container.process.streams]),
        "resources.limits": ("limits are of", [limit.name for limit in container.resources.limits]),
        "resources.cgroup.v1": ("values are of", [parameter.name for parameter in cgroup.v1]),
        "resources.cgroup.v2": ("values are of", [parameter.name for parameter in cgroup.v2]),
        "namespaces.entered": ("namespaces are entered as", [entered.name for entered in names.entered]),
        "namespaces.persisted": ("paths keep the namespace", [kept.name for kept in names.persisted]),
        "build.provision.steps": ("steps of provisioning have the name", steps),
    }
    for path, (what, words) in every.items():
        if len(set(words)) == len(words):
            continue
        seen: dict[object, int] = {}
        for number, word in enumerate(words):
            if word in seen:
                other = where_of(container, f"{path}[{seen[word]}]")
                shown = repr(word) if "name" in what else word
                yield Problem(f"{path}[{number}]", f"two {what} {shown}", f"the other is at {other}")
            seen[word] = number


def _limits_fit(container: Container) -> Iterator[Problem]:
    for number, limit in enumerate(container.resources.limits):
        if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            told = f"the soft limit {limit.soft} of {limit.name} is above the hard limit {limit.hard}"
            yield Problem(f"resources.limits[{number}]", told, "swap them")


def _streams_fit(container: Container) -> Iterator[Problem]:
    for number, stream in enumerate(container.process.streams):
        if not stream.path.startswith("/"):
            yield Problem(f"process.streams[{number}].path", f"a stream leads to an absolute path, not {stream.path!r}")


def _capabilities_fit(container: Container) -> Iterator[Problem]:
    wanted = container.security.capabilities
    for name in wanted.named:
        if name in wanted.dropped:
            told = f"the capability {name} is asked for, and dropped"
            yield Problem("security.capabilities", told, "remove one of the two")


def _filters_fit(container: Container) -> Iterator[Problem]:
    for number, one in enumerate(container.security.seccomp.filters):
        for index, rule in enumerate(one.rules):
            path = f"security.seccomp.filters[{number}].rules[{index}]"
            if (rule.action == "errno") != (rule.errno != 0):
                told = "an errno is what a rule with the action 'errno' has, and no other"
                yield Problem(f"{path}.errno", told)
            for test in rule.tests:
                if test.mask is not None and test.operator != "==":
                    yield Problem(path, f"a mask goes with the operator '==', not with {test.operator!r}")


def _bootstrap_fits(container: Container) -> Iterator[Problem]:
    bootstrap, steps = container.build.bootstrap, container.build.provision.steps
    if bootstrap.strategy is not None or bootstrap.settings or bootstrap.cache is not None or steps:
        from hakoniwa.spec.rules.buildrules import broken_build_rules

        for path, message, hint, plainly in broken_build_rules(container.build):
            yield Problem(path, message, hint, plainly)


def _network_fits(container: Container) -> Iterator[Problem]:
    if container.network is not None:
        from hakoniwa.spec.rules.networkrules import broken_network_rules

        for path, message, hint in broken_network_rules(container):
            yield Problem(path, message, hint)


_RULES = (
    _rootfs_is_not_the_host,
    _owner_needs_a_build,
    _procfs_needs_pid_namespace,
    _hostname_needs_uts,
    _fly_shares_all,
    _mounts_make_sense,
    _nothing_is_said_twice,
    _mqueue_needs_ipc,
    _cgroups_need_a_namespace,
    _maps_are_whole,
    _namespaces_fit,
    _assigned_group,
    _kept_namespaces_are_own,
    _limits_fit,
    _streams_fit,
    _capabilities_fit,
    _filters_fit,
    _bootstrap_fits,
    _network_fits,
)


def rules_of_all(barn: Barn) -> Iterator[Problem]:
    """What the containers of a barn cannot have in common."""
    names: dict[str, int] = {}
    pid_files: dict[str, str] = {}
    layers: dict[str, str] = {}
    for number, container in enumerate(barn.containers):
        found = []
        path, rootfs, name = container.container_pid_file, container.files.rootfs, container.name
        if name in names:
            other = barn.containers[names[name]].place("name")
            found.append(Problem("name", f"two containers have the name {name!r}", f"the other is at {other}"))
        if path is not None and path in pid_files:
            told = f"containers {pid_files[path]!r} and {name!r} have one pid file, {path}"
            found.append(Problem("container_pid_file", told, "set container_pid_file in each"))
        if rootfs.layered and rootfs.path in layers:
            told = f"containers {layers[rootfs.path]!r} and {name!r} have one layer, {rootfs.path}"
            hint = "it serves one at a time: chroot_to() another folder in each"
            found.append(Problem("files.rootfs", told, hint, "it serves one at a time: name another path in each"))
        names.setdefault(name, number)
        pid_files.setdefault(path or "", name)
        layers.setdefault(rootfs.path, name)
        for problem in found:
            problem.container = number
            yield problem
    if any(container.network is not None for container in barn.containers):
        from hakoniwa.spec.rules.networkrules import broken_rules_of_all

        for number, path, message, hint in broken_rules_of_all(barn):
            of_network = Problem(path, message, hint)
            of_network.container = number
            yield of_network
