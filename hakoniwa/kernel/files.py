"""Files as a whole: read by descriptor, since the streams of Python take time and memory; locked, replaced and swapped."""

from __future__ import annotations

import fcntl
import os

_CHUNK = 65536


def read_file(path: str, *, folder: int | None = None) -> bytes:
    """The content of a file, by its path or its name in a folder. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        content = b""
        while more := os.read(file, _CHUNK):
            content += more
        return content
    finally:
        os.close(file)


def lock_file(path: str, *, shared: bool = False) -> int | None:
    """Lock a file, made where it is missing, for as long as the descriptor is open; None when it was removed in between.

    Raises BlockingIOError while another holds the lock, and OSError.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
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


def replace_file(path: str, content: bytes) -> None:
    """Write a file beside its place and rename it, so that `path` is whole or as it was. Raises OSError.

    Whoever calls has `path` to itself. What a killed one has left beside it is overwritten by the next.
    """
    new = f"{path}.new"
    try:
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            while content:
                content = content[os.write(file, content) :]
        finally:
            os.close(file)
        os.rename(new, path)
    except OSError:
        try:
            os.unlink(new)
        except OSError:
            pass  # what is to be told is why it could not be written
        raise


def exchange(one: str, other: str) -> None:
    """Swap two files or folders, at once. Raises OSError: EXDEV, or EINVAL where the file system cannot. `man 2 rename`."""
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
