"""Seccomp filters of this process: programs of classic BPF that judge each system call. `man 2 seccomp`."""

from __future__ import annotations

import os

from hakoniwa.kernel.libc import address_of, call

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_INSTRUCTION = 8  # bytes


def put_in_force(program: bytes) -> None:
    """Have `program` judge every call from here on. Needs no_new_privs or cap_sys_admin. Raises OSError."""
    length = len(program) // _INSTRUCTION
    record = length.to_bytes(8, "little") + address_of(program).to_bytes(8, "little")  # struct sock_fprog
    call("prctl", _PR_SET_SECCOMP, _MODE_FILTER, record, 0, 0)


def is_program(content: bytes) -> bool:
    """Whether bytes can be a program: whole instructions, of which the kernel takes 4096 at most (BPF_MAXINSNS)."""
    return bool(content) and len(content) % _INSTRUCTION == 0 and len(content) // _INSTRUCTION <= 4096


def machine() -> str:
    """The machine type that programs are made for: numbers of system calls differ."""
    return os.uname().machine
