"""Copies of what a file was found to say, which are quicker to take than the file is to read: how one is found and believed.

What a file says is kept with all that could make it say something else; who reads the copy sees that this is as it was
(known/kept.py, known/joining.py). They are written by known/copies.py.
"""

from __future__ import annotations

import marshal
import os
import sys
from _imp import source_hash

from hakoniwa.places import descriptions_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LARGEST_COPY = 256 << 10
_SUM, _KEY = 8, 0x68616B6F  # bytes of a checksum, and what it begins with
_REGULAR_AND_CLOSED = 0o100600


def place_of(what: str) -> str:
    """Where the copy lies of what has that name."""
    return os.path.join(descriptions_dir(), source_hash(_KEY, os.fsencode(what)).hex())


def finder_of_bundle() -> Any:
    """What finds hakoniwa's modules in the bundle, or None if they come from elsewhere."""
    return next((finder for finder in sys.meta_path if hasattr(finder, "stamp")), None)


def summed(stamp: bytes, content: bytes) -> bytes:
    """A copy as it is written: of which bundle it is, and a checksum, without which damage could crash `marshal`."""
    return stamp + source_hash(_KEY, content) + content


def content_of(path: str, stamp: bytes) -> Any:
    """What a copy holds. None if there is none that is whole, ours alone, and of this bundle."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(file)
        closed = status.st_mode == _REGULAR_AND_CLOSED and status.st_uid == os.geteuid()
        if not closed or status.st_size > LARGEST_COPY:
            return None
        text = os.read(file, status.st_size + 1)
    except OSError:
        return None
    finally:
        os.close(file)
    begin = len(stamp) + _SUM
    if len(text) <= begin or text != summed(stamp, text[begin:]):
        return None
    return marshal.loads(text[begin:])
