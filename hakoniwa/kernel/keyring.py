"""Session keyrings. `man 7 session-keyring`, `man 2 keyctl`."""

from __future__ import annotations

import os

from hakoniwa.kernel.libc import syscall

_KEYCTL = {"x86_64": 250, "aarch64": 219}  # asm/unistd_64.h, asm-generic/unistd.h
_JOIN_SESSION_KEYRING = 1
_NO_SUCH_CALL = 38  # ENOSYS: a kernel without keyrings has none to share


def join_new_session_keyring() -> None:
    """Leave the session keyring for a new one without a name. Raises OSError (EDQUOT: the user has too many)."""
    number = _KEYCTL.get(os.uname().machine)
    if number is None:
        return  # the trampoline is not written for that machine either
    try:
        syscall(number, _JOIN_SESSION_KEYRING, None)
    except OSError as error:
        if error.errno != _NO_SUCH_CALL:
            raise
