"""From builders to the frozen description, once the block has ended."""

from __future__ import annotations

import os

from hakoniwa.haco.container import ContainerBuilder, WrittenMount
from hakoniwa.haco.reading import Reading
from hakoniwa.known import state
from hakoniwa.known.statefile import Damaged
from hakoniwa.places import lib_dir
from hakoniwa.spec.complete import complete
from hakoniwa.spec.held import AS_THE_CALLER, NO_CGROUP, Capabilities, Process, Resources, Seccomp, Security
from hakoniwa.spec.records import (
    BARN_POINTS,
    INDEPENDENT_MOUNTS,
    NO_PROVISION,
    OWN_NAMESPACES,
    Barn,
    Bootstrap,
    Build,
    Container,
    Files,
    Hooks,
    Mount,
    Namespaces,
    Provision,
    Rootfs,
)
from hakoniwa.spec.rules import checks
from hakoniwa.spec.rules.rules import broken_rules, where_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.spec.rules.rules import Problem


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


# Settings by their paths in a container, if they have another word, or are no record with a line.
_WRITTEN = {
    "hostname": ("hostname",),
    "flavour": ("flavour",),
    "container_pid_file": ("container_pid_file",),
    "files.rootfs.owner_uid": ("owner",),
    **{f"files.independent.{name}": (f"independent {name}",) for name in INDEPENDENT_MOUNTS},
    "files.independent.procfs": ("independent procfs", "lxcfs_root"),
}


def _line_of(problem: Problem, barn: Barn, members: list[ContainerBuilder]) -> str:
    """The line of the file that a problem is about."""
    member, container = members[problem.container], barn.containers[problem.container]
    if problem.path.startswith("network.") and (section := member._made("network")):
        return section._line(problem.path.removeprefix("network.")) or where_of(container, problem.path)
    path, _, setting = problem.path.partition("build.bootstrap.settings.")
    if setting:
        return member.bootstrap._place(setting)
    if path == "resources.cgroup.name":
        return member.cgroup._place("name")
    _, _, namespace = path.partition("namespaces.own.")
    if namespace:
        own: dict[str, str] = member.namespace._own
        return own.get(namespace, container.where)
    words = _WRITTEN.get(path)
    return member._place(*words) if words else where_of(container, path)


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
    joined = joined_name(folder, stem)
    if joined != stem:
        reading.asked += named
    return stem if any(_is_of(reading.file, name, stem) for name in named) else joined


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
    flags, shown, made = builder._flags, builder._reading.shown, builder._made
    values: dict[str, Any] = {**builder._defaults, **builder._values}
    path = flags.get("chroot_to") or os.path.join(lib_dir(), name)
    if flags["network_etc"]:
        _check_network_root(builder, path)
    resource, capabilities, seccomp, cgroup = (made(word) for word in ("resource", "capabilities", "seccomp", "cgroup"))
    network = made("network")
    return Container(
        name=name,
        flavour=values["flavour"],
        hostname=values.get("hostname") or "",
        process=_build_process(builder, values),
        namespaces=_build_namespaces(builder),
        files=_build_files(builder, values, path),
        resources=Resources(
            limits=tuple(resource._limits.values()) if resource else (),
            cgroup=cgroup._build() if cgroup else NO_CGROUP,
            scheduling=resource._scheduling() if resource else AS_THE_CALLER,
        ),
        security=Security(
            capabilities=capabilities._build() if capabilities else Capabilities(where=shown),
            no_new_privs=values["no_new_privs"],
            seccomp=seccomp._build() if seccomp else Seccomp(where=shown),
            apparmor=values.get("apparmor"),
        ),
        build=Build(bootstrap=_build_bootstrap(builder), provision=_build_provision(builder)),
        hooks=Hooks(
            general=tuple(hook for hook in builder._hooks if hook.point not in BARN_POINTS),
            background=tuple(builder._background_hooks),
        ),
        network=network._build() if network else None,
        container_pid_file=_beside(builder, values.get("container_pid_file")),
        metadata=checks.deep_copy(dict(builder.metadata)),
        log_level=values["log_level"],
        reloadable=tuple(flags["reloadable"]),
        where=builder._place("name", "chroot_to"),
        places=_places(builder),
    )


def _beside(builder: ContainerBuilder, path: str | None) -> str | None:
    return None if path is None else builder._beside(path)


def _build_files(builder: ContainerBuilder, values: dict[str, Any], path: str) -> Files:
    flags, rootfs, filesystem = builder._flags, builder._made("rootfs"), builder._made("filesystem")
    uid, gid = flags["owner"]
    return Files(
        rootfs=Rootfs(
            path=path,
            readonly=rootfs.readonly if rootfs else False,
            owner_uid=uid,
            owner_gid=gid,
            legacy_chroot=filesystem.use_legacy_chroot if filesystem else False,
            where=builder._place("chroot_to"),
        ),
        independent=tuple(flags["independent"]),
        mounts=tuple(_build_mount(mount, path) for mount in builder._mounts),
        network_etc=flags["network_etc"],
        masked_paths=tuple(filesystem._masked) if filesystem else (),
        readonly_paths=tuple(filesystem._readonly) if filesystem else (),
        lxcfs_root=_beside(builder, values.get("lxcfs_root")),
    )


def _build_process(builder: ContainerBuilder, values: dict[str, Any]) -> Process:
    command = builder._made("command")
    streams = command._streams.values() if command else ()
    return Process(
        command=values.get("init_command"),
        init=values.get("init"),
        workdir=values["workdir"],
        environ=dict(builder.environ),
        uid=values.get("uid"),
        gid=values.get("gid"),
        groups=values["groups"],
        streams=tuple(one if one.inside else one.replace(path=builder._beside(one.path)) for one in streams),
    )


def _build_namespaces(builder: ContainerBuilder) -> Namespaces:
    """Those that the file asks for; a cgroup file system of the container's own shows only what lies in a namespace."""
    section = builder._made("namespace")
    found: Namespaces = section._build() if section else OWN_NAMESPACES
    if section and builder._values.get("flavour") == "fly":
        # Nothing is its own unless the file says so, which a rule then tells.
        said = [name for name, line in section._own.items() if name == "mount" or line != builder._reading.shown]
        return found.replace(own=tuple(said))
    asked = "cgroup" in builder._flags["independent"]
    settled = (*found.own, *(one.name for one in found.entered), *(section._places if section else ()))
    return found.replace(own=(*found.own, "cgroup")) if asked and "cgroup" not in settled else found


def _places(builder: ContainerBuilder) -> dict[str, str]:
    """The lines of settings that are no records of their own: a start may find that they cannot be carried out."""
    found = {word: line for word, line in builder._places.items() if not word.startswith("independent ")}
    for word in ("resource", "cgroup", "capabilities"):
        if section := builder._made(word):
            found |= {setting: line for setting, line in section._places.items() if setting != "name"}
    if namespace := builder._made("namespace"):
        lines = {"pid": namespace._places.get("pid"), "cgroup": namespace._own.get("cgroup")}
        found |= {word: line for word, line in lines.items() if line is not None}
    return found


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
    section = builder._made("bootstrap")
    if section is None:
        return Bootstrap(where=builder._reading.shown)
    return Bootstrap(
        strategy=section.strategy,
        settings=section._settings(builder._beside),
        cache=section.cache,
        postprocess=tuple(section._after),
        skip=section.skip,
        where=section._place("strategy"),
    )


def _build_provision(builder: ContainerBuilder) -> Provision:
    section = builder._made("provision")
    if section is None:
        return NO_PROVISION
    steps = [step.replace(source=builder._beside(step.source)) if step.source else step for step in section._steps]
    return Provision(steps=tuple(steps), skip=section.skip)
