"""The use case `end`: end running containers, or send them a signal; and clear what one that was lost has left."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem.files import wait_readable
from hakoniwa.kernel.processes import signals
from hakoniwa.kernel.processes.pidfd import Identity, has_ended, is_stopped, takes, wait_end
from hakoniwa.known import OVER
from hakoniwa.known.glance import Running
from hakoniwa.places import folder_of
from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hakoniwa.known.statefile import ProcessRecord, State

GRACE = 10.0  # seconds between the first signal and KILL
_CLEANING = 40.0  # seconds that a supervisor may take for its last hooks (30 each at most) and for removing things


class Ending(Record):
    """How containers are to be ended."""

    signal: int | None = None  # the first one; None: TERM, or KILL at once if TERM would be dropped
    grace: float | None = GRACE  # seconds from it to KILL; None: nothing is waited for, and nobody killed
    supervisor: bool = False  # who gets it is the supervisor, and not the first process


def end(containers: Sequence[State | Running], ending: Ending) -> list[HakoError]:
    """End containers, all at the same time, and wait until what they had is removed. Returns why one could not be.

    Raises HakoError if a signal cannot be sent.
    """
    running = [found if isinstance(found, Running) else _running(found) for found in containers]
    targets = [_Target(found) for found in running]
    failures = []
    try:
        for target in targets:
            target.send(ending)
        if ending.grace is None:
            return []
        failures = [failure for target in targets if (failure := target.finish(ending.grace))]
    finally:
        for target in targets:
            target.close()
    if not failures:
        _wait_for_barns(running)
    return failures


def _running(found: State) -> Running:
    """What has to be known of a container to end it."""

    def identity(process: ProcessRecord) -> Identity:
        return Identity(pid=process.pid, started=process.started, boot=found.boot_id)

    return Running(
        name=found.name,
        barn=found.barn,
        init=identity(found.init),
        supervisor=identity(found.supervisor),
        barn_process=None if found.barn_process is None else identity(found.barn_process),
        cgroups=found.cgroups,
        background=found.log is not None,
    )


def clear(name: str) -> list[str]:
    """Clear what the killed supervisor of a container has left, unless another command is at it. Returns what that was."""
    from hakoniwa.known import state
    from hakoniwa.run import holders

    try:
        lock = holders.take_lock(name)
    except state.Busy:
        return []
    try:
        if state.has_ended(name):
            return []
        from hakoniwa.known import leftovers

        return leftovers.clear(name)
    finally:
        state.release(name, lock)


def _has_others(name: str, barn: Identity) -> bool:
    """Whether the process of a barn has containers that live."""
    from hakoniwa.known import listing
    from hakoniwa.known.statefile import ALIVE, ProcessRecord, State, said

    process = ProcessRecord(pid=barn.pid, started=barn.started)
    for status in ALIVE:
        for known in listing.every(recorded=False, tell=False, saying=said(status=status, barn=name)):
            if isinstance(known, State) and (known.status, known.barn_process) == (status, process):
                return True
    return False


def _wait_for_barns(ended: Sequence[Running]) -> None:
    """Once the last container of a background barn was ended, wait for the barn's own last hooks."""
    barns = {found.barn_process.pid: found for found in ended if found.background and found.barn_process}
    for found in barns.values():
        assert found.barn_process is not None
        if found.barn_process == found.supervisor:
            continue  # which has ended
        if _has_others(found.barn, found.barn_process) or _goes_on(found.barn):
            continue
        barn = found.barn_process.open()
        if barn is not None:
            wait_end(barn, _CLEANING)
            os.close(barn)


def _goes_on(barn: str) -> bool:
    """Whether a barn that has no container any more is kept."""
    from hakoniwa.run.barn import record

    known = record.read(barn)
    return known is not None and known.keep


class _Target:
    """One container that is to end."""

    def __init__(self, found: Running) -> None:
        self._found = found
        self._init = found.init.open()
        self._supervisor = found.supervisor.open()
        self._over = _open_fifo(os.path.join(folder_of(found.name), OVER))
        self._is_command = not found.background and found.supervisor == found.barn_process  # `hako start` itself

    def send(self, ending: Ending) -> None:
        """The first signal."""
        addressed = self._supervisor if ending.supervisor else self._init
        if addressed is None:
            return
        number = ending.signal
        if number is None:
            number = signals.SIGTERM
            if not ending.supervisor and self._drops(number):
                number = signals.SIGKILL
        if number == signals.SIGKILL:
            self._thaw()
        _send(addressed, number)

    def close(self) -> None:
        """Let go of its processes: the caller may live on."""
        for descriptor in (self._init, self._supervisor, self._over):
            if descriptor is not None:
                os.close(descriptor)

    def _drops(self, number: int) -> bool:
        """Whether the kernel keeps a signal from the first process, as it does in a pid namespace."""
        return not takes(self._found.init.pid, number, first=False)

    def _thaw(self) -> None:
        """Not even KILL reaches the processes of a frozen v1 cgroup."""
        if self._found.cgroups:
            from hakoniwa.kernel.cgroup import thaw

            thaw(self._found.cgroups)

    def finish(self, grace: float) -> HakoError | None:
        """Wait and kill as promised. Returns why the container could not be ended."""
        # A supervisor that was asked to end waits by itself before it kills, and is given the time for that.
        if self._init is not None and not wait_end(self._init, grace):
            self._thaw()
            _send(self._init, signals.SIGKILL)
            wait_end(self._init, None)
        if self._supervisor is None:
            return None
        name, pid = self._found.name, self._found.supervisor.pid
        if self._is_command:
            _send(self._supervisor, signals.SIGCONT)  # it may be a job that was stopped: as a shell's own `kill` does
        elif not has_ended(self._supervisor) and is_stopped(pid):
            told = "the supervisor is stopped, and clears nothing"
            return HakoError(told, where=name, hint=f"kill -CONT {pid}")
        if not self._wait_over(self._supervisor):
            return HakoError("the supervisor has not ended yet", where=name, hint=f"its pid is {pid}")
        return None

    def _wait_over(self, supervisor: int) -> bool:
        """Wait until the supervisor says that everything is undone, or has ended. False if that takes too long."""
        if self._over is None:
            return wait_end(supervisor, _CLEANING)
        ready = wait_readable(supervisor, self._over, seconds=_CLEANING)
        if self._over in ready and supervisor not in ready and not _has_been_told(self._over):
            return wait_end(supervisor, _CLEANING)
        return bool(ready)


def _open_fifo(path: str) -> int | None:
    """The FIFO that a supervisor writes to in the end, if it has one."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None


def _has_been_told(fifo: int) -> bool:
    """Whether something was written to a FIFO, and its writer was not just killed."""
    try:
        return bool(os.read(fifo, 1))
    except BlockingIOError:
        return False  # another `kill` has read it


def _send(pidfd: int, number: int) -> None:
    try:
        signals.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass
    except OSError as error:
        raise HakoError(f"cannot send signal {number}: {os.strerror(error.errno or 0)}") from None
