"""Reading whole files by descriptor: the streams of Python take time, and in each supervisor memory of its own."""

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
