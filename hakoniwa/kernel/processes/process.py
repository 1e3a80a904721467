"""Processes: clone3, and namespaces to join."""

from __future__ import annotations

import errno
import os
import sys

from hakoniwa.kernel.libc import CLONE3, CLOSE_RANGE, call, fork_hooks, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Clone flags of the namespaces by their names in a container file. `man 7 namespaces`.
NAMESPACES = {
    "mount": 0x00020000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "user": 0x10000000,
    "cgroup": 0x02000000,
    "time": 0x00000080,
}
FILES = {"mount": "mnt"}  # what they are called in /proc/PID/ns, where that is not the name
_CLONE_INTO_CGROUP = 0x200000000
_CLONE_PARENT = 0x8000
_SIGCHLD = 17
_CLOEXEC_RANGE = 4  # CLOSE_RANGE_CLOEXEC


def clone(namespaces: int, *, cgroup: int | None = None, sibling: bool = False) -> tuple[int, int]:
    """Fork into new namespaces (and a v2 cgroup, by descriptor): (pid, pidfd) in the parent, (0, -1) in the child.

    Call it from the main thread of a process without others: the parent-death signal of the child follows the
    thread, and Python cannot be forked safely beside threads. A `sibling` is the child of our own parent, which it
    signals when it ends as we do. `man 2 clone3`.
    """
    before, after_in_parent, after_in_child = fork_hooks()
    flags = namespaces | (_CLONE_INTO_CGROUP if cgroup is not None else 0) | (_CLONE_PARENT if sibling else 0)
    fields = (flags, 0, 0, 0, 0 if sibling else _SIGCHLD, 0, 0, 0, 0, 0, cgroup if cgroup is not None else 0)
    record = b"".join(value.to_bytes(8, "little") for value in fields)
    before()
    try:
        pid = syscall(CLONE3, record, len(record))
    except OSError:
        after_in_parent()
        raise
    if pid == 0:
        after_in_child()
        return 0, -1
    after_in_parent()
    return pid, os.pidfd_open(pid)  # the child is ours to reap: until then its pid is nobody else's


def clone_from(
    enter: Callable[[], None], namespaces: int, *, cgroup: int | None = None, keep: set[int] | None = None
) -> tuple[int, int]:
    """As `clone`, but from a process that has called `enter` first: to be born in namespaces that we stay out of.

    The child is ours. It has no descriptors from 3 on but those of `keep` (None: all). The process in between ends at once.
    Raises OSError for what fails in it, and ChildProcessError when `enter` has ended it.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    middle, held = clone(0)
    if middle == 0:
        try:
            enter()
            if keep is not None:
                close_all_but({*keep, writer})
            pid, _ = clone(namespaces, cgroup=cgroup, sibling=True)
            if pid == 0:
                if keep is None:
                    os.close(reader)
                os.close(writer)
                return 0, -1
        except OSError as error:
            pid = -(error.errno or 1)
        os.write(writer, pid.to_bytes(8, "little", signed=True))
        os._exit(0)
    os.close(writer)
    told = os.read(reader, 8)
    os.close(reader)
    os.waitpid(middle, 0)
    os.close(held)
    if not told:
        raise ChildProcessError(errno.ECHILD, "the process that was to enter the namespaces has ended")
    pid = int.from_bytes(told, "little", signed=True)
    if pid <= 0:
        raise OSError(-pid, os.strerror(-pid))
    return pid, os.pidfd_open(pid)


def clone_away(enter: Callable[[], None], namespaces: int, *, cgroup: int | None = None) -> tuple[int, int]:
    """As `clone`, but after `enter` has joined `namespaces` of others, out of which this process comes back.

    Faster than `clone_from`; for what `enter` leaves behind that can be given back, which a user namespace cannot. Nothing is
    loaded meanwhile: it would be the others' files. Raises OSError, and what `enter` raises.
    """
    root, folder = os.open("/", os.O_PATH | os.O_CLOEXEC), os.open(".", os.O_PATH | os.O_CLOEXEC)
    files = [FILES.get(name, name) for name, flag in NAMESPACES.items() if namespaces & flag]
    own = [os.open(f"/proc/self/ns/{file}", os.O_RDONLY | os.O_CLOEXEC) for file in files]
    pid = -1
    try:
        enter()
        pid, pidfd = clone(0, cgroup=cgroup)
    finally:
        if pid:
            _come_back(own, root, folder)
    return pid, pidfd


def _come_back(namespaces: list[int], root: int, folder: int) -> None:
    """Join one's own namespaces again, and close what led to them. Who cannot must not go on among others' files."""
    try:
        for namespace in namespaces:
            join(namespace, 0)
        os.fchdir(root)
        os.chroot(".")
        os.fchdir(folder)
    except OSError:
        os._exit(125)
    for descriptor in (root, folder, *namespaces):
        os.close(descriptor)


def join(descriptor: int, namespaces: int) -> None:
    """Enter namespaces of a process (by pidfd), or one by a descriptor of it. `man 2 setns`.

    Of a pid namespace, the next child is the first member.
    """
    call("setns", descriptor, namespaces)


def unshare(namespaces: int) -> None:
    """Leave namespaces for new ones. `man 2 unshare`."""
    call("unshare", namespaces)


def kind_of(descriptor: int) -> str | None:
    """The kind of namespace that a descriptor refers to, None where it is no namespace. `man 2 ioctl_ns`."""
    import fcntl

    ns_get_nstype = 0xB703
    try:
        flag = fcntl.ioctl(descriptor, ns_get_nstype)
    except OSError:
        return None
    return next((name for name, known in NAMESPACES.items() if known == flag), None)


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor from 3 on but those in `keep`, and the file that our code is read from (bundle/quickimport.py)."""
    code = {getattr(finder, "file", -1) for finder in sys.meta_path}
    first = 3
    for number in sorted(fd for fd in keep | code if fd >= 3):
        if number > first:
            syscall(CLOSE_RANGE, first, number - 1, 0)
        first = number + 1
    syscall(CLOSE_RANGE, first, 0xFFFFFFFF, 0)


def set_hostname(name: str) -> None:
    """Name this UTS namespace."""
    text = os.fsencode(name)
    call("sethostname", text, len(text))
