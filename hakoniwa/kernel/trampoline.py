"""The tiny program that stands between the interpreter and a container's own program.

A process that executes a program of the container can be reached from inside through /proc/PID/exe, and a program that
begins with `#!/proc/self/exe` re-executes whatever ran last. Were that the host's interpreter, it could be overwritten
(CVE-2019-5736). So the last program of the host to run is this one: a few bytes in a memory file sealed against every
change. It marks all descriptors from 3 on close-on-exec, executes the program, and where that fails writes the negative
errno as eight bytes to descriptor 3. Where that is not open it was executed from inside, by such a script, and ends.

    close_range(3, ~0, CLOSE_RANGE_CLOEXEC)
    if (fcntl(3, F_GETFD) < 0) exit_group(126)
    execveat(4, argv[1], argv + 2, envp, AT_EMPTY_PATH)     # argv[1] absolute, or empty for descriptor 4 itself
    write(3, &result, 8); exit_group(127)
"""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError

STATUS_FD = 3
PROGRAM_FD = 4

_X86_64 = bytes.fromhex(
    "b8b4010000bf03000000beffffffffba040000000f05"
    "b848000000bf03000000be010000000f0585c0bf7e000000783f"
    "b842010000bf04000000488b742410488b0c244c8d54cc10488d54241841b8001000000f05"
    "50b801000000bf030000004889e6ba080000000f05"
    "bf7f000000b8e70000000f05"
)
_AARCH64 = bytes.fromhex(
    "883680d2600080d201008012820080d2010000d4"
    "280380d2600080d2210080d2010000d4c90f80d22002f8b7"
    "282380d2800080d2e50340f9e10b40f9e2630091e3430091630c058b040082d2010000d4"
    "e00300f9080880d2600080d2e1030091020180d2010000d4"
    "e90f80d2c80b80d2e00309aa010000d4"
)
_MACHINES = {"x86_64": (62, _X86_64), "aarch64": (183, _AARCH64)}  # e_machine, code

_MFD_EXEC = 0x10  # since Linux 6.3, where vm.memfd_noexec may be set
_ADD_SEALS = 1033
_ALL_SEALS = 0x0F  # F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE


def program(machine: str) -> bytes:
    """The program as an ELF file. Raises HakoError on a machine that it is not written for. `man 5 elf`."""
    if machine not in _MACHINES:
        raise HakoError(f"machine type {machine!r} is not supported", hint="known: " + " ".join(_MACHINES))
    number, code = _MACHINES[machine]
    base, headers = 0x10000, 64 + 56
    size = headers + len(code)
    elf = [b"\x7fELF", (2, 1), (1, 1), (1, 1), bytes(9), (2, 2), (number, 2), (1, 4), (base + headers, 8)]
    elf += [(64, 8), (0, 8), (0, 4), (64, 2), (56, 2), (1, 2), (0, 2), (0, 2), (0, 2)]
    elf += [(1, 4), (5, 4), (0, 8), (base, 8), (base, 8), (size, 8), (size, 8), (0x1000, 8)]
    return b"".join(x if isinstance(x, bytes) else x[0].to_bytes(x[1], "little") for x in elf) + code


def sealed(content: bytes, name: str) -> int:
    """`content` as an executable memory file that nobody can change any more. `man 2 memfd_create`."""
    import fcntl

    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        file = os.memfd_create(name, flags | _MFD_EXEC)
    except OSError as error:
        if error.errno != 22:
            raise
        file = os.memfd_create(name, flags)
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
    fcntl.fcntl(file, _ADD_SEALS, _ALL_SEALS)
    return file


def prepare() -> int:
    """The sealed program as a descriptor, to be opened before the root is changed."""
    return sealed(program(os.uname().machine), "hakoniwa")


def execute(trampoline: int, path: str, arguments: list[str], environment: dict[str, str]) -> None:
    """Become `path` by way of the trampoline. Returns only by raising OSError."""
    os.execve(trampoline, ["hakoniwa", path, *arguments], environment)
