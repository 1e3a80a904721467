"""`hako attach`: a command, or a shell, inside a running container, with everything that the container is held to."""

from __future__ import annotations

import os

from hakoniwa import log, state
from hakoniwa.commands.selection import PID, alive
from hakoniwa.errors import HakoError
from hakoniwa.kernel import capabilities, signals
from hakoniwa.kernel.files import wait_readable
from hakoniwa.options import NAME, Command, Given, Option, usage_error
from hakoniwa.plan.container import Filtered, scheduling_steps, when_filtered
from hakoniwa.run.process.exec import Exec
from hakoniwa.seccomp import programs
from hakoniwa.statefile import State
from hakoniwa.steps import devices, identity, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.steps.step import Step

COMMAND = Command(
    name="attach",
    summary="Run a command, or a shell, inside a running container.",
    options=(
        NAME,
        PID,
        Option(flags=("-A", "--allow"), value="CAPS", help="give these capabilities too (with commas between them)"),
        Option(flags=("-D", "--drop"), value="CAPS", help="take these capabilities away"),
        Option(flags=("-u", "--uid", "--user"), value="U", help="as this user of the container"),
        Option(flags=("-g", "--gid", "--group"), value="G", help="as this group of the container"),
    ),
    takes_argv=True,
    by_name=True,
)


def run(given: Given) -> int:
    """Join the one container that is meant."""
    found = _the_running_one(given)
    container = state.identity(found).open()
    if container is None:
        raise HakoError(f"container {found.name!r} has just ended")
    streams = tuple(number for number in (0, 1, 2) if os.isatty(number))
    executing = Exec(found, container)
    if streams:
        return _attach_with_terminal(given, found, executing, streams)
    pid, pidfd = _launch(given, found, executing, (), "dumb")
    wakeup = signals.listen(signals.ending())
    asked = False
    while pidfd not in wait_readable(pidfd, wakeup):
        for number in signals.take(wakeup):
            signals.pidfd_send_signal(pidfd, number)
            asked = True
    return _exit_status(pid, executing, wakeup, asked=asked)


def _the_running_one(given: Given) -> State:
    running = alive(given, "attach")
    if len(running) > 1:
        names = " ".join(found.name for found in running)
        raise HakoError(f"several containers run: {names}", where=given.file or "", hint="choose one with -n NAME")
    return running[0]


def _exit_status(pid: int, executing: Exec, wakeup: int, *, asked: bool = False) -> int:
    """Wait for the end. Raises HakoError when the command has succeeded, and not all that it has written has arrived."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    for error in executing.streams.finish(wakeup, asked=asked):
        if code == 0:
            raise error
        log.write(str(error), "error")
    return code if code >= 0 else 128 - code


def _attach_with_terminal(given: Given, found: State, executing: Exec, streams: tuple[int, ...]) -> int:
    from hakoniwa.run.barn.foreground import terminal_type
    from hakoniwa.run.terminal.front import UserTerminal
    from hakoniwa.run.terminal.guard import guard_terminal

    front = UserTerminal(streams)
    guard_terminal(front)  # before the pid namespace is joined: a later child would be inside
    executing.front = front.theirs.fileno()
    pid, pidfd = _launch(given, found, executing, streams, terminal_type())
    front.close_theirs()
    wakeup = signals.listen((*signals.ending(), signals.SIGWINCH))
    try:
        front.run(wakeup, pidfd, lambda: True, _end)
    except _Ended as ended:
        return 128 + ended.number  # the command loses its terminal (SIGHUP), and then its parent (SIGKILL)
    return _exit_status(pid, executing, wakeup)


class _Ended(Exception):
    """This process was told to end, by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _end(number: int) -> None:
    raise _Ended(number)


def _launch(given: Given, found: State, executing: Exec, streams: tuple[int, ...], term: str) -> tuple[int, int]:
    """Have a process become the command: (pid, pidfd). Raises HakoError when it does not."""
    environ = {"PATH": program.DEFAULT_PATH, "TERM": term, "container": "hakoniwa", **found.definition.process.environ}
    outside = scheduling_steps(found.definition.resources.scheduling, {})
    (command, *_) = given.argv or ("a shell",)
    return executing.launch(outside, _plan(given, found, executing, streams), environ, command, streams)


def _plan(given: Given, found: State, executing: Exec, streams: tuple[int, ...]) -> list[Step]:
    """What an attached command goes through: the container's own restrictions, in the same order."""
    definition = found.definition
    user, group = _id(given, "user", "-u"), _id(given, "group", "-g")
    asked = user is not None
    # Without -g, the groups follow from the user that -u names.
    places = dict.fromkeys(("uid", "gid", "groups"), "-u") if asked else {}
    places |= {"gid": "-g"} if group is not None else {}
    held, guarded = _capabilities(given, found), definition.security.no_new_privs
    filtered = _filtered(found, held)
    return [
        identity.JoinKeyring(),
        identity.FindAccount(
            uid=user if asked else definition.process.uid,
            gid=group if group is not None or asked else definition.process.gid,
            groups=() if asked else definition.process.groups,
            places=places,
        ),
        *([devices.OpenTerminal(streams=streams, instance=found.devpts)] if streams else []),
        devices.TakeNull(),
        *([identity.SetLimits(limits=definition.resources.limits)] if definition.resources.limits else []),
        *filtered.early,
        identity.BecomeUser(
            capabilities=held,
            no_new_privs=guarded,
            groups_asked=bool(definition.process.groups) and not asked,
            places=places,
        ),
        identity.DieWithSupervisor(),
        program.EnterWorkdir(path=definition.process.workdir),
        *(executing.receive_attributes() if definition.security.apparmor else []),
        *filtered.late,
        program.Execute(
            command=given.argv,
            init=None,
            apparmor=definition.security.apparmor,
            filters=filtered.last,
            where=found.name,
        ),
    ]


def _filtered(found: State, held: int) -> Filtered:
    """The container's seccomp programs; made anew for other capabilities, since the profile depends on them."""
    definition = found.definition
    kept = programs.kept(found.filters) if held == found.capabilities else None
    if kept is None:
        kept = programs.programs_for(definition.security.seccomp, held, no_new_privs=definition.security.no_new_privs)
    return when_filtered(kept, definition.security.seccomp.profile, no_new_privs=definition.security.no_new_privs)


def _id(given: Given, option: str, shown: str) -> int | str | None:
    """The user or group of an option, by number or by name; None where it was not given."""
    text = given.value(option)
    if text is None:
        return None
    from hakoniwa.haco import checks
    from hakoniwa.haco.section import short

    try:
        number = text.isascii() and text.lstrip("+-").isdecimal()
        return checks.user((int(text) if len(text) < 20 else -1) if number else text)
    except checks.Wrong as wrong:
        raise usage_error(f"must be {wrong}, not {short(text)}", shown) from None


def _capabilities(given: Given, found: State) -> int:
    """The container's own, with -A and without -D."""
    bits = found.capabilities
    allowed = _names("-A", given.value("allow"), _held(found))
    lacking = capabilities.names(allowed & ~_held(found))
    if lacking:
        raise HakoError(f"capability {lacking[0]!r} is not held by the caller", where="-A")
    return (bits | allowed) & ~_names("-D", given.value("drop"), _held(found))


def _held(found: State) -> int:
    """What can be given at most: in a user namespace, everything there is."""
    return capabilities.every() if found.user_namespace else capabilities.held()


def _names(option: str, text: str | None, held: int) -> int:
    bits = 0
    words = (text or "").replace(",", " ").split()
    if text is not None and not words:
        raise usage_error("names no capability", option)
    for word in words:
        try:
            bits |= held if word == "all" else capabilities.mask([capabilities.normal(word)])
        except ValueError:
            hint = capabilities.suggest(word)
            raise usage_error(f"capability {word!r} is unknown", option, hint) from None
    return bits
