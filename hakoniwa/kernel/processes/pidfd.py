"""Processes held by pidfd: an identity that a recycled pid cannot fake, and waiting for the end. `man 2 pidfd_open`."""

from __future__ import annotations

import errno
import os

from hakoniwa.kernel.filesystem.files import read_file, wait_readable
from hakoniwa.record import Record

# How often a process is looked at, which may be on its way into or out of a system call; looks in a row that show nothing
# of the kind are enough; how long to wait for one that is running, in seconds.
_LOOKS, _ENOUGH, _MOMENT = 50, 3, 0.001
# The number of rt_sigtimedwait, and for 32-bit programs also that of its variant with 64-bit times.
_WAITING = {"x86_64": (b"128", b"177", b"421"), "aarch64": (b"137", b"177", b"421")}

_EXITING = 0x4  # PF_EXITING in include/linux/sched.h; a zombie has it, too

_boot = ""  # once it was read


def boot_id() -> str:
    """What differs from boot to boot: a pid of an earlier boot is nobody's. `man 5 proc_sys_kernel`."""
    global _boot
    _boot = _boot or read_file("/proc/sys/kernel/random/boot_id").decode().strip()
    return _boot


def start_time(pid: int) -> int:
    """When `pid` started, in clock ticks since boot (field 22 of `man 5 proc_pid_stat`). Raises ProcessLookupError."""
    try:
        # The second field, the name, may hold spaces and parentheses; none follow the last ")".
        return int(read_file(f"/proc/{pid}/stat").rpartition(b")")[2].split()[19])
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, "no such process", str(pid)) from None


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal, or by one that traces it (field 3 of `man 5 proc_pid_stat`)."""
    try:
        return read_file(f"/proc/{pid}/stat").rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_ending(pid: int) -> bool:
    """Whether a process has ended, or is at its end and executes nothing any more (field 9 of `man 5 proc_pid_stat`)."""
    try:
        fields = read_file(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return bool(int(fields[6]) & _EXITING)


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
    return bool(wait_readable(pidfd, seconds=seconds))


def takes(pid: int, number: int, *, first: bool = True) -> bool:
    """Whether the kernel keeps a signal for a process; it drops it for the first one of a pid namespace that does not.

    `first` is False if it may be no such process: then it is looked at, and one that is none takes every signal.

    That is asked of the main thread alone (`sig_ignored` in kernel/signal.c): there is a handler, or the thread blocks the
    signal, which somebody then takes by `signalfd` or `sigwait`, or it is in `rt_sigtimedwait`, which unblocks the signal
    meanwhile, as /proc/PID/syscall tells (`man 5 proc_pid_syscall`).
    """
    try:
        return _is_seen_to_take(pid, number, first)
    except (FileNotFoundError, ProcessLookupError):
        return False  # it has ended
    except OSError:
        return True  # it cannot be looked at, or no descriptor is left to look with: nothing speaks against it


def _is_seen_to_take(pid: int, number: int, first: bool) -> bool:
    import time

    negative = 0
    for _ in range(_LOOKS):
        status = read_file(f"/proc/{pid}/status").splitlines()
        if _keeps(status, number) or not (first or _is_first(status)):
            return True
        call, *arguments = read_file(f"/proc/{pid}/syscall").split()
        if call == b"running":
            time.sleep(_MOMENT)  # woken up, maybe, and not out of that call yet
            continue
        if call in _WAITING.get(os.uname().machine, ()) and _has(pid, int(arguments[0], 16), number):
            return True
        negative += 1
        if negative == _ENOUGH:
            break
    return False


def _keeps(status: list[bytes], number: int) -> bool:
    """Whether a signal is caught or blocked. `man 5 proc_pid_status`."""
    masks = [int(line[7:], 16) for line in status if line.startswith((b"SigCgt:", b"SigBlk:"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def _is_first(status: list[bytes]) -> bool:
    """Whether a process is the first of a pid namespace below ours. `man 5 proc_pid_status`, NSpid."""
    return any(line.startswith(b"NSpid:") and line.split()[2:] and line.split()[-1] == b"1" for line in status)


def _has(pid: int, address: int, number: int) -> bool:
    """Whether the set of signals at an address of a process, of eight bytes (`man 2 rt_sigtimedwait`), has one."""
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return bool(int.from_bytes(os.pread(memory, 8, address), "little") >> (number - 1) & 1)
    except OSError:
        return False  # the call has returned, and its memory is gone
    finally:
        os.close(memory)
