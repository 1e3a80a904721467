"""Who has the lock of a container or a barn, if it is not free: somebody who lives, or the kernel on behalf of one who has gone.

A process lets go of its lock late in its end, after its descriptors are closed and its mount namespace is taken apart (`do_exit`
in kernel/exit.c: `exit_task_work`). Until then it is held, though nobody is seen to have it open. No event tells that but the
lock itself.
"""

from __future__ import annotations

import os
import select
import time

from hakoniwa.kernel.filesystem.files import held_locks, lock_name
from hakoniwa.kernel.processes.pidfd import is_ending
from hakoniwa.known import state
from hakoniwa.known.statefile import ALIVE, Damaged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LETTING_GO = 10.0  # seconds that a process that has gone may have its lock for
_MOMENT = 0.005  # between two looks


def take_lock(name: str, until: float | None = None) -> int:
    """The lock of a container; waited for, until some time of `time.monotonic` at most, if its supervisor has gone. Raises state.Busy."""
    return take_when_let_go(lambda: state.take_lock(name), lambda: _supervisor_lives(name), until)


def take_when_let_go(take: Callable[[], int], is_used: Callable[[], bool], until: float | None = None) -> int:
    """A lock that `take` takes; waited for if who has taken it has gone, and `is_used` tells of nobody else. Raises state.Busy."""
    until = time.monotonic() + LETTING_GO if until is None else until
    while True:
        try:
            return take()
        except state.Busy as busy:
            if time.monotonic() > until or _is_taken(busy.path) or is_used():
                raise
        select.select([], [], [], _MOMENT)


def _is_taken(path: str) -> bool:
    """Whether a process that lives has taken a lock. If it cannot be told, somebody has."""
    try:
        file = lock_name(path)
        takers = [int(pid) for pid, other in map(str.split, held_locks()) if other == file]
    except FileNotFoundError:
        return False  # it was removed
    except OSError:
        return True
    # /proc/locks does not have one whose pid is nobody's here any more. `man 5 proc_locks`
    return not all(map(is_ending, takers))


def _supervisor_lives(name: str) -> bool:
    try:
        known = state.read(name)
    except Damaged:
        return False  # then who has taken the lock tells alone
    return known is not None and known.status in ALIVE and not is_ending(known.supervisor_pid)


def told(busy: state.Busy) -> str:
    """Who has a lock, in words."""
    try:
        file = lock_name(busy.path)
        takers = sorted(int(pid) for pid, other in map(str.split, held_locks()) if other == file)
    except OSError:
        takers = []
    living = [pid for pid in takers if os.path.exists(f"/proc/{pid}") and not is_ending(pid)]
    return f"process {living[0]} has its lock" if living else "its lock is held, and who has taken it has gone"
