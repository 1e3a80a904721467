"""Where the output of a container in the background goes."""

from __future__ import annotations

import os

from hakoniwa import state
from hakoniwa.errors import HakoError
from hakoniwa.places import ensure_private


def divert_output(name: str) -> None:
    """Lead our streams to nowhere and to the log of `name`: the caller's must not stay open behind its back."""
    path = state.log_file(name)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        ensure_private(os.path.dirname(path))
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise HakoError(f"cannot open the log {path}: {error.strerror}") from None
    os.dup2(null, 0)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(null)
    os.close(file)
