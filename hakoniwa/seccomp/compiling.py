"""Make a program of classic BPF of a filter, by libseccomp. Slow, and therefore done once for each filter (programs.py)."""

from __future__ import annotations

import errno
import os
from itertools import product

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem.files import replace_file
from hakoniwa.places import ensure_private
from hakoniwa.spec.held import ArgumentTest, CallFilter, CallRule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The other ABIs of a machine type, through which its programs can make calls too. Calls through any further one, x32 for
# instance, are answered as by a kernel without it: a third ABI would make the programs, and each start, slower by half.
_FURTHER_ABIS = {"x86_64": ("X86",), "aarch64": ("ARM",)}
_UNKNOWN = -1  # __NR_SCMP_ERROR; other negative numbers are calls of other machine types
# Arguments that the kernel takes for an `int`: a filter sees 64 bits, and a caller may put anything into the upper half
# (CVE-2019-10063, CVE-2019-7303). So the lower half alone is compared. `man 2` of each call.
_INTEGERS = {
    call: tuple(map(int, numbers.split()))
    for calls, numbers in {
        "accept accept4 bind connect listen shutdown": "0",
        "bpf": "0 2",
        "clock_settime clock_settime64 prctl personality keyctl futex_waitv pidfd_getfd process_madvise socketcall ipc": "0",
        "close_range epoll_ctl getsockopt ioprio_set memfd_create open pidfd_open reboot": "0 1 2",
        "fcntl fcntl64 ioctl kill setns seccomp tkill sched_setscheduler sched_setparam umount2 dup2 swapon": "0 1",
        "fchmod fchmodat fchmodat2 mkdirat mknodat openat": "0",
        "futex futex_time64": "1",
        "madvise memfd_secret": "2",
        "perf_event_open": "1 2 3",
        "setsockopt": "0 1 2 4",
        "socket socketpair": "0 1 2",
        "tgkill syslog": "0 1 2",
    }.items()
    for call in calls.split()
}
_HALF = 1 << 32
# i386's other way to these, call 102 with a number of theirs and the arguments in memory, where no filter sees them
# (linux/net.h).
_THROUGH_SOCKETCALL = (
    "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom shutdown setsockopt"
    " getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg"
).split()
_I386, _SOCKETCALL = 0x40000003, 102
_BY_BINARY_SEARCH = 2  # seccomp_attr_set(3), SCMP_FLTATR_CTL_OPTIMIZE


def compile_filter(described: CallFilter, machine: str) -> bytes:
    """The program. Raises HakoError for what libseccomp does not know or take, with the line of the rule."""
    seccomp = _library()
    _use_extended_actions(seccomp)
    made = seccomp.SyscallFilter(_action(seccomp, described.default, described.errno))
    for name in _FURTHER_ABIS.get(machine, ()):
        made.add_arch(getattr(seccomp.Arch, name))
    made.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.ERRNO(errno.ENOSYS))
    try:
        made.set_attr(seccomp.Attr.CTL_OPTIMIZE, _BY_BINARY_SEARCH)
    except OSError:
        pass  # before libseccomp 2.5: slower filters
    for rule in described.rules:
        _add(seccomp, made, rule, described)
    return (_shut_socketcall(described) if machine == "x86_64" else b"") + _exported(made)


def _shut_socketcall(described: CallFilter) -> bytes:
    """Instructions that come first: socketcall is no way to what is allowed on conditions.

    libseccomp allows it whole where it is told to allow `socket` with some arguments (its arch-x86.c).
    """
    passing = ("allow", "log")
    conditional = {call for rule in described.rules if rule.action in passing and rule.tests for call in rule.calls}
    shut = [number for number, call in enumerate(_THROUGH_SOCKETCALL, 1) if call in conditional]
    if not shut or described.default in passing:
        return b""
    load, equal, give = 0x20, 0x15, 0x06  # linux/filter.h; the offsets are those of struct seccomp_data
    lines = [(load, 0, 0, 4), (equal, 0, 4 + len(shut), _I386), (load, 0, 0, 0), (equal, 0, 2 + len(shut), _SOCKETCALL)]
    lines.append((load, 0, 0, 16))
    for left, number in zip(range(len(shut) - 1, -1, -1), shut, strict=True):
        lines.append((equal, left, 0 if left else 1, number))
    lines.append((give, 0, 0, 0x00050000 | errno.ENOSYS))
    return b"".join(
        code.to_bytes(2, "little") + bytes((yes, no)) + value.to_bytes(4, "little") for code, yes, no, value in lines
    )


def _library() -> Any:
    try:
        import pyseccomp
    except (ImportError, OSError, RuntimeError) as error:
        raise HakoError(f"seccomp filters need libseccomp: {error}", hint="apt-get install libseccomp2") from None
    return pyseccomp


def _use_extended_actions(seccomp: Any) -> None:
    """Kernels from 4.14 on log, and kill whole processes."""
    try:
        if seccomp.get_api() < 3:
            seccomp.set_api(3)
    except (OSError, ValueError, NotImplementedError):
        pass


def _action(seccomp: Any, word: str, error: int) -> Any:
    return {
        "allow": seccomp.ALLOW,
        "errno": seccomp.ERRNO(error),
        "kill": seccomp.KILL_PROCESS,
        "kill_thread": seccomp.KILL,
        "trap": seccomp.TRAP,
        "trace": seccomp.TRACE(error),
        "log": seccomp.LOG,
    }[word]


def _add(seccomp: Any, made: Any, rule: CallRule, described: CallFilter) -> None:
    action = _action(seccomp, rule.action, rule.errno)
    if action == _action(seccomp, described.default, described.errno):
        return  # libseccomp refuses a rule that says what is so anyway
    for call in rule.calls:
        if seccomp.resolve_syscall(seccomp.Arch.NATIVE, call) == _UNKNOWN:
            if rule.where:
                told = f"this libseccomp does not know the system call {call!r}"
                raise HakoError(told, where=rule.where, hint="remove it, or install a newer libseccomp2")
            continue  # newer than the library: falls to the default
        try:
            for tests in product(*(_alternatives(call, test) for test in rule.tests)):
                made.add_rule(action, call, *(_test(seccomp, test) for test in tests))
        except OSError as error:
            where = rule.where or described.where
            raise HakoError(f"cannot make a rule for {call}: {error.strerror}", where=where) from None


def _alternatives(call: str, test: ArgumentTest) -> list[ArgumentTest]:
    """The tests one of which holds where `test` does, of the lower half alone where the argument is an `int`."""
    if test.index not in _INTEGERS.get(call, ()) or test.mask is not None:
        return [test]
    value = test.value % _HALF  # -1, say, is also what it is in 64 bits
    ranges = {
        "==": [(value, value)],
        "!=": [(0, value - 1), (value + 1, _HALF - 1)],
        "<": [(0, value - 1)],
        "<=": [(0, value)],
        ">": [(value + 1, _HALF - 1)],
        ">=": [(value, _HALF - 1)],
    }[test.operator]
    return [
        ArgumentTest(index=test.index, operator="==", value=start, mask=mask)
        for first, last in ranges
        for start, mask in prefixes(first, last)
    ]


def prefixes(first: int, last: int) -> list[tuple[int, int]]:
    """A range of 32-bit numbers as (value, mask): each stands for all numbers that are `value` in the bits of the mask."""
    found = []
    while first <= last:
        size = first & -first or _HALF
        while first + size - 1 > last:
            size //= 2
        found.append((first, _HALF - size))
        first += size
    return found


def _test(seccomp: Any, test: ArgumentTest) -> Any:
    if test.mask is not None:
        return seccomp.Arg(test.index, seccomp.MASKED_EQ, test.mask, test.value)
    words = {"==": "EQ", "!=": "NE", "<": "LT", "<=": "LE", ">": "GT", ">=": "GE"}
    return seccomp.Arg(test.index, getattr(seccomp, words[test.operator]), test.value)


def _exported(made: Any) -> bytes:
    memory = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    with os.fdopen(memory, "w+b") as file:
        made.export_bpf(file)
        file.seek(0)
        return file.read()


def keep(path: str, program: bytes) -> None:
    """Keep a program for later starts; where that fails they make it again."""
    try:
        ensure_private(os.path.dirname(os.path.dirname(path)))
        ensure_private(os.path.dirname(path))
        replace_file(path, program, end=f".{os.getpid()}")
    except OSError:
        pass
