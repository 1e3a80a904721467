"""The first process of a container that was started to be attached to: it waits, and takes no memory to speak of.

A shell without a terminal would read the end of its input, and end; and not every rootfs has a program that waits. As pid 1
it reaps what others leave: the kernel does that for a process that ignores SIGCHLD (`man 2 wait`), which is kept across an
exec. It has no handler for TERM, so `hako kill` ends it at once.

    while (ppoll(0, 0, 0, 0, 0) == -EINTR) ;
    exit_group(125)                          # a filter of the file's own forbids ppoll

The sources are in tools/idle; a test assembles them and compares.

It is also the first process of a pid namespace that the containers of a barn share. There it is in the way of nobody: it can make
no call but those that it needs.
"""

from __future__ import annotations

import os

from hakoniwa.kernel.processes import trampoline

NAME = "idle"

_CODE = {
    "x86_64": bytes.fromhex("b80f01000031ff31f631d24531d24531c00f054883f8fc74e7bf7d000000b8e70000000f05"),
    "aarch64": bytes.fromhex(
        "280980d2000080d2010080d2020080d2030080d2040080d2010000d41f1000b100ffff54a00f80d2c80b80d2010000d4"
    ),
}

# AUDIT_ARCH of linux/audit.h; restart_syscall, ppoll, execveat, exit_group, and rt_sigreturn of asm/unistd_64.h and asm-generic/unistd.h.
_CALLS = {
    "x86_64": (0xC000003E, (219, 271, 322, 231, 15)),
    "aarch64": (0xC00000B7, (128, 73, 281, 94, 139)),
}


def sealed(mode: int = 0o555) -> int:
    """The program as a descriptor, to be opened before the root is changed. Raises HakoError."""
    machine = trampoline.checked(os.uname().machine)
    return trampoline.sealed(trampoline.elf(machine, _CODE[machine]), NAME, mode)


def call_filter() -> bytes:
    """A seccomp program that lets the process become this one and then wait; every other call kills it. Raises HakoError."""
    architecture, allowed = _CALLS[trampoline.checked(os.uname().machine)]
    load, equals, give = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K: `man 2 seccomp`
    kill, allow = 0x80000000, 0x7FFF0000
    program = [(load, 0, 0, 4), (equals, 0, len(allowed) + 1, architecture), (load, 0, 0, 0)]
    program += [(equals, len(allowed) - place, 0, number) for place, number in enumerate(allowed)]
    program += [(give, 0, 0, kill), (give, 0, 0, allow)]
    return b"".join(
        code.to_bytes(2, "little") + bytes((yes, no)) + value.to_bytes(4, "little") for code, yes, no, value in program
    )
