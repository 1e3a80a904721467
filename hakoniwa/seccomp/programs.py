"""The programs that hold a container to its filters, each made once and kept by what it was made from.

A start reads a few kilobytes; only where nothing is kept is libseccomp loaded.
"""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel import seccomp
from hakoniwa.places import cache_dir, ensure_private
from hakoniwa.record import Record
from hakoniwa.spec import ArgumentTest, CallFilter, CallRule, Seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_LARGEST = 4096 * 8  # what the kernel takes (BPF_MAXINSNS)
_LARGEST_PROFILE = 1 << 20

# What a process calls after a filter that cannot wait for the trampoline is in force (steps/program.py).
NEEDED_LATER = """
    read write close close_range dup dup2 dup3 fcntl openat openat2 fstat newfstatat lseek getcwd chdir fchdir umask
    setgroups setresgid setresuid capset capget prctl execve execveat mmap munmap mprotect brk futex poll rt_sigaction
    rt_sigprocmask rt_sigreturn memfd_create ioctl getpid access faccessat2 exit_group
""".split()


class Program(Record):
    """A program and where it is kept."""

    path: str
    content: bytes


def kept(paths: list[str]) -> tuple[Program, ...] | None:
    """The programs of a running container, or None where one is not kept any more."""
    found = [Program(path=path, content=content) for path in paths if (content := _read(path)) is not None]
    return tuple(found) if len(found) == len(paths) else None


def described_by(definition: dict[str, Any]) -> Seccomp:
    """The filters as a state file has them."""
    filters = []
    for one in definition["filters"]:
        rules = []
        for rule in one["rules"]:
            tests = tuple(ArgumentTest(**test) for test in rule["tests"])
            rules.append(CallRule(**{**rule, "calls": tuple(rule["calls"]), "tests": tests}))
        filters.append(CallFilter(**{**one, "rules": tuple(rules)}))
    return Seccomp(**{**definition, "filters": tuple(filters)})


def programs_for(wanted: Seccomp, held: int, *, no_new_privs: bool) -> tuple[Program, ...]:
    """The programs of a container with the capabilities `held`, in the order in which they are put in force.

    One that forbids `seccomp` itself comes last. Raises HakoError for what cannot be.
    """
    machine = seccomp.machine()
    made = []
    for described in wanted.filters:
        _must_let_it_start(described, no_new_privs=no_new_privs)
        last = not _permits(described, "seccomp")
        made.append((last, _kept(_digest(repr(described)), lambda described=described: described, machine)))  # type: ignore[misc]
    if sum(last for last, _ in made) > 1:
        raise HakoError(
            "only one filter may forbid the call seccomp: no other can be put in force after it",
            where=wanted.filters[-1].where,
            hint='rule.allow("seccomp") in the others, or make it one filter',
        )
    if wanted.profile is not None:
        made.insert(0, (False, _profile(wanted, held, machine)))
    return tuple(program for _, program in sorted(made, key=lambda entry: entry[0]))


def _profile(wanted: Seccomp, held: int, machine: str) -> Program:
    if wanted.profile == "default":

        def describe() -> CallFilter:
            from hakoniwa.seccomp.profile import default_profile

            return default_profile(held)

        return _kept(f"default-{_profile_version()}-{held:x}", describe, machine)
    path = str(wanted.profile)
    content = _read_profile(path, wanted.where)

    def translate() -> CallFilter:
        from hakoniwa.seccomp.docker import read_profile

        return read_profile(content, path, held, machine)

    return _kept(f"{_digest(content.decode('latin-1'))}-{held:x}-{os.uname().release}", translate, machine)


def _profile_version() -> str:
    """What the default profile is made from: a change of it makes a program anew."""
    folder = os.path.dirname(__file__)
    return "-".join(f"{os.stat(f'{folder}/{name}.py').st_mtime_ns:x}" for name in ("names", "profile"))


def _read_profile(path: str, where: str) -> bytes:
    try:
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


def _kept(key: str, describe: Callable[[], CallFilter], machine: str) -> Program:
    """The program with that key, made and kept where there is none yet."""
    path = os.path.join(cache_dir(), "seccomp", f"{machine}-{key}.bpf")
    program = _read(path)
    if program is None:
        from hakoniwa.seccomp.compiling import compile_filter

        program = compile_filter(describe(), machine)
        _keep(path, program)
    return Program(path=path, content=program)


def _read(path: str) -> bytes | None:
    """A program that is ours and whole, or None."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        status = os.fstat(file)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            return None  # whoever else could write it decides what is forbidden
        content = os.read(file, _LARGEST + 1)
    finally:
        os.close(file)
    return content if seccomp.is_program(content) else None


def _keep(path: str, program: bytes) -> None:
    """Keep a program for later starts; where that fails they make it again."""
    try:
        ensure_private(cache_dir())
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
