"""Processes held by pidfd: an identity that a recycled pid cannot fake, and waiting for the end. `man 2 pidfd_open`."""

from __future__ import annotations

import os

from hakoniwa.kernel.files import read_file
from hakoniwa.record import Record


def boot_id() -> str:
    """What differs from boot to boot: a pid of an earlier boot is nobody's. `man 5 proc_sys_kernel`."""
    return read_file("/proc/sys/kernel/random/boot_id").decode().strip()


def start_time(pid: int) -> int:
    """When `pid` started, in clock ticks since boot (field 22 of `man 5 proc_pid_stat`). Raises ProcessLookupError."""
    try:
        # The second field, the name, may hold spaces and parentheses; none follow the last ")".
        return int(read_file(f"/proc/{pid}/stat").rpartition(b")")[2].split()[19])
    except FileNotFoundError:
        raise ProcessLookupError(3, "no such process", str(pid)) from None


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal, or by one that traces it (field 3 of `man 5 proc_pid_stat`)."""
    try:
        return read_file(f"/proc/{pid}/stat").rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (FileNotFoundError, ProcessLookupError):
        return False


class Identity(Record):
    """A process, told from any later one with the same pid."""

    pid: int
    started: int
    boot: str

    def open(self) -> int | None:
        """A pidfd of this very process, or None when it has ended."""
        if self.pid <= 0 or self.boot != boot_id():
            return None
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        try:
            # Read after the pidfd was taken: it holds the pid, so both speak of the same process.
            if start_time(self.pid) == self.started and not has_ended(pidfd):
                return pidfd
        except ProcessLookupError:
            pass
        os.close(pidfd)
        return None

    def lives(self) -> bool:
        """Whether the process has not ended."""
        pidfd = self.open()
        if pidfd is None:
            return False
        os.close(pidfd)
        return True


def identify(pid: int) -> Identity:
    """The identity of a living process. Raises ProcessLookupError."""
    return Identity(pid=pid, started=start_time(pid), boot=boot_id())


def has_ended(pidfd: int) -> bool:
    """Whether the process has ended, reaped or not."""
    return wait_end(pidfd, 0)


def wait_end(pidfd: int, seconds: float | None) -> bool:
    """Wait until the process has ended, for `seconds` at most (None: for ever)."""
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


def handles(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal; the first one of a pid namespace ignores all others."""
    try:
        for line in read_file(f"/proc/{pid}/status").splitlines():
            if line.startswith(b"SigCgt:"):
                return bool(int(line[7:], 16) >> (number - 1) & 1)
    except FileNotFoundError:
        pass
    return False
