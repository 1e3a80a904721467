"""Log lines: to standard error, which the supervisor of a background container leads to the container's log file."""

from __future__ import annotations

import os

from hakoniwa.errors import printable

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_threshold = LEVELS["info"]


def set_level(level: str) -> None:
    """Write lines of `level` and above from now on."""
    global _threshold
    _threshold = LEVELS[level]


def write(text: str, level: str = "info") -> None:
    """Write one line. A standard error that nobody reads is not a reason to fail."""
    if LEVELS[level] < _threshold:
        return
    try:
        os.write(2, f"hako: {printable(text)}\n".encode(errors="backslashreplace"))
    except OSError:
        pass
