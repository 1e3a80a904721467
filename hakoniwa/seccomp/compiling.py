"""Make a program of classic BPF of a filter, by libseccomp. Slow, and therefore done once for each filter (programs.py)."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.places import ensure_private
from hakoniwa.spec import ArgumentTest, CallFilter, CallRule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The other ABIs of a machine type, through which its programs can make calls too. Calls through any further one, x32 for
# instance, are answered as by a kernel without it: a third ABI would make the programs, and each start, slower by half.
_FURTHER_ABIS = {"x86_64": ("X86",), "aarch64": ("ARM",)}
_ENOSYS = 38
_UNKNOWN = -1  # __NR_SCMP_ERROR; other negative numbers are calls of other machine types
_BY_BINARY_SEARCH = 2  # seccomp_attr_set(3), SCMP_FLTATR_CTL_OPTIMIZE


def compile_filter(described: CallFilter, machine: str) -> bytes:
    """The program. Raises HakoError for what libseccomp does not know or take, with the line of the rule."""
    seccomp = _library()
    _use_extended_actions(seccomp)
    made = seccomp.SyscallFilter(_action(seccomp, described.default, described.errno))
    for name in _FURTHER_ABIS.get(machine, ()):
        made.add_arch(getattr(seccomp.Arch, name))
    made.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.ERRNO(_ENOSYS))
    try:
        made.set_attr(seccomp.Attr.CTL_OPTIMIZE, _BY_BINARY_SEARCH)
    except OSError:
        pass  # before libseccomp 2.5: slower filters
    for rule in described.rules:
        _add(seccomp, made, rule, described)
    return _exported(made)


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


def _action(seccomp: Any, word: str, errno: int) -> Any:
    return {
        "allow": seccomp.ALLOW,
        "errno": seccomp.ERRNO(errno),
        "kill": seccomp.KILL_PROCESS,
        "kill_thread": seccomp.KILL,
        "trap": seccomp.TRAP,
        "trace": seccomp.TRACE(errno),
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
            made.add_rule(action, call, *(_test(seccomp, test) for test in rule.tests))
        except OSError as error:
            where = rule.where or described.where
            raise HakoError(f"cannot make a rule for {call}: {error.strerror}", where=where) from None


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
        new = f"{path}.{os.getpid()}"
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(file, program)
        finally:
            os.close(file)
        os.rename(new, path)
    except OSError:
        pass
