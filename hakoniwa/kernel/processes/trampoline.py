"""The tiny program that stands between the interpreter and a container's own program.

A process that executes a program of the container can be reached from inside through /proc/PID/exe, and a program that
begins with `#!/proc/self/exe` re-executes whatever ran last. Were that the host's interpreter, it could be overwritten
(CVE-2019-5736). So the last program of the host to run is this one: a few bytes in a memory file sealed against every
change. The file cannot be read either, which makes the kernel keep the process undumpable for as long as it executes it
(`man 2 prctl`, PR_SET_DUMPABLE): nobody inside traces it before it is as confined as they are.

It marks all descriptors from 3 on close-on-exec, asks for the AppArmor profile, puts the remaining seccomp filters in
force (so late that they bind the program alone), and executes the program. If that fails, it writes the negative errno
as eight bytes to descriptor 3, less 4096 for AppArmor and 8192 for seccomp. If descriptor 3 is not open, it was executed
from inside, by such a script, and ends.

    close_range(3, ~0, CLOSE_RANGE_CLOEXEC)
    if (fcntl(3, F_GETFD) < 0) exit_group(126)
    if (table.attribute) write(openat(6, table.attribute, O_WRONLY), table.request, table.length)
    for (each filter of the table) seccomp(SECCOMP_SET_MODE_FILTER, 0, &filter)
    execveat(4, argv[1], argv + 2, envp, AT_EMPTY_PATH)     # argv[1] absolute, or empty for descriptor 4 itself
    write(3, &result, 8); exit_group(127)

The sources are in tools/trampoline; a test assembles them and compares. The table lies behind the code: the number of
filters, three words for AppArmor, then a `struct sock_fprog` for each filter (`man 2 seccomp`).
"""

from __future__ import annotations

import errno
import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.security import capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_EXECUTE_ONLY = 0o111
STATUS_FD = 3
PROGRAM_FD = 4
ATTRIBUTES_FD = 6  # this process's folder of security attributes, whatever the container has in the place of /proc

_X86_64 = bytes.fromhex(
    "b8b4010000bf03000000beffffffffba040000000f05b848000000bf03000000be010000000f0585c0bf7e0000000f88b200"
    "0000488d1db500000041be00100000488b73084885f6742ab801010000bf06000000ba010000000f0585c0786a89c7b80100"
    "0000488b7310488b53180f0585c078554501f64c8b234c8d6b204d85e4741eb83d010000bf0100000031f64c89ea0f0585c0"
    "78314983c51049ffccebdd4531f6b842010000bf04000000488b742410488b0c244c8d54cc10488d54241841b8001000000f"
    "054c29f050b801000000bf030000004889e6ba080000000f05bf7f000000b8e70000000f050f1f00"
)
_AARCH64 = bytes.fromhex(
    "883680d2600080d201008012820080d2010000d4280380d2600080d2210080d2010000d4c90f80d2c005f8b7330600101400"
    "82d2610640f9610100b4080780d2c00080d2220080d2010000d4a003f8b7080880d2610a40f9620e40f9010000d40003f8b7"
    "9402148b750240f976820091550100b4a82280d2200080d2010080d2e20316aa010000d4c001f8b7d6420091b50600d1f7ff"
    "ff17140080d2282380d2800080d2e50340f9e10b40f9e2630091e36f258b63400091040082d2010000d4000014cbe00300f9"
    "080880d2600080d2e1030091020180d2010000d4e90f80d2c80b80d2e00309aa010000d41f2003d5"
)
_CODE = {"x86_64": _X86_64, "aarch64": _AARCH64}
_NUMBERS = {"x86_64": 62, "aarch64": 183}  # e_machine

_BASE = 0x10000
_HEADERS = 64 + 56
STAGE = 4096  # above every errno
STAGES = {1: "change to the AppArmor profile", 2: "put the seccomp filter in force"}

_MFD_EXEC = 0x10  # since Linux 6.3, where vm.memfd_noexec may be set
_ADD_SEALS = 1033
_ALL_SEALS = 0x0F  # F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE


def program(machine: str, *, attribute: str = "", request: str = "", filters: Sequence[bytes] = ()) -> bytes:
    """The program as an ELF file, with what it has to put in force. `man 5 elf`.

    `request` is written to the file `attribute` of the folder ATTRIBUTES_FD; each filter is a program of classic BPF. Raises HakoError
    on a machine that the program is not written for.
    """
    code = _CODE[checked(machine)]
    return elf(machine, code + _table(_BASE + _HEADERS + len(code), attribute, request, filters))


def checked(machine: str) -> str:
    """A type of machine that there are programs for. Raises HakoError."""
    if machine not in _NUMBERS:
        raise HakoError(f"machine type {machine!r} is not supported", hint="known: " + " ".join(_NUMBERS))
    return machine


def elf(machine: str, code: bytes) -> bytes:
    """Code as a static program, which begins with its first byte. `man 5 elf`."""
    size = _HEADERS + len(code)
    headers: list[bytes | tuple[int, int]] = [
        b"\x7fELF",
        (2, 1),
        (1, 1),
        (1, 1),
        bytes(9),
        (2, 2),
        (_NUMBERS[machine], 2),
        (1, 4),
        (_BASE + _HEADERS, 8),
    ]
    headers += [(64, 8), (0, 8), (0, 4), (64, 2), (56, 2), (1, 2), (0, 2), (0, 2), (0, 2)]
    headers += [(1, 4), (5, 4), (0, 8), (_BASE, 8), (_BASE, 8), (size, 8), (size, 8), (0x1000, 8)]
    return _bytes(headers) + code


def _bytes(parts: Sequence[bytes | tuple[int, int]]) -> bytes:
    """Bytes, and numbers of so many bytes, in a row."""
    return b"".join(part if isinstance(part, bytes) else part[0].to_bytes(part[1], "little") for part in parts)


def _table(address: int, attribute: str, request: str, filters: Sequence[bytes]) -> bytes:
    """The table as it lies at `address`, and behind it what it points to: instructions first, they are aligned to 4."""
    words: list[bytes | tuple[int, int]] = [(len(filters), 8)]
    behind = address + 32 + 16 * len(filters)
    programs, texts = b"".join(filters), os.fsencode(attribute) + b"\0" + os.fsencode(request)
    path = behind + len(programs)
    words += [(path if request else 0, 8), (path + len(os.fsencode(attribute)) + 1, 8), (len(os.fsencode(request)), 8)]
    for content in filters:
        words += [(len(content) // 8, 8), (behind, 8)]
        behind += len(content)
    return _bytes(words) + programs + texts


def sealed(content: bytes, name: str, mode: int = 0o555) -> int:
    """`content` as an executable memory file that nobody can change any more. `man 2 memfd_create`."""
    import fcntl

    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        file = os.memfd_create(name, flags | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        file = os.memfd_create(name, flags)
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
    os.fchmod(file, mode)
    fcntl.fcntl(file, _ADD_SEALS, _ALL_SEALS)
    return file


def prepare(*, attribute: str = "", request: str = "", filters: Sequence[bytes] = ()) -> int:
    """The sealed program as a descriptor, to be opened before the root is changed."""
    content = program(os.uname().machine, attribute=attribute, request=request, filters=filters)
    return sealed(content, "hakoniwa", _EXECUTE_ONLY)


def execute(trampoline: int, path: str, arguments: list[str], environment: dict[str, str], permitted: int) -> None:
    """Become `path` by way of the trampoline, with the capabilities `permitted`. Returns only by raising OSError."""
    if permitted & capabilities.READING:
        capabilities.set_sets(permitted, without=capabilities.READING)
    os.execve(trampoline, ["hakoniwa", path, *arguments], environment)
