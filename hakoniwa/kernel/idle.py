"""The first process of a container that was started to be attached to: it waits, and takes no memory to speak of.

A shell without a terminal would read the end of its input, and end; and not every rootfs has a program that waits. As pid 1
it reaps what others leave: the kernel does that for a process that ignores SIGCHLD (`man 2 wait`), which is kept across an
exec. It has no handler for TERM, so `hako kill` ends it at once.

    while (ppoll(0, 0, 0, 0, 0) == -EINTR) ;
    exit_group(125)                          # a filter of the file's own forbids ppoll

The sources are in tools/idle; a test assembles them and compares.
"""

from __future__ import annotations

import os

from hakoniwa.kernel import trampoline

NAME = "idle"

_CODE = {
    "x86_64": bytes.fromhex("b80f01000031ff31f631d24531d24531c00f054883f8fc74e7bf7d000000b8e70000000f05"),
    "aarch64": bytes.fromhex(
        "280980d2000080d2010080d2020080d2030080d2040080d2010000d41f1000b100ffff54a00f80d2c80b80d2010000d4"
    ),
}


def sealed() -> int:
    """The program as a descriptor, to be opened before the root is changed. Raises HakoError."""
    machine = trampoline.checked(os.uname().machine)
    return trampoline.sealed(trampoline.elf(machine, _CODE[machine]), NAME)
