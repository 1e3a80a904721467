"""Who the container is: host name and loopback, user and groups, limits and capabilities."""

from __future__ import annotations

import errno
import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem import paths
from hakoniwa.kernel.processes import prctl, process
from hakoniwa.kernel.processes.pidfd import has_ended
from hakoniwa.kernel.security import capabilities, keyring, seccomp
from hakoniwa.kernel.security.users import Account, UnknownUser, find_account
from hakoniwa.steps.step import Context, Outside, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hakoniwa.spec.held import Limit

NOWHERE: Mapping[str, str] = {}  # of which "uid", "gid" and "groups" may name where each was asked for


class SetHostname(Step):
    """Name the UTS namespace."""

    name: str

    def __str__(self) -> str:
        return f"set the host name {self.name}"

    def apply(self, context: Context) -> None:
        process.set_hostname(self.name)


class RaiseLoopback(Step):
    """Bring `lo` up in the container's own network namespace. `man 7 netdevice`."""

    def __str__(self) -> str:
        return "bring up lo"

    def prepare(self, context: Context) -> None:
        import _socket  # noqa: F401
        import fcntl

        del fcntl

    def apply(self, context: Context) -> None:
        import _socket
        import fcntl

        siocsifflags, iff_up = 0x8914, 0x1
        channel = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC, 0)
        fcntl.ioctl(channel, siocsifflags, b"lo".ljust(16, b"\0") + iff_up.to_bytes(2, "little") + bytes(22))
        channel.close()


class FindAccount(Step):
    """Look the user up in the rootfs's own files, before anything of the rootfs can run."""

    uid: int | str | None
    gid: int | str | None
    groups: tuple[int | str, ...]
    places: Mapping[str, str] = NOWHERE

    def __str__(self) -> str:
        return f"look up the user {'0' if self.uid is None else self.uid}"

    def apply(self, context: Context) -> None:
        context.account = self._find(context)
        context.environ.setdefault("HOME", context.account.home)

    def provide(self, outside: Outside) -> list[int]:
        outside.find_account = lambda: self._find(outside.context)
        return []

    def _find(self, context: Context) -> Account:
        try:
            return find_account(
                self._read(context, "/etc/passwd"), self._read(context, "/etc/group"), self.uid, self.gid, self.groups
            )
        except UnknownUser as unknown:
            where = self.places.get(unknown.setting, self.where)
            raise HakoError(str(unknown), where=where, hint="give a number") from None

    def _read(self, context: Context, path: str) -> str:
        try:
            return paths.read_inside(context.root, path)
        except FileNotFoundError:
            return ""


class SetLimits(Step):
    """Resource limits. `man 2 getrlimit`."""

    limits: tuple[Limit, ...]

    def __str__(self) -> str:
        return "set limits " + " ".join(f"{limit.name}={limit.soft}:{limit.hard}" for limit in self.limits)

    def prepare(self, context: Context) -> None:
        import resource  # noqa: F401

    def apply(self, context: Context) -> None:
        import resource

        for limit in self.limits:
            try:
                resource.setrlimit(getattr(resource, f"RLIMIT_{limit.name}"), (limit.soft, limit.hard))
            except (ValueError, OSError) as error:
                raise HakoError(
                    f"cannot set the limit {limit.name} to {limit.soft}:{limit.hard}: {error}",
                    where=limit.where,
                    hint="raising a hard limit needs cap_sys_resource",
                ) from None


class JoinKeyring(Step):
    """A session keyring of the container's own: the caller's holds the host's keys (`man 7 session-keyring`)."""

    def __str__(self) -> str:
        return "make a session keyring"

    def apply(self, context: Context) -> None:
        keyring.join_new_session_keyring()

    def hint(self, error: OSError) -> str:
        return "the user has too many keys: see /proc/key-users" if error.errno == errno.EDQUOT else ""


class PutFiltersInForce(Step):
    """The seccomp filters, where they cannot wait for the trampoline: without no_new_privs that takes cap_sys_admin."""

    filters: tuple[bytes, ...]

    def __str__(self) -> str:
        return f"put {len(self.filters)} seccomp filter{'s' if len(self.filters) > 1 else ''} in force"

    def apply(self, context: Context) -> None:
        for program in self.filters:
            seccomp.put_in_force(program)

    def hint(self, error: OSError) -> str:
        if error.errno == errno.EACCES:
            return "without no_new_privs that takes cap_sys_admin, which the caller lacks"
        return "this kernel may have no seccomp filters: seccomp.profile = None" if error.errno == errno.EINVAL else ""


class BecomeUser(Step):
    """Take the user, the groups and the capabilities of the payload, and lose everything else. `man 7 capabilities`."""

    capabilities: int
    no_new_privs: bool
    groups_asked: bool = False  # by the file, so that they cannot be left out
    places: Mapping[str, str] = NOWHERE

    def __str__(self) -> str:
        kept = " ".join(capabilities.names(self.capabilities)) or "none"
        return f"become the user, with capabilities {kept}{'' if self.no_new_privs else ', new privileges allowed'}"

    def apply(self, context: Context) -> None:
        account = context.the_account()
        capabilities.limit_bounding(self.capabilities)
        self._set_groups(context, account)
        self._set("gid", f"group {account.gid}", lambda: os.setresgid(account.gid, account.gid, account.gid))
        self._set("uid", f"user {account.uid}", lambda: os.setresuid(account.uid, account.uid, account.uid))
        context.permitted = self.capabilities if account.uid == 0 else 0
        capabilities.set_sets(context.permitted)
        if self.no_new_privs:
            prctl.forbid_new_privileges()

    def _set_groups(self, context: Context, account: Account) -> None:
        if not context.may_set_groups:
            if self.groups_asked:
                where = self.places.get("groups", self.where)
                raise HakoError("groups cannot be set with a single group mapped", where=where, hint=_MAP)
            return
        what = f"one of the groups {' '.join(map(str, account.groups))}"
        self._set("groups", what, lambda: os.setgroups(list(account.groups)))

    def _set(self, setting: str, what: str, action: Callable[[], None]) -> None:
        """Take ids, which the user namespace may lack."""
        try:
            action()
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            told = f"{what} is not mapped in the user namespace"
            raise HakoError(told, where=self.places.get(setting, self.where), hint=_MAP) from None


_MAP = "map it with namespace.set_uid_mapping() and set_gid_mapping(); an ordinary user needs ranges in /etc/subuid"


class DieWithSupervisor(Step):
    """Be killed when the supervisor ends. After the last change of credentials, which would clear it (`man 2 prctl`)."""

    def __str__(self) -> str:
        return "set the parent-death signal"

    def prepare(self, context: Context) -> None:
        import select  # noqa: F401  # has_ended uses it

    def apply(self, context: Context) -> None:
        prctl.die_with_parent()
        if has_ended(context.supervisor):
            os._exit(1)  # it ended before the signal was set: nobody is left to tell
