"""Namespaces that the first process itself enters or makes, and those that are kept."""

from __future__ import annotations

import errno
import os

from hakoniwa.errors import HakoError
from hakoniwa.host.paths import open_outside, open_parent, remove_file
from hakoniwa.kernel.processes import process
from hakoniwa.places import make_parents
from hakoniwa.steps.step import Context, Step, write_own_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from hakoniwa.spec.records import Entered


class CopyMounts(Step):
    """Begin with the mounts of a namespace that exists: a copy, so that what is mounted here is nobody else's."""

    namespace: int

    def __str__(self) -> str:
        return "enter the mount namespace"

    def apply(self, context: Context) -> None:
        process.join(self.namespace, process.NAMESPACES["mount"])
        os.close(self.namespace)
        process.unshare(process.NAMESPACES["mount"])

    def hint(self, error: OSError) -> str:
        return "entering one takes cap_sys_admin in its user namespace" if error.errno == errno.EPERM else ""


def open_entered(entered: tuple[Entered, ...], shared: Mapping[str, int]) -> list[tuple[str, int]]:
    """Open namespaces by their paths; those that the barn shares are open. Raises HakoError for what is none of that kind."""
    opened = []
    for one in entered:
        if not one.path:
            if one.name not in shared:
                raise HakoError(f"cannot enter the {one.name} namespace of the barn: it shares none", where=one.where)
            opened.append((one.name, shared[one.name]))
            continue
        try:
            descriptor = open_outside(one.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            hint = f"ip netns add {os.path.basename(one.path)}" if one.path.startswith("/run/netns/") else ""
            told = f"cannot enter the {one.name} namespace {one.path}: {error.strerror}"
            raise HakoError(told, where=one.where, hint=hint) from None
        kind = process.kind_of(descriptor)
        if kind != one.name:
            what = "no namespace" if kind is None else f"a {kind} namespace"
            told = f"cannot enter the {one.name} namespace {one.path}: it is {what}"
            raise HakoError(told, where=one.where, hint="such as /proc/PID/ns/net, or a file that one is mounted on")
        opened.append((one.name, descriptor))
    return opened


class MakeCgroupNamespace(Step):
    """After the groups were joined: they are its roots (`man 7 cgroup_namespaces`)."""

    def __str__(self) -> str:
        return "make the cgroup namespace"

    def apply(self, context: Context) -> None:
        process.unshare(process.NAMESPACES["cgroup"])


class ShiftClocks(Step):
    """A time namespace whose clocks are ahead. They can be set until a process is in it (`man 7 time_namespaces`)."""

    monotonic: float
    boottime: float

    def __str__(self) -> str:
        return f"set the clocks monotonic {self.monotonic:+g} s, boottime {self.boottime:+g} s"

    def apply(self, context: Context) -> None:
        process.unshare(process.NAMESPACES["time"])
        lines = []
        for clock, ahead in (("monotonic", self.monotonic), ("boottime", self.boottime)):
            nanoseconds = round(ahead * 10**9)
            lines.append(f"{clock} {nanoseconds // 10**9} {nanoseconds % 10**9}\n")
        write_own_file("timens_offsets", "".join(lines))
        made = os.open("/proc/self/ns/time_for_children", os.O_RDONLY | os.O_CLOEXEC)
        process.join(made, process.NAMESPACES["time"])
        os.close(made)

    def hint(self, error: OSError) -> str:
        return "a clock cannot be set below 0, nor so far ahead" if error.errno == errno.ERANGE else ""


def persist(pid: int, name: str, path: str, where: str) -> None:
    """Keep a namespace of a process at a path of the host. Raises HakoError; then nothing was changed."""
    from hakoniwa.kernel.filesystem import mount

    release(path)
    try:
        make_parents(path)
        file = open_outside(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o444)
    except FileExistsError:
        told = f"cannot keep the {name} namespace in {path}: something else is there"
        raise HakoError(told, where=where, hint="name another path, or remove it") from None
    except OSError as error:
        raise HakoError(f"cannot keep the {name} namespace in {path}: {error.strerror}", where=where) from None
    try:
        mount.bind_file(f"/proc/{pid}/ns/{process.FILES.get(name, name)}", file)
    except OSError as error:
        remove_file(path)
        hint = "a mount namespace can be kept where mounts are private: mount --make-private" if name == "mount" else ""
        told = f"cannot keep the {name} namespace in {path}: {error.strerror}"
        raise HakoError(told, where=where, hint=hint) from None
    finally:
        os.close(file)


def release(path: str) -> bool:
    """Let go of a namespace that was kept at a path; whether there was one. Whatever else is there is left alone."""
    from hakoniwa.kernel.filesystem import mount

    try:
        folder, name = open_parent(path)
    except OSError:
        return False
    try:
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=folder)
        except OSError:
            return False
        kept = process.kind_of(descriptor) is not None
        os.close(descriptor)
        if kept:
            mount.detach(f"/proc/self/fd/{folder}/{name}")
            os.unlink(name, dir_fd=folder)
    finally:
        os.close(folder)
    return kept
