"""What a process asks the kernel for itself. `man 2 prctl`.

Not through python-prctl, which takes a twentieth of an interpreter start to load; builds use that.
"""

from __future__ import annotations

import os

from hakoniwa.kernel.libc import call
from hakoniwa.kernel.processes.signals import SIGKILL

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38


def die_with_parent() -> None:
    """Be killed when the thread that cloned this process ends. A change of credentials clears it. `man 2 prctl`."""
    _prctl(_PR_SET_PDEATHSIG, SIGKILL)


def end_with_parent(number: int) -> None:
    """Be sent a signal when the thread that made this process ends. `man 2 prctl`."""
    _prctl(_PR_SET_PDEATHSIG, number)


def forbid_new_privileges() -> None:
    """No execve grants anything any more: set-user-ID bits and file capabilities are without effect."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def become_undumpable() -> None:
    """Close /proc/PID of this process to everybody without cap_sys_ptrace, until the next execve."""
    _prctl(_PR_SET_DUMPABLE, 0)


class Dumpable:
    """For as long as it is entered, /proc/self belongs to who we are, and not to root. `man 5 proc_pid`."""

    def __enter__(self) -> None:
        _prctl(_PR_SET_DUMPABLE, 1)

    def __exit__(self, *failure: object) -> None:
        become_undumpable()


def adopt_orphans() -> None:
    """Be the parent of every orphaned descendant. `man 2 prctl`."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_name(name: str) -> None:
    """What `ps` shows for this process: 15 bytes at most. `man 5 proc_pid_comm`."""
    file = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    os.write(file, name.encode()[:15])
    os.close(file)


def _prctl(option: int, argument: int | bytes) -> None:
    call("prctl", option, argument, 0, 0, 0)
