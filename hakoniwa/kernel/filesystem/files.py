"""Files as a whole: read by descriptor, since the streams of Python take time and memory; locked, replaced and swapped."""

from __future__ import annotations

import fcntl
import os

_CHUNK = 65536


def read_all(descriptor: int) -> bytes:
    """What is left to read of a file, or comes through a pipe until nobody is left to write. Raises OSError."""
    content = b""
    while more := os.read(descriptor, _CHUNK):
        content += more
    return content


def read_file(path: str, *, folder: int | None = None) -> bytes:
    """The content of a file, by its path or its name in a folder. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return read_all(file)
    finally:
        os.close(file)


def entries_of(folder: str) -> list[str]:
    """The names in a folder, sorted; none if it is not there. Raises OSError."""
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def lock_file(path: str, *, shared: bool = False) -> int | None:
    """Lock a file, made if it is missing, for as long as the descriptor is open; None if it was removed in between.

    Raises BlockingIOError while another holds the lock, and OSError.
    """
    return _lock(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), path, shared=shared)


def lock_folder(path: str) -> int | None:
    """Lock a folder in the same way; None if it is not there.

    Only for folders that no container can open: it could keep the lock. Raises BlockingIOError and OSError.
    """
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    return _lock(folder, path, shared=False)


def _lock(lock: int, path: str, *, shared: bool) -> int | None:
    """Lock what is open. What was removed or replaced before it was locked is let go of."""
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), os.stat(path)):
            return lock
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def lock_name(path: str) -> str:
    """What /proc/locks calls a file. Raises OSError."""
    status = os.stat(path)
    return f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"


def held_locks() -> set[str]:
    """The files that somebody has locked by `flock`: who, a space, and what `lock_name` gives. Raises OSError. `man 5 proc_locks`."""
    text = read_file("/proc/locks").decode()
    if "->" in text:
        text = "\n".join(line for line in text.splitlines() if "->" not in line)  # who waits for a lock
    words = text.split()  # eight of each lock
    locks = zip(words[1::8], words[4::8], words[5::8], strict=False)
    # A lock of another host's has a negative pid.
    return {f"{pid} {file}" for kind, pid, file in locks if kind == "FLOCK" and pid > "0"}


def write_beside(path: str, content: bytes, *, mode: int = 0o600, end: str = ".new") -> str:
    """Write a file that is to take the place of `path`, and tell its path. Raises OSError; then there is none."""
    new = path + end
    try:
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            while content:
                content = content[os.write(file, content) :]
        finally:
            os.close(file)
    except OSError:
        try:
            os.unlink(new)
        except OSError:
            pass  # what is to be told is why it could not be written
        raise
    return new


def replace_file(path: str, content: bytes, *, mode: int = 0o600, end: str = ".new") -> None:
    """Write a file beside its place and rename it, so that `path` is whole or as it was. Raises OSError.

    Whoever calls has `path`, or the name that ends with `end`, to itself. What a killed one has left there is overwritten by
    the next.
    """
    os.rename(write_beside(path, content, mode=mode, end=end), path)


def exchange(one: str, other: str) -> None:
    """Swap two files or folders, at once. Raises OSError: EXDEV, or EINVAL if the file system cannot. `man 2 rename`."""
    from hakoniwa.kernel.libc import AT_FDCWD, call

    rename_exchange = 2
    call("renameat2", AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), rename_exchange, path=one)


def wait_readable(*descriptors: int, seconds: float | None = None) -> set[int]:
    """Sleep until some of them are readable, or hung up, for `seconds` at most: which."""
    import select

    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(None if seconds is None else seconds * 1000)}
