"""The programs that hold a container to its filters, each made once and kept by what it was made from.

A start reads a few kilobytes; only where nothing is kept is libseccomp loaded.
"""

from __future__ import annotations

import os

from hakoniwa.kernel.security import seccomp
from hakoniwa.places import programs_dir
from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hakoniwa.spec.held import CallFilter, Seccomp

_LARGEST = 4096 * 8  # what the kernel takes (BPF_MAXINSNS)


class Program(Record):
    """A program and where it is kept."""

    path: str
    content: bytes


def kept(paths: Sequence[str]) -> tuple[Program, ...] | None:
    """The programs of a running container, or None where one is not kept any more."""
    found = [Program(path=path, content=content) for path in paths if (content := _read(path)) is not None]
    return tuple(found) if len(found) == len(paths) else None


def programs_for(wanted: Seccomp, held: int, *, no_new_privs: bool) -> tuple[Program, ...]:
    """The programs of a container with the capabilities `held`, in the order in which they are put in force.

    Raises HakoError for what cannot be.
    """
    made = [default_program(held)] if wanted.profile == "default" else []
    if wanted.filters or wanted.profile not in ("default", None):
        from hakoniwa.seccomp import described

        own = described.own_filters(wanted, no_new_privs=no_new_privs)
        if wanted.profile is not None and not made:
            own.insert(0, described.own_profile(wanted, held))
        made += [made_once(key, describe) for key, describe in own]
    return tuple(made)


def default_program(held: int) -> Program:
    """That of the default profile."""

    def describe() -> CallFilter:
        from hakoniwa.seccomp.profile import default_profile

        return default_profile(held)

    return made_once(f"default-{_version('../kernel/security/callnames')}-{_version('profile')}-{held:x}", describe)


def _version(module: str) -> str:
    """What tells a module from an earlier one: programs that are made from it are made anew."""
    return f"{os.stat(f'{os.path.dirname(__file__)}/{module}.py').st_mtime_ns:x}"


def made_once(key: str, describe: Callable[[], CallFilter]) -> Program:
    """The program with that key, made and kept where there is none yet."""
    machine = seccomp.machine()
    path = os.path.join(programs_dir(), f"{machine}-{_version('compiling')}-{key}.bpf")
    program = _read(path)
    if program is None and len(os.listdir("/proc/self/task")) == 1:
        _make_apart(path, describe, machine)
        program = _read(path)
    return Program(path=path, content=_make(path, describe, machine) if program is None else program)


def _make(path: str, describe: Callable[[], CallFilter], machine: str) -> bytes:
    from hakoniwa.seccomp.compiling import compile_filter, keep

    program = compile_filter(describe(), machine)
    keep(path, program)
    return program


def _make_apart(path: str, describe: Callable[[], CallFilter], machine: str) -> None:
    """Make it in a child: what that loads, a barn's process and its supervisors would have for all their lives.

    What fails is left for us to do once more, and to tell.
    """
    child = os.fork()
    if child == 0:
        try:
            _make(path, describe, machine)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


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
