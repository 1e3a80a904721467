"""Log lines: to standard error, which the supervisor of a background container leads to its log file; and what users print."""

from __future__ import annotations

import os
import sys

from hakoniwa.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.errors import HakoError

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_threshold = LEVELS["info"]


def set_level(level: str) -> None:
    """Write lines of `level` and above from now on."""
    global _threshold
    _threshold = LEVELS[level]


def write(text: str, level: str = "info") -> None:
    """Write one line. A standard error that nobody reads is not a reason to fail."""
    _put([printable(text)], level)


def write_error(error: HakoError) -> None:
    """Write the lines of an error."""
    for line in error.lines():
        write(line, "error")


def write_text(text: object, level: str = "info", name: str = "") -> None:
    """Write what a hook or a file says, each line by itself, with the container's name before it.

    A text may come from inside a container: so none of its lines passes for one of ours.
    """
    lines = str(text).removesuffix("\n").split("\n")
    prefix = f"{name}: " if name else ""
    _put([prefix + "\t".join(map(printable, line.removesuffix("\r").split("\t"))) for line in lines], level)


def _put(lines: list[str], level: str) -> None:
    if LEVELS[level] < _threshold:
        return
    output = "".join(f"hako: {line}\n" for line in lines).encode(errors="backslashreplace")
    try:
        while output:
            output = output[os.write(2, output) :]
    except OSError:
        pass


def flush_prints() -> None:
    """Write what was printed so far.

    It would be lost in a process that executes a program or ends by `os._exit`, and doubled by one that is forked.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # nobody reads it, the disk is full, or a file has put something of its own there
