"""What is known of a container at run time: a folder in the run directory with its state and its lock.

The lock is held by the supervisor for as long as the container runs. Whoever gets it knows that no supervisor lives, and
may clear what one has left behind.
"""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem.files import lock_file, replace_file, write_beside
from hakoniwa.kernel.processes.pidfd import Identity
from hakoniwa.known import RECORDS, STATE
from hakoniwa.known.statefile import (
    ALIVE,
    LOCK,
    Damaged,
    Made,
    ProcessRecord,
    State,
    ended,
    load,
    read_known,
    written,
)
from hakoniwa.places import ensure_private, folder_of, lib_dir, log_dir, run_dir
from hakoniwa.record import Unreadable
from hakoniwa.trust import check_entry, read_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec.records import Container


class Busy(Exception):
    """Somebody else holds the lock, a file."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def log_file(name: str) -> str:
    """The log of a container."""
    return os.path.join(log_dir(), f"{name}.log")


def remove_logs(name: str) -> None:
    """Remove the log of a container, or of a barn."""
    for path in (log_file(name), f"{log_file(name)}.1"):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass


def state_file(name: str) -> str:
    """The file that says how a container fares."""
    return os.path.join(folder_of(name), STATE)


def lock_path(name: str) -> str:
    """The file that the supervisor of a container has locked."""
    return os.path.join(folder_of(name), LOCK)


def take_lock(name: str) -> int:
    """The lock of a container, as a descriptor that holds it until it is closed. Raises Busy."""
    folder = folder_of(name)
    while True:
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            check_entry(folder)
        except FileNotFoundError:
            ensure_private(run_dir())
            continue
        lock = lock_file_alone(lock_path(name))
        if lock is not None:
            return lock


def lock_file_alone(path: str) -> int | None:
    """Lock a file, made if it is missing; None if somebody has taken it away in between. Raises Busy."""
    try:
        return lock_file(path)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        raise Busy(path) from None


def release(name: str, lock: int) -> None:
    """Let go of the lock; a folder in which nothing was written down goes with it."""
    if os.listdir(folder_of(name)) == [LOCK] and not os.fstat(lock).st_size:
        forget(name, lock)
    else:
        os.close(lock)


def forget(name: str, lock: int) -> None:
    """Remove the state of a container, whose lock is held."""
    forget_folder(folder_of(name), lock)


def forget_folder(folder: str, lock: int) -> None:
    """Remove a folder that the lock in it belongs to, which goes last."""
    for entry in sorted(os.listdir(folder), key=lambda entry: entry == LOCK):
        os.unlink(os.path.join(folder, entry))
    os.rmdir(folder)
    os.close(lock)


# What is made on the host is noted in the file of the lock before, since a state is not written before the program runs: so
# whoever gets the lock of a killed supervisor knows what that had made, or was about to make.


def note(name: str, path: str) -> None:
    """Note a path of the host at which something is going to be made; the lock is held. Raises OSError."""
    file = os.open(os.path.join(folder_of(name), LOCK), os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.write(file, os.fsencode(path) + b"\0")
    finally:
        os.close(file)


def noted(name: str) -> tuple[str, ...]:
    """What was noted, and may be there."""
    try:
        content = read_own(os.path.join(folder_of(name), LOCK))
    except FileNotFoundError:
        return ()
    return tuple(os.fsdecode(path) for path in content.split(b"\0")[:-1])


def strike_notes(name: str) -> None:
    """Forget what was noted, once it is removed; the lock is held. Raises OSError."""
    os.truncate(os.path.join(folder_of(name), LOCK), 0)


def _has_notes(name: str) -> bool:
    try:
        return os.stat(os.path.join(folder_of(name), LOCK)).st_size > 0
    except FileNotFoundError:
        return False


def write(name: str, state: State) -> None:
    """Replace the state, whole or not at all. Raises OSError."""
    path = state_file(name)
    new = write_beside(path, written(state))
    # Not over the old one: ext4 would wait for the new content to reach the disk (auto_da_alloc in `man 5 ext4`).
    # In between there is only the complete new one, which `load` takes as well.
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    os.rename(new, path)


def read(name: str) -> State | None:
    """The state of a container, with `status` as it is now, or None if it has none. Raises Damaged."""
    state = read_known(State, name, state_file(name))
    if state is not None and state.status in ALIVE and not identity(state, "supervisor").lives():
        # Nobody wrote down how it ended. Without a supervisor, the container is being killed by its parent-death signal.
        return state.replace(status="dead")
    return state


def identity(state: State, who: str = "init") -> Identity:
    """The identity of the container's first process, or of its `supervisor`."""
    process: ProcessRecord = getattr(state, who)
    return Identity(boot=state.boot_id, pid=process.pid, started=process.started)


def has_ended(name: str, *, file: str | None = None) -> bool:
    """Whether a glance at the state tells that nothing is left of a container: it is the usual case, and the quickest.

    With `file`: and that it was made by that file. If it does not, `known/leftovers.py` has a closer look.
    """
    path = state_file(name)
    if file is not None:
        told = ended(path, file=file)
    else:
        told = ended(path) or not any(os.path.lexists(one) for one in (path, f"{path}.new"))
    return told and not _has_notes(name)


def remove_state(name: str) -> None:
    """Remove the state, and a new one that has not taken its place yet."""
    _unlink(state_file(name))


def _unlink(path: str) -> None:
    """Remove a file of ours, and a new one that has not taken its place yet."""
    for file in (path, f"{path}.new"):
        try:
            os.unlink(file)
        except FileNotFoundError:
            pass


# What was created, kept across reboots, so that `rm` and `inspect` need not execute the file.


def record_file(name: str) -> str:
    """The file that says what was created."""
    return os.path.join(lib_dir(), RECORDS, f"{name}.json")


def write_record(made: Made) -> None:
    """Remember a container whose rootfs was made. Raises OSError."""
    ensure_private(lib_dir())
    ensure_private(os.path.join(lib_dir(), RECORDS))
    replace_file(record_file(made.name), written(made))


def read_record(name: str) -> Made | None:
    """What was written when the rootfs was made. Raises Damaged."""
    return read_known(Made, name, record_file(name))


def remove_record(name: str) -> None:
    """Forget that a rootfs was made."""
    _unlink(record_file(name))


def known(name: str) -> State | Made | None:
    """The state of a container, or if it has none what was written when its rootfs was made. Raises Damaged."""
    return read(name) or read_record(name)


def is_known(name: str) -> bool:
    """Whether anything was written of a container, be it damaged."""
    written = (state_file(name), record_file(name))
    return any(os.path.exists(path) or os.path.exists(f"{path}.new") for path in written)


def _file_of(name: str) -> object:
    """The file that has started a container last, as its state says; None if that does not say so at a glance."""
    try:
        value = load(name, state_file(name))
    except (Unreadable, OSError, HakoError):
        return None
    return None if value is None else value.get("file")


def _are_of_one_origin(owner: State | Made, container: Container) -> bool:
    """Whether a document and the container file that it was made from, or two documents of one file, share a name."""
    origins = {owner.file, str(owner.definition.whole.get("origin", ""))}
    return any(file and file in origins for file in (container.file, container.origin))


def must_belong(container: Container) -> None:
    """See that a name is no other file's: two containers of one name would share their state, their log and their rootfs.

    What a file has made that is gone passes to the one that has its name now, which is told. Raises HakoError.
    """
    name = container.name
    if ended(state_file(name), file=container.file) or _file_of(name) == container.file:
        return
    try:
        owner = known(name)
    except Damaged:
        return  # whose it was cannot be told
    if owner is None or owner.file == container.file or _are_of_one_origin(owner, container):
        return
    made = owner if isinstance(owner, Made) else read_record(name)
    if owner.file and os.path.exists(owner.file):
        raise HakoError(
            f"the name {name!r} belongs to {owner.file}, which made a container of it",
            where=container.place("name"),
            hint=f"set another config.name; hako rm {'--rootfs ' if made else ''}-n {name} sets it free",
        )
    if not container.file:
        return  # from standard input, which can own nothing
    was = f"it was made by {owner.file}, which is gone," if owner.file else "it was started from standard input"
    log.write(f"{name}: {was} and belongs to {container.file} now", "warning")
    if made is not None:
        write_record(made.replace(file=container.file))
