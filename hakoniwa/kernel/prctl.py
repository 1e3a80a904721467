"""What python-prctl is used for, through its C core: its Python face builds some hundred properties when imported."""

from __future__ import annotations

import _prctl

from hakoniwa.kernel.signals import SIGKILL


def die_with_parent() -> None:
    """Be killed when the thread that cloned this process ends. A change of credentials clears it. `man 2 prctl`."""
    _prctl.prctl(_prctl.PR_SET_PDEATHSIG, SIGKILL)


def forbid_new_privileges() -> None:
    """No execve grants anything any more: set-user-ID bits and file capabilities are without effect."""
    _prctl.prctl(_prctl.PR_SET_NO_NEW_PRIVS, 1)


def become_undumpable() -> None:
    """Close /proc/PID of this process to everybody without cap_sys_ptrace, until the next execve."""
    _prctl.prctl(_prctl.PR_SET_DUMPABLE, 0)


class Dumpable:
    """For as long as it is entered, /proc/self belongs to who we are, and not to root. `man 5 proc_pid`."""

    def __enter__(self) -> None:
        _prctl.prctl(_prctl.PR_SET_DUMPABLE, 1)

    def __exit__(self, *failure: object) -> None:
        become_undumpable()


def adopt_orphans() -> None:
    """Be the parent of every orphaned descendant. `man 2 prctl`."""
    _prctl.prctl(_prctl.PR_SET_CHILD_SUBREAPER, 1)


def set_name(name: str) -> None:
    """What `ps` shows for this process: 15 bytes at most."""
    _prctl.prctl(_prctl.PR_SET_NAME, name[:15])
