"""The builder of one container, and of the barn itself, which is the template of its children."""

from __future__ import annotations

import os

from hakoniwa.errors import nearest
from hakoniwa.haco.reading import Reading, refuse, short
from hakoniwa.haco.sections.hooks import HookWords
from hakoniwa.haco.sections.section import Section, Table
from hakoniwa.spec.records import BARN_POINTS, FLAVOURS, INDEPENDENT_MOUNTS, RELOADABLE, Hook
from hakoniwa.spec.rules import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Literal, Self

    from hakoniwa.haco.sections.bootstrap import BootstrapSection
    from hakoniwa.haco.sections.cgroup import CgroupSection
    from hakoniwa.haco.sections.namespace import NamespaceSection
    from hakoniwa.haco.sections.network import NetworkSection
    from hakoniwa.haco.sections.provision import ProvisionSection
    from hakoniwa.haco.sections.seccomp import SeccompSection
    from hakoniwa.haco.sections.settings import (
        CapabilitiesSection,
        CommandSection,
        FilesystemSection,
        ResourceSection,
        RootfsSection,
    )

# Sections, each loaded and made when a file first has it: most starts do without most of them.
SECTIONS = (
    *("rootfs", "filesystem", "namespace", "resource", "capabilities", "command"),
    *("bootstrap", "provision", "cgroup", "seccomp", "network"),
)
_TABLES: dict[str, Callable[[object, object], object]] = {
    "environ": checks.environment_item,
    "metadata": checks.json_item,
}


def _section(word: str) -> type[Section]:
    """The class of a section."""
    if word == "bootstrap":
        from hakoniwa.haco.sections.bootstrap import BootstrapSection

        return BootstrapSection
    if word == "provision":
        from hakoniwa.haco.sections.provision import ProvisionSection

        return ProvisionSection
    if word == "cgroup":
        from hakoniwa.haco.sections.cgroup import CgroupSection

        return CgroupSection
    if word == "namespace":
        from hakoniwa.haco.sections.namespace import NamespaceSection

        return NamespaceSection
    if word == "seccomp":
        from hakoniwa.haco.sections.seccomp import SeccompSection

        return SeccompSection
    if word == "network":
        from hakoniwa.haco.sections.network import NetworkSection

        return NetworkSection
    from hakoniwa.haco.sections import settings as sections

    found: type[Section] = getattr(sections, f"{word.capitalize()}Section")
    return found


class RootPath(str):
    """The path of the rootfs: a string that `/` appends to, with the attributes of a `pathlib.Path`."""

    def __truediv__(self, part: str) -> RootPath:
        return RootPath(os.path.join(self, os.fspath(part)))

    def __getattr__(self, name: str) -> Any:
        from pathlib import Path

        return getattr(Path(self), name)


class WrittenMount:
    """A mount point as written; the rootfs prefix of its target is cut when the block ends."""

    def __init__(self, **facts: Any) -> None:
        self.source: str = facts["source"]
        self.target: str = facts["target"]
        self.fs: str | None = facts["fs"]
        self.readonly: bool = facts["readonly"]
        self.options: tuple[str, ...] = facts["options"]
        self.idmap: bool = facts["idmap"]
        self.unguarded: bool = facts["unguarded"]
        self.where: str = facts["where"]


class ContainerBuilder(HookWords):
    """`config`: what a container file writes to."""

    _checks = {
        "name": checks.name,
        "flavour": checks.word_of(*FLAVOURS),
        "hostname": checks.hostname,
        "init_command": checks.arguments,
        "init": checks.word_of("tini", "catatonit"),
        "workdir": checks.absolute_path,
        "uid": checks.user,
        "gid": checks.user,
        "groups": checks.users,
        "no_new_privs": checks.flag,
        "container_pid_file": checks.path,
        "apparmor": checks.profile_name,
        "lxcfs_root": checks.path,
        "log_level": checks.word_of("debug", "info", "warning", "error"),
    }
    _defaults = {"flavour": "container", "workdir": "/", "groups": (), "no_new_privs": True, "log_level": "info"}
    _more = SECTIONS
    _later = (
        *("checkpoint", "run_as_restore", "pod"),
        *("restart", "healthcheck", "project", "forward", "env_file"),
    )

    if TYPE_CHECKING:
        name: str | None
        """What the container is called; unless set, by the file's folder and its stem."""
        hostname: str | None
        """Its host name; its name unless set."""
        flavour: Literal["container", "fly"]
        """What keeps it apart from the host: namespaces, or with "fly" its root alone."""
        init_command: Sequence[str] | str | None
        """The program: a list of arguments, or one path. A shell unless set."""
        init: Literal["tini", "catatonit"] | None
        """A reaping, signal-forwarding init before the command."""
        workdir: str
        """The folder that the program begins in, inside."""
        uid: int | str | None
        """The program's user, by number or by a name of the rootfs's own."""
        gid: int | str | None
        """The program's group."""
        groups: Sequence[int | str]
        """Its further groups."""
        no_new_privs: bool
        """Whether nothing inside gains privileges by execution; True unless set."""
        container_pid_file: str | os.PathLike[str] | None
        """A file that holds the supervisor's pid while the container runs."""
        apparmor: str | None
        """The AppArmor profile of the program."""
        lxcfs_root: str | os.PathLike[str] | None
        """Where lxcfs is mounted, whose files take the place of the kernel's in /proc."""
        log_level: Literal["debug", "info", "warning", "error"]
        """The least level that is logged."""
        environ: dict[str, str]
        """The environment of the program, besides PATH, HOME, TERM and container."""
        metadata: dict[str, Any]
        """Free keys and values that `hako ps` shows."""
        rootfs: RootfsSection
        """The root file system."""
        filesystem: FilesystemSection
        """Paths that are hidden or read-only, and how the root is entered."""
        namespace: NamespaceSection
        """Which namespaces the container has of its own, joins, or shares with the host."""
        resource: ResourceSection
        """Resource limits, and scheduling."""
        capabilities: CapabilitiesSection
        """What its root may do."""
        command: CommandSection
        """Where its standard streams lead."""
        bootstrap: BootstrapSection
        """How the rootfs is made."""
        provision: ProvisionSection
        """What is done inside the rootfs once it is made."""
        cgroup: CgroupSection
        """What the container may use, by the kernel's own parameters."""
        seccomp: SeccompSection
        """Which system calls it may make."""
        network: NetworkSection
        """What joins it to others."""

    _children: list[ContainerBuilder]
    _mounts: list[WrittenMount]
    _flags: dict[str, Any]

    def __init__(self, reading: Reading, parent: ContainerBuilder | None = None) -> None:
        super().__init__(reading)
        slots = self.__dict__
        slots.update(_parent=parent, _children=[], _hooks=[], _background_hooks=[], _mounts=[])
        slots["_flags"] = {
            "independent": [],
            "network_etc": None,
            "network_etc_root": None,
            "daemonize": False,
            "owner": (None, None),
        }
        slots["_flags"]["reloadable"] = []
        for word, check in _TABLES.items():
            slots[word] = Table(self, word, check)

    def _set(self, name: str, value: object) -> None:
        if name in _TABLES:
            self._must_be_open()
            self.__dict__[name].replace(value)
        elif name in SECTIONS:
            self._reading.stop(f"config.{name} cannot be assigned", f"set its attributes: config.{name}.NAME = ...")
        else:
            super()._set(name, value)

    def _get(self, name: str) -> Any:
        if name not in SECTIONS:
            return super()._get(name)
        section = self.__dict__[name] = _section(name)(self._reading)
        return section

    if not TYPE_CHECKING:
        __getattr__, __setattr__ = _get, _set

    def _made(self, word: str) -> Any:
        """A section, or None if the file has none of it."""
        return self.__dict__.get(word)

    def define(self) -> ContainerBuilder:
        """A further container, which begins as a copy of what the barn has set so far."""
        self._must_be_open()
        if self._parent is not None:
            self._reading.stop("a container of a barn cannot define containers of its own", "define it in the barn")
        child = self._copy()
        child.__dict__["_parent"] = self
        child._values.pop("name", None)
        self._children.append(child)
        return child

    def _copy(self) -> Self:
        twin = super()._copy()
        slots, mine = twin.__dict__, self.__dict__
        for word in SECTIONS:
            if word in mine:
                slots[word] = mine[word]._copy()
        for word in _TABLES:
            slots[word].update(mine[word])
        slots["_flags"] = {**self._flags, **{word: list(self._flags[word]) for word in ("independent", "reloadable")}}
        slots["_mounts"] = list(self._mounts)
        slots["_background_hooks"] = list(self._background_hooks)
        slots["_hooks"] = [hook for hook in self._hooks if hook.point not in BARN_POINTS]
        return twin

    # What is mounted

    def chroot_to(self, path: str) -> RootPath:
        """Where the rootfs lies on the host, absolute or relative to the container file."""
        self._must_be_open()
        checked = self._reading.check("config.chroot_to()", checks.path, path)
        if checked is None:
            return RootPath("/")
        absolute = self._beside(checked)
        self._flags["chroot_to"] = absolute
        self._places["chroot_to"] = self._reading.here()
        return RootPath(absolute)

    def rootfs_owner(self, *, uid: int, gid: int) -> None:
        """Who owns the files of the rootfs when it is built."""
        self._must_be_open()
        self._places["owner"] = self._reading.here()
        self._flags["owner"] = (
            self._reading.check("config.rootfs_owner(uid=)", checks.number_id, uid),
            self._reading.check("config.rootfs_owner(gid=)", checks.number_id, gid),
        )

    def add_mount_point(
        self,
        src: str,
        to: str,
        fs: str | None = None,
        readonly: bool = False,
        options: str = "",
        criu_ext_key: str | None = None,
        idmap: bool = False,
        unguarded: bool = False,
    ) -> None:
        """A bind mount, or a new file system of type `fs`, at `to` inside."""
        self._must_be_open()
        if criu_ext_key is not None:
            refuse(self._reading, "add_mount_point(criu_ext_key=)")
        check, word = self._reading.check, "config.add_mount_point"
        source = check(f"{word}(src)", checks.path, src)
        target = check(f"{word}(to=)", checks.path, to)
        kind = None if fs is None else check(f"{word}(fs=)", checks.path, fs)
        listed = check(f"{word}(options=)", checks.mount_options, options, ())
        fixed = check(f"{word}(readonly=)", checks.flag, readonly, False)
        mapped = check(f"{word}(idmap=)", checks.flag, idmap, False)
        lifted = check(f"{word}(unguarded=)", checks.flag, unguarded, False)
        if fixed and "rw" in listed:
            self._reading.problem(
                f"{word}(readonly=True) and options with 'rw' exclude each other", "remove one of the two"
            )
        if mapped and kind is not None:
            self._reading.problem(f"{word}(idmap=True) is for bind mounts, and this is a new {short(kind)}")
        if source is None or target is None:
            return
        if not target.startswith("/"):
            self._reading.problem(f"{word}(to=) must be an absolute path inside the container, not {short(to)}")
            return
        if kind is None:
            source = self._beside(source)
        facts = {"source": source, "target": target, "fs": kind, "readonly": fixed, "options": listed, "idmap": mapped}
        self._mounts.append(WrittenMount(**facts, unguarded=lifted, where=self._reading.here()))

    def mount_independent(self, *names: str) -> None:
        """Fresh file systems of the container's own."""
        self._must_be_open()
        for name in names:
            if name not in INDEPENDENT_MOUNTS:
                hint = nearest(str(name), INDEPENDENT_MOUNTS)
                self._reading.problem(f"independent mount {short(name)} is unknown", hint)
            elif name not in self._flags["independent"]:
                self._flags["independent"].append(name)
                self._places[f"independent {name}"] = self._reading.here()

    def mount_network_etc(self, root: str | None = None, *, host_root: str = "/etc") -> None:
        """`resolv.conf` and `hosts` from the host. haconiwa's files name the rootfs first, which is always meant."""
        self._must_be_open()
        if root is not None:
            self._flags["network_etc_root"] = self._reading.check("config.mount_network_etc()", checks.path, root)
        self._flags["network_etc"] = self._reading.check(
            "mount_network_etc(host_root=)", checks.absolute_path, host_root
        )
        self._places["network_etc"] = self._reading.here()

    # How it runs

    def daemonize(self) -> None:
        """Run in the background unless `hako start -T` says otherwise."""
        self._must_be_open()
        self._flags["daemonize"] = True

    def acts_as_session_leader(self) -> None:
        """Every container leads a session of its own; kept so that haconiwa's files say what they mean."""
        self._must_be_open()

    def skip_bootstrap(self) -> None:
        """Leave the rootfs to a sibling that shares it."""
        self.bootstrap.skip = True

    def skip_provision(self) -> None:
        """Leave provisioning to a sibling that shares the rootfs."""
        self.provision.skip = True

    def support_reload(self, *groups: str) -> None:
        """What `hako reload` may change in the running container: "cgroup", "resource", "hooks"."""
        self._must_be_open()
        for group in groups:
            if group not in RELOADABLE:
                self._reading.problem(f"{short(group)} cannot be reloaded", nearest(str(group), RELOADABLE))
            elif group not in self._flags["reloadable"]:
                self._flags["reloadable"].append(group)

    def limit(self, *, memory: int | str | None = None, cpus: float | None = None, pids: int | None = None) -> None:
        """Limits on whichever cgroup hierarchy the host has: bytes or `"512M"`, processors, processes."""
        self.cgroup._limit(memory, cpus, pids)

    def validate_real_id(self, function: Callable[[int, int], bool]) -> Callable[[int, int], bool]:
        """`function(uid, gid)` says who may run the file."""
        self._barn_only("validate_real_id")
        if not callable(function):
            self._reading.stop(f"validate_real_id must get a function, not {short(function)}")
        self._reading.must_take(function, "function of validate_real_id", ("uid, gid",))
        self._flags["real_id"] = Hook(point="validate_real_id", function=function, where=self._reading.here())
        return function
