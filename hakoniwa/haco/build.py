"""From builders to the frozen description, once the block has ended."""

from __future__ import annotations

import os

from hakoniwa import state
from hakoniwa.haco.cgroup import LIMITED
from hakoniwa.haco.container import ContainerBuilder, WrittenMount
from hakoniwa.haco.section import Reading, Section
from hakoniwa.places import lib_dir
from hakoniwa.spec import checks
from hakoniwa.spec.complete import complete
from hakoniwa.spec.records import (
    BARN_POINTS,
    INDEPENDENT_MOUNTS,
    NO_PROVISION,
    Barn,
    Bootstrap,
    Build,
    Container,
    Files,
    Hooks,
    Mount,
    Namespaces,
    Process,
    Provision,
    Resources,
    Rootfs,
    Security,
)
from hakoniwa.spec.rules import broken_rules, where_of
from hakoniwa.statefile import Damaged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.spec.rules import Problem


def build_barn(builder: ContainerBuilder) -> Barn:
    """The barn of a builder. What is wrong is noted in its reading."""
    reading = builder._reading
    for word, where in reading.unused:
        reading.problem(f"{word} registers nothing", "write it as @decorator above a function", where)
    members = builder._children or [builder]
    barn_name = None if builder._children else builder.name
    barn_name = barn_name or _default_name(reading, members)
    containers = []
    for member in members:
        if member.name is None and builder._children:
            reading.problem("a container of a barn has no name", "set its name", member._place("name"))
            continue
        name = member.name or barn_name
        containers.append(_build_container(member, name))
    barn = complete(
        Barn(
            name=barn_name,
            file=reading.file,
            daemonize=builder._flags["daemonize"] or any(member._flags["daemonize"] for member in members),
            log_level=builder.log_level,
            containers=tuple(containers),
            hooks=tuple(hook for hook in builder._hooks if hook.point in BARN_POINTS),
            real_id_check=builder._flags.get("real_id"),
        )
    )
    built = [member for member in members if member.name is not None or not builder._children]
    for problem in broken_rules(barn):
        reading.problem(problem.message, problem.hint, _line_of(problem, barn, built))
    return barn


# Settings by their paths in a container, with the section that has written them, and by which word.
_WRITTEN = {
    "hostname": ("", "hostname"),
    "flavour": ("", "flavour"),
    "container_pid_file": ("", "container_pid_file"),
    "files.rootfs.owner_uid": ("", "owner"),
    "resources.cgroup.name": ("cgroup", "name"),
    **{f"files.independent.{name}": ("", f"independent {name}") for name in INDEPENDENT_MOUNTS},
}


def _line_of(problem: Problem, barn: Barn, members: list[ContainerBuilder]) -> str:
    """The line of the file that a problem is about."""
    member, container = members[problem.container], barn.containers[problem.container]
    path, _, setting = problem.path.partition("build.bootstrap.settings.")
    if setting:
        bootstrap: Section = member.bootstrap
        return bootstrap._place(setting)
    _, _, namespace = path.partition("namespaces.own.")
    if namespace:
        own: dict[str, str] = member.namespace._own
        return own.get(namespace, container.where)
    section, word = _WRITTEN.get(path, ("", ""))
    if word == "independent procfs":
        return member._place(word, "lxcfs_root")
    if word:
        written: Section = getattr(member, section) if section else member
        return written._place(word)
    return where_of(container, path)


def _default_name(reading: Reading, members: list[ContainerBuilder]) -> str:
    """What a barn is called where its file does not say: by the folder and by the file's stem."""
    folder, stem = name_parts(reading.file)
    if members[0]._parent is None:
        try:
            checks.name(stem)
        except checks.Wrong as wrong:
            told = f"the name of the file, {stem!r}, cannot name the container: it must be {wrong}"
            reading.problem(told, "set config.name")
            return "unnamed"
    named = [member.name for member in members if member.name] or [stem]
    return stem if any(_is_of(reading.file, name, stem) for name in named) else joined_name(folder, stem)


def name_parts(file: str) -> tuple[str, str]:
    """The name of a file's folder, as far as a name can have it, and the file's stem."""
    folder, base = os.path.split(file)
    return checks.name_part(os.path.basename(folder)), base.removesuffix(".py").removesuffix(".haco")


def joined_name(folder: str, stem: str) -> str:
    """`shop-dev` for `shop/dev.haco.py`, `shop` for `shop/shop.haco.py`."""
    room = checks.LONGEST_NAME - 1 - len(stem)
    return stem if folder in ("", stem) or room < 1 else f"{folder[:room]}-{stem}"


def _is_of(file: str, name: str, stem: str) -> bool:
    """Whether a file made a container when its barn was still called by the stem alone."""
    if not state.is_known(name):
        return False
    try:
        known = state.known(name)
    except Damaged:
        return False
    return known is not None and (known.file, known.barn) == (file, stem)


def _build_container(builder: ContainerBuilder, name: str) -> Container:
    flags = builder._flags
    path = flags.get("chroot_to") or os.path.join(lib_dir(), name)
    if flags["network_etc"]:
        _check_network_root(builder, path)
    return Container(
        name=name,
        flavour=builder.flavour,
        hostname=builder.hostname or "",
        process=_build_process(builder),
        namespaces=_build_namespaces(builder),
        files=Files(
            rootfs=_build_rootfs(builder, path),
            independent=tuple(flags["independent"]),
            mounts=tuple(_build_mount(mount, path) for mount in builder._mounts),
            network_etc=flags["network_etc"],
            masked_paths=tuple(builder.filesystem._masked),
            readonly_paths=tuple(builder.filesystem._readonly),
            lxcfs_root=builder._beside(builder.lxcfs_root) if builder.lxcfs_root else None,
        ),
        resources=Resources(
            limits=tuple(builder.resource._limits.values()),
            cgroup=builder.cgroup._build(),
            scheduling=builder.resource._scheduling(),
        ),
        security=Security(
            capabilities=builder.capabilities._build(),
            no_new_privs=builder.no_new_privs,
            seccomp=builder.seccomp._build(_seccomp_profile(builder)),
            apparmor=builder.apparmor,
        ),
        build=Build(bootstrap=_build_bootstrap(builder), provision=_build_provision(builder)),
        hooks=Hooks(
            general=tuple(hook for hook in builder._hooks if hook.point not in BARN_POINTS),
            background=tuple(builder._background_hooks),
        ),
        container_pid_file=builder._beside(builder.container_pid_file) if builder.container_pid_file else None,
        metadata=checks.deep_copy(dict(builder.metadata)),
        log_level=builder.log_level,
        reloadable=tuple(flags["reloadable"]),
        where=builder._place("name", "chroot_to"),
        places=_places(builder),
    )


def _build_process(builder: ContainerBuilder) -> Process:
    return Process(
        command=builder.init_command,
        init=builder.init,
        workdir=builder.workdir,
        environ=dict(builder.environ),
        uid=builder.uid,
        gid=builder.gid,
        groups=builder.groups,
        streams=tuple(
            stream if stream.inside else stream.replace(path=builder._beside(stream.path))
            for stream in builder.command._streams.values()
        ),
    )


def _build_namespaces(builder: ContainerBuilder) -> Namespaces:
    section = builder.namespace
    return Namespaces(
        own=_own_namespaces(builder),
        entered=tuple(x.replace(path=builder._beside(x.path)) for x in section._entered.values()),
        persisted=tuple(x.replace(path=builder._beside(x.path)) for x in section._persisted.values()),
        uid_map=tuple(section._maps["uid"]),
        gid_map=tuple(section._maps["gid"]),
        time_offset=section._offset,
    )


# Settings of which a start may find that they cannot be carried out.
_SINGLE = (
    "name",
    "flavour",
    "init_command",
    "init",
    "workdir",
    "uid",
    "gid",
    "groups",
    "container_pid_file",
    "lxcfs_root",
    "apparmor",
    "network_etc",
)


def _places(builder: ContainerBuilder) -> dict[str, str]:
    own = builder.namespace._own
    return {
        **_lines(builder, *_SINGLE),
        **_lines(builder.resource, "nice", "sched", "oom_score_adj"),
        **_lines(builder.cgroup, *LIMITED),
        **_lines(builder.namespace, "pid"),
        **({"cgroup": own["cgroup"]} if "cgroup" in own else {}),
        **builder.capabilities._places,
    }


def _lines(section: Section, *settings: str) -> dict[str, str]:
    """Where these settings were written, as far as they were."""
    return {setting: section._places[setting] for setting in settings if setting in section._places}


def _own_namespaces(builder: ContainerBuilder) -> tuple[str, ...]:
    """Those that the file asks for; a cgroup file system of the container's own shows only what lies in a namespace."""
    own = builder.namespace._own
    if builder.flavour == "fly":  # nothing is its own unless the file says so, which a rule then tells
        return tuple(name for name, place in own.items() if name == "mount" or place != builder._reading.shown)
    asked = "cgroup" in builder._flags["independent"]
    implied = asked and "cgroup" not in (*own, *builder.namespace._entered, *builder.namespace._places)
    return (*own, "cgroup") if implied else tuple(own)


def _seccomp_profile(builder: ContainerBuilder) -> str | None:
    """The default profile by its name, another by its path."""
    profile: str | None = builder.seccomp.profile
    return profile if profile in (None, "default") else builder._beside(profile)


def _build_rootfs(builder: ContainerBuilder, path: str) -> Rootfs:
    uid, gid = builder._flags["owner"]
    return Rootfs(
        path=path,
        readonly=builder.rootfs.readonly,
        owner_uid=uid,
        owner_gid=gid,
        legacy_chroot=builder.filesystem.use_legacy_chroot,
        where=builder._place("chroot_to"),
    )


def _build_mount(mount: WrittenMount, rootfs: str) -> Mount:
    readonly = mount.readonly or "ro" in mount.options
    options = tuple(option for option in mount.options if option not in ("ro", "rw", "bind", "rbind"))
    return Mount(
        source=mount.source,
        target=_inside(mount.target, rootfs),
        fs=mount.fs,
        readonly=readonly,
        options=options,
        idmap=mount.idmap,
        unguarded=mount.unguarded,
        where=mount.where,
    )


def _inside(target: str, rootfs: str) -> str:
    """`target` without the path of the rootfs, which haconiwa's files write: once, by whole components."""
    target = os.path.normpath(target)
    if rootfs != "/" and (target == rootfs or target.startswith(rootfs + "/")):
        return target[len(rootfs) :] or "/"
    return target


def _check_network_root(builder: ContainerBuilder, rootfs: str) -> None:
    """haconiwa's files name the rootfs: no other can be meant."""
    named = builder._flags["network_etc_root"]
    if named is not None and builder._beside(named) != rootfs:
        told = f"config.mount_network_etc() is about the rootfs {rootfs}, and {named} is another folder"
        builder._reading.problem(told, "leave it out; host_root= is where the files are", builder._place("network_etc"))


def _build_bootstrap(builder: ContainerBuilder) -> Bootstrap:
    section: Any = builder.bootstrap
    return Bootstrap(
        strategy=section.strategy,
        settings=section._settings(builder._beside),
        cache=section.cache,
        postprocess=tuple(section._after),
        skip=section.skip,
        where=section._place("strategy"),
    )


def _build_provision(builder: ContainerBuilder) -> Provision:
    section = builder.__dict__.get("provision")
    if section is None:
        return NO_PROVISION
    steps = [step.replace(source=builder._beside(step.source)) if step.source else step for step in section._steps]
    return Provision(steps=tuple(steps), skip=section.skip)
