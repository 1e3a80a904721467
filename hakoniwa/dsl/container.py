"""The builder of one container, and of the barn itself, which is the template of its children."""

from __future__ import annotations

import os

from hakoniwa.dsl import checks
from hakoniwa.dsl.bootstrap import BootstrapSection
from hakoniwa.dsl.cgroup import CgroupSection
from hakoniwa.dsl.namespace import NamespaceSection
from hakoniwa.dsl.seccomp import SeccompSection
from hakoniwa.dsl.section import Reading, Section, Table, short
from hakoniwa.dsl.sections import (
    CapabilitiesSection,
    CommandSection,
    FilesystemSection,
    ResourceSection,
    RootfsSection,
)
from hakoniwa.dsl.unsupported import Unsupported, refuse, refuse_hook
from hakoniwa.errors import nearest
from hakoniwa.spec import BARN_POINTS, HOOK_POINTS, HOOK_SIGNALS, INDEPENDENT_MOUNTS, BackgroundHook, Hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

LATER_POINTS = ("before_restore", "after_restore")
RELOADABLE = ("cgroup", "resource", "hooks")

_SECTIONS: dict[str, type[Section]] = {
    "rootfs": RootfsSection,
    "filesystem": FilesystemSection,
    "namespace": NamespaceSection,
    "resource": ResourceSection,
    "capabilities": CapabilitiesSection,
    "command": CommandSection,
    "bootstrap": BootstrapSection,
    "cgroup": CgroupSection,
    "seccomp": SeccompSection,
}
_ON_USE = "provision"  # a section that is loaded and made where a file has it: most starts do without
_LATER_SECTIONS = ("network", "checkpoint")
_LATER_SETTINGS = ("run_as_restore",)
_TABLES: dict[str, Callable[[object, object], object]] = {
    "environ": checks.environment_item,
    "metadata": checks.json_item,
}


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
        self.where: str = facts["where"]


class ContainerBuilder(Section):
    """`config`: what a container file writes to."""

    _checks = {
        "name": checks.name,
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
    _defaults = {"workdir": "/", "groups": (), "no_new_privs": True, "log_level": "info"}
    _replaced = {
        "guid": "config.gid",
        "pid_file": "config.container_pid_file",
        "mount_independent_procfs": 'config.mount_independent("procfs")',
        "cgroupv2": 'config.cgroup.v2["..."]',
        "seccomp_filter": "config.seccomp.filter()",
        "chroot": "config.chroot_to()",
        "unshare": "config.namespace.unshare()",
        "mount_point": "config.add_mount_point()",
    }

    _more = (_ON_USE,)

    _parent: ContainerBuilder | None
    _children: list[ContainerBuilder]
    _hooks: list[Hook]
    _background_hooks: list[BackgroundHook]
    _mounts: list[WrittenMount]
    _flags: dict[str, Any]

    def __init__(self, reading: Reading, parent: ContainerBuilder | None = None) -> None:
        super().__init__(reading)
        slots = self.__dict__
        slots.update(_parent=parent, _children=[], _hooks=[], _background_hooks=[], _mounts=[])
        slots["_flags"] = {"independent": [], "network_etc": None, "daemonize": False, "owner": (None, None)}
        slots["_flags"]["reloadable"] = []
        for word, section in _SECTIONS.items():
            slots[word] = section(reading)
        for word in _LATER_SECTIONS:
            slots[word] = Unsupported(reading, f"config.{word}")
        for word, check in _TABLES.items():
            slots[word] = Table(self, word, check)

    def __setattr__(self, name: str, value: object) -> None:
        if name in _TABLES:
            self._must_be_open()
            self.__dict__[name].replace(value)
        elif name in _LATER_SETTINGS:
            refuse(self._reading, f"config.{name}")
        elif name in _SECTIONS or name in _LATER_SECTIONS or name == _ON_USE:
            self._reading.stop(f"config.{name} cannot be assigned", f"set its attributes: config.{name}.NAME = ...")
        else:
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name != _ON_USE:
            return super().__getattr__(name)
        from hakoniwa.dsl.provision import ProvisionSection

        self.__dict__[name] = ProvisionSection(self._reading)
        return self.__dict__[name]

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
        for word in (*_SECTIONS, *([_ON_USE] if _ON_USE in mine else [])):
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
        checked = self._reading.check("config.chroot_to()", checks.path, path, "/")
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
        self._mounts.append(WrittenMount(**facts, where=self._reading.here()))

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

    def mount_network_etc(self, *, host_root: str = "/etc") -> None:
        """`resolv.conf` and `hosts` from the host."""
        self._must_be_open()
        self._flags["network_etc"] = self._reading.check(
            "mount_network_etc(host_root=)", checks.absolute_path, host_root
        )
        self._places["network_etc"] = self._reading.here()

    def _beside(self, path: str) -> str:
        """A path relative to the container file's folder, made absolute."""
        return os.path.normpath(os.path.join(os.path.dirname(self._reading.file), path))

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
        self._flags["real_id"] = Hook(point="validate_real_id", function=function, where=self._reading.here())
        return function

    # Hooks

    def add_general_hook(self, point: str) -> Callable[[Any], Any]:
        """Run the decorated function at a point of the container's life."""
        self._must_be_open()
        if point in LATER_POINTS:
            return refuse_hook(self._reading, f"add_general_hook({point!r})")
        if point not in HOOK_POINTS:
            hint = nearest(str(point), [*HOOK_POINTS, *LATER_POINTS])
            self._reading.problem(f"hook point {short(point)} is unknown", hint)
        elif point in BARN_POINTS:
            self._barn_only(f"the hook {point!r}")
        where = self._reading.here()

        def register(function: Any) -> Any:
            if not callable(function):
                self._reading.stop(f"a hook must be a function, not {short(function)}")
            self._hooks.append(Hook(point=point, function=function, where=where))
            return function

        return register

    def _barn_only(self, what: str) -> None:
        self._must_be_open()
        if self._parent is not None:
            self._reading.problem(f"{what} belongs to the barn", "write it outside config.define()")

    def add_async_hook(
        self,
        *,
        msec: float | None = None,
        sec: float | None = None,
        min: float | None = None,
        hour: float | None = None,
        interval_msec: float | None = None,
        limit_count: int | None = None,
    ) -> Callable[[Any], Any]:
        """Run the decorated function beside the container: once after the delay, or from then on at every interval."""
        given = [
            (value, unit) for value, unit in ((msec, 0.001), (sec, 1), (min, 60), (hour, 3600)) if value is not None
        ]
        if len(given) > 1:
            self._reading.problem("add_async_hook() takes one of msec=, sec=, min= and hour=")
        check = self._reading.check
        delays = [check("add_async_hook()", checks.duration, value, 0.0) * unit for value, unit in given]
        interval = None
        if interval_msec is not None:
            interval = check("add_async_hook(interval_msec=)", checks.interval, interval_msec, 1000.0) / 1000
        limit = None if limit_count is None else check("add_async_hook(limit_count=)", checks.count, limit_count)
        if limit is not None and interval is None:
            self._reading.problem("limit_count= means nothing without interval_msec=", "such a hook runs once")
        return self._background(kind="async", delay=sum(delays[:1]), interval=interval, limit=limit)

    after_spawn = add_async_hook  # haconiwa's older name

    def add_timer_hook(self, *, every: float | None = None, cron: str | None = None) -> Callable[[Any], Any]:
        """Run the decorated function every so many seconds, or at the times of a cron expression."""
        if (every is None) == (cron is None):
            self._reading.stop("add_timer_hook() takes one of every= and cron=", 'every=SECONDS, or cron="*/5 * * * *"')
        if cron is not None:
            expression = self._reading.check("add_timer_hook(cron=)", checks.cron, cron)
            return self._background(kind="timer", delay=0.0, cron=expression)
        seconds = self._reading.check("add_timer_hook(every=)", checks.interval, every, 1.0)
        return self._background(kind="timer", delay=seconds, interval=seconds)

    def add_signal_handler(self, sig: str | list[str]) -> Callable[[Any], Any]:
        """Run the decorated function when the supervisor gets one of these signals: USR1, USR2, TTIN or TTOU."""
        names = [sig] if isinstance(sig, str) else list(sig)
        numbers = []
        for name in names:
            word = str(name).upper().removeprefix("SIG")
            if word in HOOK_SIGNALS:
                numbers.append(HOOK_SIGNALS[word])
            else:
                self._reading.problem(f"signal {short(name)} cannot have a handler", nearest(word, [*HOOK_SIGNALS]))
        return self._background(kind="signal", delay=0.0, signals=tuple(numbers))

    add_handler = add_signal_handler  # haconiwa's older name

    def add_readiness_hook(
        self, *, port: int | None = None, timeout: float = 1800, interval_msec: float = 1000
    ) -> Callable[[Any], Any]:
        """Run `function(base, ok)` until it returns true; `ok` says whether the TCP port is listened on inside."""
        check = self._reading.check
        if port is not None:
            port = check("add_readiness_hook(port=)", checks.port, port)
        longest = check("add_readiness_hook(timeout=)", checks.interval, timeout, 1.0)
        interval = check("add_readiness_hook(interval_msec=)", checks.interval, interval_msec, 1000.0) / 1000
        return self._background(kind="readiness", delay=0.0, interval=interval, port=port, timeout=longest)

    def _background(self, **facts: Any) -> Callable[[Any], Any]:
        """The decorator of a hook beside the container."""
        self._must_be_open()
        where = self._reading.here()
        facts = {"interval": None, "limit": None, "signals": (), **facts}

        def register(function: Any) -> Any:
            if not callable(function):
                self._reading.stop(f"a hook must be a function, not {short(function)}")
            self._background_hooks.append(BackgroundHook(function=function, where=where, **facts))
            return function

        return register

    def add_cgroup_hook(self, *, type: str, level: str = "low") -> Callable[[Any], Any]:
        """Run the decorated function when the container is short of memory, or has run out of it."""
        check = self._reading.check
        kind = check("add_cgroup_hook(type=)", checks.word_of("memory_pressure", "oom"), type)
        degree = check("add_cgroup_hook(level=)", checks.word_of("low", "medium", "critical"), level, "low")
        return self._background(kind="cgroup", delay=0.0, event=kind, level=degree)

    def add_watch_hook(self, *globs: str, debounce_msec: float = 200) -> Callable[[Any], Any]:
        """Run `function(base, paths)` when files on the host change that match; relative to the container file."""
        check = self._reading.check
        if not globs:
            self._reading.problem("add_watch_hook() needs a pattern of paths", 'such as "src/**/*.py"')
        patterns = [check("add_watch_hook()", checks.path, pattern) for pattern in globs]
        quiet = check("add_watch_hook(debounce_msec=)", checks.duration, debounce_msec, 200.0) / 1000
        absolute = tuple(self._beside(pattern) for pattern in patterns if pattern)
        return self._background(kind="watch", delay=0.0, patterns=absolute, debounce=quiet)
