"""What is known of a container at run time: a folder in the run directory with its state and its lock.

The lock is held by the supervisor for as long as the container runs. Whoever gets it knows that no supervisor lives, and
may clear what one has left behind.
"""

from __future__ import annotations

import fcntl
import os

from hakoniwa import fastjson
from hakoniwa.errors import HakoError
from hakoniwa.hostpaths import remove_file
from hakoniwa.kernel.pidfd import Identity, wait_end
from hakoniwa.kernel.signals import SIGKILL, pidfd_send_signal
from hakoniwa.places import ensure_private, lib_dir, log_dir, run_dir
from hakoniwa.trust import check_folder, read_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEMA = 1
_STATE, _LOCK, _RECORDS = "state.json", "lock", ".containers"
_DYING = 10.0  # seconds that the processes of a killed container may take to vanish


class Busy(Exception):
    """Somebody else holds the lock."""


def folder_of(name: str) -> str:
    """Where the state of a container lies."""
    return os.path.join(run_dir(), name)


def log_file(name: str) -> str:
    """The log of a container."""
    return os.path.join(log_dir(), f"{name}.log")


def take_lock(name: str) -> int:
    """The lock of a container, as a descriptor that holds it until it is closed. Raises Busy."""
    folder = folder_of(name)
    while True:
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            check_folder(folder)
        except FileNotFoundError:
            ensure_private(run_dir())
            continue
        lock = _lock_file(os.path.join(folder, _LOCK))
        if lock is not None:
            return lock


def take_barn_lock(name: str) -> int:
    """The lock of a barn that has hooks of its own, which must not run for a start that others have won. Raises Busy."""
    ensure_private(run_dir())
    while True:
        lock = _lock_file(barn_lock_file(name))
        if lock is not None:
            return lock


def barn_lock_file(name: str) -> str:
    """Where it lies; whoever holds it removes it."""
    return os.path.join(run_dir(), f".{name}.barn")


def _lock_file(path: str) -> int | None:
    """Lock a file, made where it is missing; None when `rm` has taken it away in between. Raises Busy."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), os.stat(path)):
            return lock
    except BlockingIOError:
        os.close(lock)
        raise Busy(path) from None
    except FileNotFoundError:
        pass
    os.close(lock)
    return None


def release(name: str, lock: int) -> None:
    """Let go of the lock; a folder in which nothing was written down goes with it."""
    if os.listdir(folder_of(name)) == [_LOCK]:
        forget(name, lock)
    else:
        os.close(lock)


def forget(name: str, lock: int) -> None:
    """Remove the state of a container, whose lock is held; the lock goes last."""
    folder = folder_of(name)
    for entry in sorted(os.listdir(folder), key=lambda entry: entry == _LOCK):
        os.unlink(os.path.join(folder, entry))
    os.rmdir(folder)
    os.close(lock)


def write(name: str, state: dict[str, Any]) -> None:
    """Replace the state, whole or not at all."""
    _replace(os.path.join(folder_of(name), _STATE), fastjson.dumps({"schema": SCHEMA, **state}))


def _replace(path: str, text: str) -> None:
    new = f"{path}.new"
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        content = text.encode()
        while content:
            content = content[os.write(file, content) :]
    finally:
        os.close(file)
    # Not over the old one: ext4 would wait for the new content to reach the disk (auto_da_alloc in `man 5 ext4`).
    # In between there is only the complete new one, which `_read` takes as well.
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    os.rename(new, path)


def _read(path: str) -> dict[str, Any] | None:
    """A JSON file, or None where there is none that can be understood."""
    for candidate in (path, f"{path}.new", path):
        try:
            value = fastjson.loads(read_own(candidate).decode())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            continue
        if isinstance(value, dict) and value.get("schema") == SCHEMA:
            return value
    return None


def read(name: str) -> dict[str, Any] | None:
    """The state of a container, with `status` as it is now, or None where it has none."""
    state = _read(os.path.join(folder_of(name), _STATE))
    if state is not None and state["status"] == "running" and not _runs(state):
        state["status"] = "dead"  # its supervisor was killed: nobody wrote down how it ended
    return state


def _runs(state: dict[str, Any]) -> bool:
    """Whether the supervisor lives. Without one, the container is being killed by its parent-death signal."""
    return identity(state, "supervisor").lives()


def identity(state: dict[str, Any], who: str = "init") -> Identity:
    """The identity of the container's first process, or of its `supervisor`."""
    return Identity(boot=state["boot_id"], **state[who])


def names() -> list[str]:
    """The containers that have a state."""
    try:
        return sorted(entry for entry in os.listdir(run_dir()) if not entry.startswith("."))
    except FileNotFoundError:
        return []


def clear_leftovers(name: str) -> list[str]:
    """End and remove what a killed supervisor has left; the lock is held. Returns what was cleared, in words."""
    state = _read(os.path.join(folder_of(name), _STATE))
    if state is None or state["status"] != "running":
        return []
    cleared = []
    pidfd = identity(state).open()
    if pidfd is not None:
        pidfd_send_signal(pidfd, SIGKILL)
        wait_end(pidfd, _DYING)
        os.close(pidfd)
        cleared.append(f"process {state['init']['pid']}")
    from hakoniwa.kernel import cgroup

    left = [("cgroup", path, cgroup.remove) for path in state["cgroups"]]
    if state["pid_file"]:
        left.append(("file", state["pid_file"], remove_file))
    for what, path, remove in left:
        try:
            remove(path)
            cleared.append(f"{what} {path}")
        except OSError as error:
            if error.errno not in (2, 40):  # ENOENT; ELOOP: the container has put a symlink on the way
                raise
    write(name, {**{key: value for key, value in state.items() if key != "schema"}, "status": "dead"})
    return cleared


# Records: what was created, kept across reboots, so that `rm` and `inspect` need not execute the file.


def _record_path(name: str) -> str:
    return os.path.join(lib_dir(), _RECORDS, f"{name}.json")


def write_record(name: str, record: dict[str, Any]) -> None:
    """Remember a container whose rootfs was made."""
    ensure_private(lib_dir())
    ensure_private(os.path.join(lib_dir(), _RECORDS))
    _replace(_record_path(name), fastjson.dumps({"schema": SCHEMA, **record}))


def read_record(name: str) -> dict[str, Any] | None:
    """What was written when the rootfs was made."""
    return _read(_record_path(name))


def remove_record(name: str) -> None:
    """Forget that a rootfs was made."""
    try:
        os.unlink(_record_path(name))
    except FileNotFoundError:
        pass


def recorded_names() -> list[str]:
    """The containers whose rootfs was made here."""
    try:
        entries = os.listdir(os.path.join(lib_dir(), _RECORDS))
    except FileNotFoundError:
        return []
    return sorted(entry.removesuffix(".json") for entry in entries if entry.endswith(".json"))


def known(name: str) -> dict[str, Any] | None:
    """The state of a container, or where it has none its record as a state."""
    state = read(name)
    if state is not None:
        return state
    record = read_record(name)
    return None if record is None else {**record, "status": "created"}


def select(file: str | None, name: str | None) -> list[dict[str, Any]]:
    """The known containers that a command means: of a file (by its real path), of a name, or of both.

    Raises HakoError when there is none.
    """
    if name is not None:
        from hakoniwa.dsl.checks import Wrong
        from hakoniwa.dsl.checks import name as check_name

        try:
            state = known(check_name(name))
        except Wrong as wrong:
            raise HakoError(f"a name must be {wrong}, not {name!r}") from None
        if state is None:
            raise HakoError(f"no container {name!r} is known", hint="hako ps --all lists them")
        return [state]
    assert file is not None
    real = os.path.realpath(file)
    every = (known(entry) for entry in sorted({*names(), *recorded_names()}))
    found = [state for state in every if state is not None and state["file"] == real]
    if not found:
        raise HakoError("no container of this file is known", where=file, hint=f"hako start {file}, or -n NAME")
    return found
