"""Runs `hako` and kills it, or stops it, just before one of the calls that change files.

dying.py kill N WORDS...         before the Nth such call; the exit status is that of `hako` where there are fewer
dying.py kill-unswapped N WORDS  the same where the file system cannot swap two folders
dying.py stop NAME FIFO WORDS... after the first call of NAME: tells through the FIFO, and goes on when that is read
"""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from hakoniwa import cli
from hakoniwa.kernel.filesystem import files

CHANGING = ("mkdir", "rmdir", "rename", "unlink", "link", "symlink", "chmod", "chown", "write", "ftruncate", "setxattr")
SWAPPING = ("hakoniwa.kernel.filesystem.files", "hakoniwa.rootfs.store.placement", "hakoniwa.rootfs.snapshots")

action, place, *words = sys.argv[1:]
count = 0
me = os.getpid()


def wrapped(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A call before which one dies, or after which one waits."""

    def call(*arguments: Any, **options: Any) -> Any:
        global count
        reading = name == "open" and arguments[1:2] not in (("w",), ("wb",))
        if os.getpid() != me or reading or (name == "write" and arguments[0] in (1, 2)):
            return function(*arguments, **options)
        if action != "stop":
            if count == int(place):
                os.kill(me, 9)
            count += 1
            return function(*arguments, **options)
        result = function(*arguments, **options)
        if name == place and count == 0:
            count = 1
            os.close(os.open(words[0], os.O_WRONLY))
            os.close(os.open(words[0], os.O_RDONLY))
        return result

    return call


for name in CHANGING:
    setattr(os, name, wrapped(getattr(os, name), name))
builtins.open = wrapped(open, "open")  # of a file that is written by Python's own streams
swap = wrapped(files.exchange, "exchange")
if action == "kill-unswapped":

    def swap(one: str, other: str) -> None:
        raise OSError(22, os.strerror(22))


for module in SWAPPING:
    __import__(module)
    sys.modules[module].exchange = swap  # type: ignore[attr-defined]
sys.argv[1:] = words[1:] if action == "stop" else words
cli.main()
