"""`hako attach`: a command, or a shell, inside a running container, with everything that the container is held to."""

from __future__ import annotations

import os

from hakoniwa import state
from hakoniwa.commands.selection import PID, alive
from hakoniwa.errors import HakoError, nearest
from hakoniwa.kernel import capabilities, prctl, signals
from hakoniwa.options import NAME, Command, Given, Option
from hakoniwa.plan import scheduling_steps
from hakoniwa.seccomp import programs
from hakoniwa.spec import Limit, Scheduling
from hakoniwa.steps import devices, identity, program
from hakoniwa.steps.join import JoinGroups, JoinNamespaces, namespaces_apart, open_groups
from hakoniwa.steps.step import Context, Step
from hakoniwa.supervisor import child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMMAND = Command(
    name="attach",
    summary="Run a command, or a shell, inside a running container.",
    options=(
        NAME,
        PID,
        Option(flags=("-A", "--allow"), value="CAPS", help="give these capabilities too (with commas between them)"),
        Option(flags=("-D", "--drop"), value="CAPS", help="take these capabilities away"),
        Option(flags=("-u", "--user"), value="U", help="as this user of the container"),
        Option(flags=("-g", "--group"), value="G", help="as this group of the container"),
    ),
    takes_argv=True,
    by_name=True,
)

_FORWARDED = (signals.SIGTERM, signals.SIGINT, signals.SIGHUP, signals.SIGQUIT)


def run(given: Given) -> int:
    """Join the one container that is meant."""
    found = _the_running_one(given)
    container = state.identity(found).open()
    if container is None:
        raise HakoError(f"container {found['name']!r} has just ended")
    streams = tuple(number for number in (0, 1, 2) if os.isatty(number))
    if streams:
        return _attach_with_terminal(given, found, container, streams)
    pid, pidfd = _launch(given, found, container, (), -1, "dumb")
    for number in _FORWARDED:
        signals.signal(number, lambda number, _frame: signals.pidfd_send_signal(pidfd, number))
    return _exit_status(pid)


def _the_running_one(given: Given) -> dict[str, Any]:
    running = alive(given)
    if not running:
        what = given.value("name") or given.file or given.value("target")
        raise HakoError("no container runs", where=str(what), hint="hako start -D runs one")
    if len(running) > 1:
        names = " ".join(found["name"] for found in running)
        raise HakoError(f"several containers run: {names}", where=str(given.file), hint="choose one with -n NAME")
    return running[0]


def _exit_status(pid: int) -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


def _attach_with_terminal(given: Given, found: dict[str, Any], container: int, streams: tuple[int, ...]) -> int:
    from hakoniwa.supervisor.barn import terminal_type
    from hakoniwa.supervisor.front import Front
    from hakoniwa.supervisor.guard import guard_terminal

    front = Front(streams)
    guard_terminal(front)  # before the pid namespace is joined: a later child would be inside
    pid, pidfd = _launch(given, found, container, streams, front.theirs.fileno(), terminal_type())
    front.close_theirs()
    try:
        front.run(pidfd, lambda: True, _end)
    except _Ended as ended:
        return 128 + ended.number  # the command loses its terminal (SIGHUP), and then its parent (SIGKILL)
    return _exit_status(pid)


class _Ended(Exception):
    """This process was told to end, by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _end(number: int) -> None:
    raise _Ended(number)


def _launch(
    given: Given, found: dict[str, Any], container: int, streams: tuple[int, ...], front: int, term: str
) -> tuple[int, int]:
    """Clone the process that becomes the command: (pid, pidfd). Raises HakoError when it does not."""
    definition = found["definition"]
    environ = {"PATH": program.DEFAULT_PATH, "TERM": term, "container": "hakoniwa", **definition["environ"]}
    chroot = os.open(f"/proc/{found['init']['pid']}/root", os.O_PATH | os.O_CLOEXEC)
    flags = namespaces_apart(found["init"]["pid"])
    join = JoinNamespaces(pidfd=container, flags=flags, chroot=chroot)
    steps = _plan(given, found, join, streams)
    prctl.become_undumpable()
    own = os.pidfd_open(os.getpid())
    reader, writer = os.pipe2(os.O_CLOEXEC)
    groups = [*found["cgroups"], *([found["assigned_cgroup"]] if found["assigned_cgroup"] else [])]
    *joining, unified = open_groups(groups) if groups else [-1]
    try:
        pid, pidfd = join.clone(None if unified == -1 else unified)
    except OSError as error:
        raise HakoError(f"cannot join container {found['name']!r}: {error.strerror}") from None
    if pid == 0:
        context = Context(supervisor=own, status=writer, environ=environ)
        if streams:
            context.front = lambda master: child.send_master(front, master)
        child.become(lambda: [JoinGroups(files=tuple(joining)), *steps], context, {container, chroot, front, *joining})
    os.close(writer)
    report = b""
    while more := os.read(reader, 65536):
        report += more
    command = given.argv or ("a shell",)
    facts, failure = child.read_report(report, command[0])
    if failure is None and "executed" not in facts:
        failure = HakoError("the container has just ended")
    if failure is not None:
        os.waitpid(pid, 0)
        failure.where = failure.where or found["name"]
        raise failure
    return pid, pidfd


def _plan(given: Given, found: dict[str, Any], join: JoinNamespaces, streams: tuple[int, ...]) -> list[Step]:
    """What an attached command goes through: the container's own restrictions, in the same order."""
    definition = found["definition"]
    user, group = given.value("user"), given.value("group")
    limits = tuple(Limit(**limit) for limit in definition["limits"])
    held, guarded = _capabilities(given, found), definition["no_new_privs"]
    filters = _filters(found, held)
    return [
        *scheduling_steps(Scheduling(**definition["scheduling"])),  # while /proc is the host's
        join,
        identity.JoinKeyring(),
        identity.FindAccount(
            uid=_id(user) if user else definition["uid"],
            gid=_id(group) if group else None if user else definition["gid"],
            groups=() if user else tuple(definition["groups"]),
        ),
        *([devices.OpenTerminal(streams=streams, instance=found["devpts"])] if streams else []),
        *([identity.SetLimits(limits=limits)] if limits else []),
        *([identity.PutFiltersInForce(filters=filters)] if filters and not guarded else []),
        identity.BecomeUser(capabilities=held, no_new_privs=guarded, groups_asked=bool(definition["groups"])),
        identity.DieWithSupervisor(),
        program.EnterWorkdir(path=definition["workdir"]),
        program.Execute(
            command=given.argv,
            init=None,
            apparmor=definition["apparmor"],
            filters=filters if guarded else (),
            where=found["name"],
        ),
    ]


def _filters(found: dict[str, Any], held: int) -> tuple[bytes, ...]:
    """The container's seccomp programs; made anew for other capabilities, since the profile depends on them."""
    kept = programs.kept(found["filters"]) if held == found["capabilities"] else None
    if kept is None:
        from hakoniwa.seccomp.described import described_by

        definition = found["definition"]
        wanted = described_by(definition["seccomp"])
        kept = programs.programs_for(wanted, held, no_new_privs=definition["no_new_privs"])
    return tuple(program.content for program in kept)


def _id(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _capabilities(given: Given, found: dict[str, Any]) -> int:
    """The container's own, with -A and without -D."""
    bits: int = found["capabilities"]
    allowed = _names("-A", given.value("allow"), _held(found))
    lacking = capabilities.names(allowed & ~_held(found))
    if lacking:
        raise HakoError(f"capability {lacking[0]!r} is not held by the caller", where="-A")
    return (bits | allowed) & ~_names("-D", given.value("drop"), _held(found))


def _held(found: dict[str, Any]) -> int:
    """What can be given at most: in a user namespace, everything there is."""
    return capabilities.every() if found["user_namespace"] else capabilities.held()


def _names(option: str, text: str | None, held: int) -> int:
    bits = 0
    for word in (text or "").replace(",", " ").split():
        try:
            bits |= held if word == "all" else capabilities.mask([capabilities.normal(word)])
        except ValueError:
            raise HakoError(
                f"capability {word!r} is unknown", where=option, hint=nearest(word, capabilities.NAMES)
            ) from None
    return bits
