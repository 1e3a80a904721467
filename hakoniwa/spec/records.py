"""What a container is: frozen plain data, no behaviour, no I/O. Run-time facts (pid, exit status) live in known/state.py."""

from __future__ import annotations

from hakoniwa.record import Record
from hakoniwa.spec.held import NOTHING, Process, Resources, Security

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from hakoniwa.spec.networks import Network

ELSEWHERE = {"Network": "hakoniwa.spec.networks"}  # records that are loaded when one is read
# Points in the order in which they are reached (docs/guide.md, "General hooks").
HOOK_POINTS = (
    *("setup", "before_fork", "after_fork", "immediately_after_fork_on_parent", "after_network_created"),
    *("after_network_initialized", "before_chroot", "after_chroot", "before_start_wait", "after_reload"),
    *("teardown_container", "after_failure", "teardown", "system_failure"),
)
# Signals that a handler may be given for, with their numbers (`man 7 signal`): all others mean something already.
HOOK_SIGNALS = {"USR1": 10, "USR2": 12, "TTIN": 21, "TTOU": 22}
BARN_POINTS = ("setup", "teardown", "system_failure")
INNER_POINTS = ("after_fork", "after_network_initialized", "before_chroot", "after_chroot")  # run by the first process

# Mount options that are attributes of the mount, and not of the file system: all that a bind mount has. `man 8 mount`.
MOUNT_WORDS = (
    *("nosuid", "suid", "nodev", "dev", "noexec", "exec"),
    *("noatime", "strictatime", "relatime", "nodiratime", "nosymfollow"),
)
RELOADABLE = ("cgroup", "resource", "hooks")
FILTER_ACTIONS = ("allow", "errno", "kill", "trap", "log")  # that a file's own filter may name
FLAVOURS = ("container", "fly")  # kept apart from the host by namespaces, or by its root alone (plan/flavours.py)
INDEPENDENT_MOUNTS = ("procfs", "sysfs", "devtmpfs", "devpts", "shm", "mqueue", "cgroup")


class Hook(Record):
    """A function of the container file, and the line that registered it."""

    point: str
    function: Callable[..., object]
    where: str = ""


class BackgroundHook(Record):
    """A function that runs beside the container: on a clock (`delay`, then every `interval`, in seconds) or on signals.

    A readiness hook runs until it returns true, for `timeout` seconds at most; it is told whether `port` is listened on.
    """

    kind: str  # "async", "timer", "signal", "readiness", "cgroup" or "watch"
    function: Callable[..., object]
    delay: float = 0.0
    interval: float | None = None
    limit: int | None = None
    signals: tuple[int, ...] = ()
    where: str = ""
    cron: str | None = None
    port: int | None = None
    timeout: float = 0.0
    event: str | None = None  # of a cgroup: "oom" or "memory_pressure"
    level: str = "low"
    patterns: tuple[str, ...] = ()  # of paths on the host, absolute
    debounce: float = 0.0  # seconds without a change before a watch hook is told

    def is_on_a_clock(self) -> bool:
        """Whether time alone makes it run."""
        return not (self.signals or self.event or self.patterns)


class Mount(Record):
    """A bind mount (`fs` is None) or a new file system, at `target` inside."""

    source: str
    target: str
    fs: str | None = None
    readonly: bool = False
    options: tuple[str, ...] = ()
    idmap: bool = False  # files made inside by the payload's user belong to the owner of `source` outside
    where: str = ""
    unguarded: bool = False  # also what of the container's own definition lies there can be written to


class Rootfs(Record):
    """Where the root file system lies and how it becomes one."""

    path: str = ""  # "" in a spec that is not complete: the container's name below the library folder
    readonly: bool = False
    owner_uid: int | None = None
    owner_gid: int | None = None
    legacy_chroot: bool = False
    layered: bool = False  # strategy "host": an overlay of the host's root and a private layer that lies in `path`
    replacement: Mount | None = None  # a mount that takes the place of the rootfs (`to` equal to it)
    where: str = ""


class Bootstrap(Record):
    """How the rootfs is made."""

    strategy: str | object | None = None
    settings: Mapping[str, Any] = NOTHING  # of the strategy, by their names in the file; paths are absolute
    cache: bool | None = None  # None: as is usual for the strategy
    postprocess: tuple[Hook, ...] = ()
    skip: bool = False
    where: str = ""


class ProvisionStep(Record):
    """One step of provisioning, inside the rootfs."""

    kind: str  # "shell", "python" or "copy"
    name: str = ""
    label: str = ""  # the name, or "step N"
    always: bool = False  # each time, and not once
    where: str = ""
    text: str = ""  # of a shell step
    shell: str = "/bin/sh"  # a path inside
    function: Callable[..., object] | None = None
    source: str = ""  # of a copy: a file or folder of the host
    target: str = ""  # of a copy: a path inside
    uid: int | str = 0  # of what is copied; names are the rootfs's own
    gid: int | str = 0
    mode: int | None = None  # of the files that are copied; None: as they are


class Provision(Record):
    """What is done inside the rootfs once it is made."""

    steps: tuple[ProvisionStep, ...] = ()
    skip: bool = False


class IdRange(Record):
    """`count` ids of the container, from `inside` on, which are those from `outside` on to the host."""

    inside: int = 0
    outside: int
    count: int = 1
    where: str = ""


class Maps(Record):
    """The ranges of a user namespace as they are written: (inside, outside, how many). Empty where there is none."""

    uids: tuple[tuple[int, int, int], ...] = ()
    gids: tuple[tuple[int, int, int], ...] = ()
    rootless: bool = False  # the caller is not root
    helped: bool = False  # newuidmap and newgidmap write them


NO_MAPS = Maps()


class Entered(Record):
    """A namespace that exists already, which the container joins."""

    name: str
    path: str  # empty for one that its barn shares
    where: str = ""


class Persisted(Record):
    """A namespace of the container that is kept at a path of the host beyond the container's end."""

    name: str
    path: str
    where: str = ""


class TimeOffset(Record):
    """What the clocks of the container are ahead of the host's, in seconds."""

    monotonic: float = 0.0
    boottime: float = 0.0
    where: str = ""


class Sharing(Record):
    """Namespaces that a barn has before it has any container, and that all of its containers join."""

    namespaces: tuple[str, ...] = ()
    hostname: str | None = None  # None: the name of the barn
    uid_map: tuple[IdRange, ...] = ()  # empty in a shared user namespace: one is chosen
    gid_map: tuple[IdRange, ...] = ()
    time_offset: TimeOffset | None = None
    persisted: tuple[Persisted, ...] = ()  # those of them that have a path of the host for as long as the barn is there
    where: str = ""


NOTHING_SHARED = Sharing()


NO_ROOTFS = Rootfs()
NO_BOOTSTRAP = Bootstrap()
NO_PROVISION = Provision()


class Namespaces(Record):
    """Which namespaces the container has."""

    own: tuple[str, ...] = ("mount", "uts", "ipc", "pid")
    entered: tuple[Entered, ...] = ()
    persisted: tuple[Persisted, ...] = ()
    uid_map: tuple[IdRange, ...] = ()  # empty in a user namespace of its own: one is chosen at the start
    gid_map: tuple[IdRange, ...] = ()
    time_offset: TimeOffset | None = None


class Files(Record):
    """What the container sees as its files."""

    rootfs: Rootfs = NO_ROOTFS
    independent: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    network_etc: str | None = None
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    lxcfs_root: str | None = None


class Build(Record):
    """How its rootfs is made, and what is done in it."""

    bootstrap: Bootstrap = NO_BOOTSTRAP
    provision: Provision = NO_PROVISION


class Hooks(Record):
    """Functions that run at points of its life, and beside it."""

    general: tuple[Hook, ...] = ()
    background: tuple[BackgroundHook, ...] = ()


AS_USUAL = Process()
OWN_NAMESPACES = Namespaces()
NO_FILES = Files()
NO_RESOURCES = Resources()
USUAL_SECURITY = Security()
NO_BUILD = Build()
NO_HOOKS = Hooks()


class Container(Record):
    """One container, complete."""

    name: str
    barn: str = ""
    file: str = ""  # that it was read from; "" where that was no file
    origin: str = ""  # the container file whose names a document may use, since it was made from that
    flavour: str = "container"
    hostname: str = ""
    process: Process = AS_USUAL
    namespaces: Namespaces = OWN_NAMESPACES
    files: Files = NO_FILES
    resources: Resources = NO_RESOURCES
    security: Security = USUAL_SECURITY
    build: Build = NO_BUILD
    hooks: Hooks = NO_HOOKS
    network: Network | None = None  # the host's, or whatever namespaces say
    container_pid_file: str | None = None
    metadata: Mapping[str, object] = NOTHING
    log_level: str = "info"
    reloadable: tuple[str, ...] = ()  # groups of settings (RELOADABLE)
    where: str = ""
    places: Mapping[str, str] = NOTHING  # the lines of settings that are no records of their own
    siblings: str = ""  # a mark of the names of a barn's containers, if it has several

    def place(self, *settings: str) -> str:
        """The line of the first of these settings that the file has."""
        return next((self.places[setting] for setting in settings if setting in self.places), self.where)

    def hooks_at(self, point: str) -> list[Hook]:
        """The hooks of a point, in the order of the file."""
        return [hook for hook in self.hooks.general if hook.point == point]

    def has_pid_namespace(self) -> bool:
        """Whether its first process reaps the others, and takes them along when it ends."""
        return "pid" in self.namespaces.own

    def has_user_namespace(self) -> bool:
        """Whether its root is not the host's."""
        return "user" in self.namespaces.own or any(one.name == "user" for one in self.namespaces.entered)

    def needs_groups(self) -> bool:
        """Whether it has a cgroup of its own. Without a pid namespace, nothing else holds its processes together."""
        wanted = self.resources.cgroup
        limited = wanted.v1 or wanted.v2 or wanted.memory or wanted.cpus or wanted.pids
        shown = "cgroup" in self.namespaces.own  # what would be the root of the namespace otherwise is the caller's
        needed = bool(limited or shown or wanted.assign_only) or not self.has_pid_namespace()
        return needed or any(hook.event for hook in self.hooks.background)


class Outline(Record):
    """What a file says of a rootfs, in short (outline.py): the settings of its bootstrap, and its steps of provisioning."""

    bootstrap: dict[str, str]
    steps: dict[str, str]


class Barn(Record):
    """What a container file or a document defines. A document has no `file` in it, but the `origin` that it was made from."""

    name: str = ""  # "" in a spec that is not complete: that of its one container
    file: str = ""
    origin: str = ""
    daemonize: bool = False
    log_level: str = "info"
    containers: tuple[Container, ...]
    hooks: tuple[Hook, ...] = ()
    real_id_check: Hook | None = None
    executed: tuple[str, ...] = ()  # the paths of the file and of the modules beside it that were executed
    missed: tuple[str, ...] = ()  # modules that it asked for, and that are nowhere
    shared: Sharing = NOTHING_SHARED
    keep: bool = False  # in the background it goes on without containers, until it is ended
    immutable: bool = False  # no container is added to it or removed from it once it runs

    def hooks_at(self, point: str) -> list[Hook]:
        """The barn's own hooks of a point, in the order of the file."""
        return [hook for hook in self.hooks if hook.point == point]
