"""The filters that a file describes: its own, and profiles in Docker's format; in the order in which they can be put in force."""

from __future__ import annotations

import os

from hakoniwa import trust
from hakoniwa.errors import HakoError
from hakoniwa.kernel.security import seccomp
from hakoniwa.seccomp.docker import read_profile
from hakoniwa.spec.held import CallFilter, Seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    # What tells the filter from every other one, and what describes it when there is no program of it yet.
    Described = tuple[str, Callable[[], CallFilter]]

_LARGEST_PROFILE = 1 << 20

# What a process calls after a filter that cannot wait for the trampoline is in force (steps/process/program.py).
NEEDED_LATER = """
    read write close close_range dup dup2 dup3 fcntl openat openat2 fstat newfstatat lseek getcwd chdir fchdir umask
    setgroups setresgid setresuid capset capget prctl execve execveat mmap munmap mprotect brk futex poll rt_sigaction
    rt_sigprocmask rt_sigreturn memfd_create ioctl getpid access faccessat2 exit_group
""".split()


def own_filters(wanted: Seccomp, *, no_new_privs: bool) -> list[Described]:
    """The filters of the file, the one that forbids `seccomp` itself last. Raises HakoError for what cannot be."""
    found = []
    for described in wanted.filters:
        _must_let_it_start(described, no_new_privs=no_new_privs)
        last = not _permits(described, "seccomp")
        found.append((last, (_digest(repr(described)), lambda described=described: described)))
    if sum(last for last, _ in found) > 1:
        raise HakoError(
            "only one filter may forbid the call seccomp: no other can be put in force after it",
            where=wanted.filters[-1].where,
            hint='rule.allow("seccomp") in the others, or make it one filter',
        )
    return [one for _, one in sorted(found, key=lambda entry: entry[0])]


def own_profile(wanted: Seccomp, held: int) -> Described:
    """The profile that the file names, which is in Docker's format. Raises HakoError when it cannot be read."""
    path, machine = str(wanted.profile), seccomp.machine()
    content = _read_profile(path, wanted.where)
    key = f"{_digest(content.decode('latin-1'))}-{held:x}-{os.uname().release}"
    return key, lambda: read_profile(content, path, held, machine)


def _read_profile(path: str, where: str) -> bytes:
    try:
        trust.check(path)  # who could change it would decide what is forbidden
        with open(path, "rb") as file:
            content = file.read(_LARGEST_PROFILE + 1)
    except OSError as error:
        raise HakoError(f"cannot read the seccomp profile {path}: {error.strerror}", where=where) from None
    if len(content) > _LARGEST_PROFILE:
        raise HakoError(f"the seccomp profile {path} is larger than 1 MiB", where=where)
    return content


def _digest(text: str) -> str:
    from _blake2 import blake2b

    return blake2b(text.encode(errors="surrogateescape"), digest_size=20).hexdigest()


def _permits(described: CallFilter, call: str) -> bool:
    """Whether a filter lets a call through whatever its arguments are."""
    passing = ("allow", "log")
    for rule in described.rules:
        if call in rule.calls and not (rule.tests and rule.action in passing):
            return rule.action in passing
    return described.default in passing


def _must_let_it_start(described: CallFilter, *, no_new_privs: bool) -> None:
    """Raise HakoError where no program could be executed under a filter."""
    if not _permits(described, "execveat"):
        told = "the seccomp filter lets no program start"
        raise HakoError(told, where=described.where, hint='rule.allow("execveat"): the program is executed with it')
    if no_new_privs:
        return
    missing = [call for call in NEEDED_LATER if not _permits(described, call)]
    if missing:
        raise HakoError(
            f"without no_new_privs the filter is in force before privileges are given up, which needs {missing[0]}",
            where=described.where,
            hint=f"rule.allow({', '.join(map(repr, missing[:5]))}), or leave no_new_privs True",
        )
