"""Session keyrings. `man 7 session-keyring`, `man 2 keyctl`."""

from __future__ import annotations

import os

from hakoniwa.kernel.libc import syscall

_KEYCTL = {"x86_64": 250, "aarch64": 219}  # asm/unistd_64.h, asm-generic/unistd.h
_JOIN_SESSION_KEYRING = 1
# ENOSYS, a kernel without keyrings; EPERM, a seccomp filter around us forbids the call, and to the container as well.
_NOTHING_TO_SHARE = (38, 1)


def join_new_session_keyring() -> None:
    """Leave the session keyring for a new one without a name. Raises OSError (EDQUOT: the user has too many)."""
    number = _KEYCTL.get(os.uname().machine)
    if number is None:
        return  # the trampoline is not written for that machine either
    try:
        syscall(number, _JOIN_SESSION_KEYRING, None)
    except OSError as error:
        if error.errno not in _NOTHING_TO_SHARE:
            raise
