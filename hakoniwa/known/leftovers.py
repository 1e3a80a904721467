"""What a killed supervisor has left of a container, and what is written of it and cannot be read: ended, and removed."""

from __future__ import annotations

import errno
import os

from hakoniwa import recordreader
from hakoniwa.errors import HakoError, joined
from hakoniwa.host.paths import remove_file
from hakoniwa.kernel.processes.pidfd import wait_end
from hakoniwa.kernel.processes.signals import SIGKILL, pidfd_send_signal
from hakoniwa.known import state
from hakoniwa.known.statefile import ENDED, Damaged, Later, State, load
from hakoniwa.places import networks_dir
from hakoniwa.record import Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DYING = 10.0  # seconds that the processes of a killed container may take to vanish


def clear(name: str) -> list[str]:
    """End and remove what a killed supervisor has left; the lock is held. Returns what was cleared, in words.

    Raises HakoError if something could not be.
    """
    if state.has_ended(name):
        return []
    path = state.state_file(name)
    try:
        value = load(name, path)
        if value is None or value.get("status") in ENDED:
            return _remove_left(name, (), None)
        known = recordreader.read(State, value)
    except (Unreadable, OSError):
        return clear_damaged(name)
    cleared = []
    pidfd = state.identity(known).open()
    if pidfd is not None:
        pidfd_send_signal(pidfd, SIGKILL)
        wait_end(pidfd, _DYING)
        os.close(pidfd)
        cleared.append(f"process {known.init.pid}")
    cleared += _remove_left(name, known.cgroups, known.pid_file)
    state.write(name, known.replace(status="dead"))
    return cleared


def clear_damaged(name: str) -> list[str]:
    """Remove the state if it cannot be read, and of what it is about, what can be told from it; the lock is held.

    Returns what was cleared, in words. Raises HakoError if something could not be.
    """
    path = state.state_file(name)
    try:
        state.read(name)
        return []
    except Later:
        raise
    except Damaged as damaged:
        problem = damaged.problem
    try:
        value = load(name, path)
    except (Unreadable, OSError):
        value = None
    left: list[Any] = []
    for field, otherwise in (("cgroups", ()), ("pid_file", None)):
        try:
            left.append(recordreader.read_field(State, field, value))
        except Unreadable:
            left.append(otherwise)
    cleared = _remove_left(name, *left)
    state.remove_state(name)
    return [*cleared, f"a state that could not be read: {problem}"]


def _remove_left(name: str, cgroups: tuple[str, ...], pid_file: str | None) -> list[str]:
    """Remove what was made outside of the container, what was noted alone included. Returns what was removed, in words.

    Raises HakoError.
    """
    from hakoniwa.kernel import cgroup  # most containers have none

    noted = state.noted(name)
    left = [("cgroup", path, cgroup.remove) for path in dict.fromkeys((*cgroups, *noted)) if path != networks_dir()]
    if pid_file:
        left.append(("file", pid_file, remove_file))
    cleared, problems = [], []
    if networks_dir() in noted:
        from hakoniwa.network.clearing import clear as clear_network

        cleared += clear_network(name)
    for what, path, remove in left:
        try:
            remove(path)
            cleared.append(f"{what} {path}")
        except OSError as error:
            # ELOOP: the container has put a symlink on the way.
            if error.errno not in (errno.ENOENT, errno.ELOOP):
                problems.append(HakoError(f"cannot remove the {what} {path}: {error.strerror}", where=name))
    if problems:
        raise joined(problems)
    state.strike_notes(name)
    return cleared


def clear_damaged_record(name: str) -> list[str]:
    """Remove the record if it cannot be read. Returns what was cleared, in words. Raises HakoError, OSError."""
    try:
        state.read_record(name)
        return []
    except Later:
        raise
    except Damaged as damaged:
        state.remove_record(name)
        return [f"a record that could not be read: {damaged.problem}"]
