"""`hako kill`: end a container, or send it a signal."""

from __future__ import annotations

import os

from hakoniwa import log, state
from hakoniwa.commands.selection import ALL, PID, NothingKnown, selected
from hakoniwa.errors import HakoError, nearest
from hakoniwa.kernel import signals
from hakoniwa.kernel.pidfd import has_ended, is_stopped, takes, wait_end
from hakoniwa.options import NAME, Command, Given, Option, usage_error
from hakoniwa.statefile import Made, State

COMMAND = Command(
    name="kill",
    summary="End a container: TERM, wait, then KILL; at once KILL when TERM would be ignored.",
    options=(
        NAME,
        PID,
        ALL,
        Option(flags=("-s", "--signal"), value="SIG", help="only send this signal (then wait and KILL only with -T)"),
        Option(flags=("-T", "--timeout"), value="SECONDS", help="how long to wait before KILL (10); -1 never waits"),
        Option(flags=("--supervisor",), help="address the supervisor"),
    ),
    by_name=True,
)

_GRACE = 10.0
_CLEANING = 40.0  # seconds that a supervisor may take for its last hooks (30 each at most) and for removing things


def run(given: Given) -> int:
    """Send, wait, kill, wait for the supervisor to have removed everything."""
    timeout, number = _timeout(given), _signal(given)
    found = _known(given)
    cleared = [what for known in found if known.status == "dead" for what in _clear(known.name)]
    targets = [known for known in found if known.status == "running"]
    if not targets:
        log.write("nothing is running")
        for what in cleared:
            log.write(f"cleared what a killed supervisor had left: {what}")
        return 0
    ended = [_Target(found) for found in targets]
    for target in ended:
        target.send(number, to_supervisor=given.flag("supervisor"))
    failed = False
    for target in ended:
        failed = not target.finish(given, timeout) or failed
    if not failed and not _only_sends(given, timeout):
        _wait_for_barns(targets)
    return 125 if failed else 0


def _known(given: Given) -> list[State | Made]:
    """What the command line means; that its file has made nothing is no failure here."""
    try:
        return selected(given, "kill")
    except NothingKnown:
        return []


def _clear(name: str) -> list[str]:
    try:
        lock = state.take_lock(name)
    except state.Busy:
        return []
    try:
        return state.clear_leftovers(name)
    finally:
        state.release(name, lock)


def _only_sends(given: Given, timeout: float) -> bool:
    return timeout == -1 or (given.value("signal") is not None and given.value("timeout") is None)


def _wait_for_barns(ended: list[State]) -> None:
    """Where the last container of a background barn was ended, wait for the barn's own last hooks."""
    running = [known for known in state.every(recorded=False, tell=False) if known.status == "running"]
    for found in ended:
        if found.log is None or found.barn_process is None:
            continue
        if any(known.barn_process == found.barn_process for known in running):
            continue
        barn = state.identity(found, "barn_process").open()
        if barn is not None:
            wait_end(barn, _CLEANING)
            os.close(barn)


def _timeout(given: Given) -> float:
    text = given.value("timeout")
    if text is None:
        return _GRACE
    try:
        seconds = float(text)
    except ValueError:
        raise usage_error(f"-T takes seconds, not {text!r}", "kill") from None
    if not (seconds == -1 or 0 <= seconds < 1e6):
        raise usage_error(f"-T takes seconds from 0 on, or -1, not {text!r}", "kill")
    return seconds


def _signal(given: Given) -> int | None:
    text = given.value("signal")
    if text is None:
        return None
    try:
        return signals.by_name(text)
    except ValueError:
        raise usage_error(f"signal {text!r} is unknown", "kill", nearest(text, signals.names())) from None


class _Target:
    """One container that is to end."""

    def __init__(self, found: State) -> None:
        self.name = found.name
        self.has_pid_namespace = "pid" in found.definition.namespaces.own
        self.init_pid = found.init.pid
        self.init = state.identity(found).open()
        self.supervisor = state.identity(found, "supervisor").open()
        self._supervisor_pid = found.supervisor.pid
        self._cgroups = found.cgroups

    def send(self, number: int | None, *, to_supervisor: bool) -> None:
        """The first signal: `number`, or where it is None what ends the container."""
        addressed = self.supervisor if to_supervisor else self.init
        if addressed is None:
            return
        if number is None:
            number = signals.SIGTERM
            ignored = self.has_pid_namespace and not takes(self.init_pid, number)
            if not to_supervisor and ignored:
                number = signals.SIGKILL
        if number == signals.SIGKILL:
            self._thaw()
        _send(addressed, number)

    def _thaw(self) -> None:
        """Not even KILL reaches the processes of a frozen v1 cgroup."""
        from hakoniwa.kernel.cgroup import v1

        for path in self._cgroups:
            v1.thaw(path)

    def finish(self, given: Given, timeout: float) -> bool:
        """Wait and kill as promised. False when the container could not be ended."""
        if _only_sends(given, timeout):
            return True
        # A supervisor that was asked to end waits by itself before it kills, and is given the time for that.
        if self.init is not None and not wait_end(self.init, timeout):
            self._thaw()
            _send(self.init, signals.SIGKILL)
            wait_end(self.init, None)
        if self.supervisor is None:
            return True
        pid = self._supervisor_pid
        if not has_ended(self.supervisor) and is_stopped(pid):
            log.write(f"{self.name}: the supervisor is stopped, and clears nothing (kill -CONT {pid})", "error")
            return False
        if not wait_end(self.supervisor, _CLEANING):
            log.write(f"{self.name}: the supervisor has not ended yet (its pid is {pid})", "error")
            return False
        return True


def _send(pidfd: int, number: int) -> None:
    try:
        signals.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass
    except OSError as error:
        raise HakoError(f"cannot send signal {number}: {os.strerror(error.errno or 0)}") from None
