"""Files as a whole: read by descriptor, since the streams of Python take time and memory; and swapped."""

from __future__ import annotations

import os

_CHUNK = 65536


def read_file(path: str) -> bytes:
    """The content of a file. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = b""
        while more := os.read(file, _CHUNK):
            content += more
        return content
    finally:
        os.close(file)


def exchange(one: str, other: str) -> None:
    """Swap two files or folders, at once. Raises OSError: EXDEV, or EINVAL where the file system cannot. `man 2 rename`."""
    from hakoniwa.kernel.libc import AT_FDCWD, call

    rename_exchange = 2
    call("renameat2", AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), rename_exchange, path=one)
