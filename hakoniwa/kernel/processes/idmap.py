"""Ids of a user namespace: its maps, who may use which, and user namespaces that only carry a map.

`man 7 user_namespaces`, `man 5 subuid`.
"""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem.files import read_file
from hakoniwa.kernel.processes import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Range = tuple[int, int, int]  # the first id inside, the first outside, how many

LARGEST_ID = 2**32 - 2  # 2**32 - 1 means "no change" (man 2 setresuid)
USUAL = 65536  # ids that a container expects to have


def maps(ranges: Sequence[Range], inside: int) -> bool:
    """Whether an id of the namespace is mapped."""
    return outside_of(ranges, inside) is not None


def read_map(pid: int | str, kind: str) -> list[Range]:
    """The map of a process's user namespace as we see it; `kind` is "uid" or "gid"."""
    lines = read_file(f"/proc/{pid}/{kind}_map").splitlines()
    return [(int(inside), int(outside), int(count)) for inside, outside, count in map(bytes.split, lines)]


def is_host_root() -> bool:
    """Whether this process is root of the host, and not (also not as root) of a user namespace in it."""
    return os.geteuid() == 0 and read_map("self", "uid") == [(0, 0, LARGEST_ID + 1)]


def outside_of(ranges: Sequence[Range], inside: int) -> int | None:
    """What an id of the namespace is outside, or None where it is not mapped."""
    return next((outside + inside - first for first, outside, count in ranges if first <= inside < first + count), None)


def write_maps(pid: int, uids: Sequence[Range], gids: Sequence[Range]) -> None:
    """Map the ids of the user namespace that a process is the first of. Needs capabilities outside. Raises OSError."""
    for kind, ranges in (("uid", uids), ("gid", gids)):
        text = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in ranges)
        file = os.open(f"/proc/{pid}/{kind}_map", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, text.encode())  # whole: the kernel takes one write
        finally:
            os.close(file)


def map_oneself(pid: int, uids: Range, gids: Range) -> None:
    """Map one user and one group, the caller's own: what every user may do. Groups are then fixed."""
    with open(f"/proc/{pid}/setgroups", "w") as file:
        file.write("deny")
    write_maps(pid, [uids], [gids])


def make_namespace(uids: Sequence[Range], gids: Sequence[Range]) -> int:
    """A user namespace with these maps and no process, as a descriptor: for mounts that show ids otherwise."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = process.clone(process.NAMESPACES["user"])
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    try:
        write_maps(pid, uids, gids)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writer)
        os.waitpid(pid, 0)
        os.close(pidfd)


def become_root_inside(leave_groups: bool) -> None:
    """Be root of the user namespace: what is made from here on belongs to it. Without groups, where they may be left."""
    if leave_groups:
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def may_set_groups() -> bool:
    """Whether this user namespace lets its processes change their groups."""
    return read_file("/proc/self/setgroups").strip() != b"deny"


def subordinate_ranges(path: str, user: str, uid: int) -> list[tuple[int, int]]:
    """The ranges (first, count) that a file such as /etc/subuid gives a user, by name or number.

    Raises HakoError with the line that cannot be understood.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        owner, *numbers = line.strip().split(":")
        if owner not in (user, str(uid)):
            continue
        if len(numbers) != 2 or not all(word.isascii() and word.isdecimal() for word in numbers):
            raise HakoError(
                f"{line.strip()!r} cannot be understood",
                where=f"{path}:{number}",
                hint="NAME:FIRST:COUNT (man 5 subuid)",
            )
        first, count = int(numbers[0]), int(numbers[1])
        if count < 1 or first + count - 1 > LARGEST_ID:
            raise HakoError(f"the range {first}:{count} is not one of ids", where=f"{path}:{number}")
        found.append((first, count))
    return found


def taken_ranges() -> list[tuple[int, int]]:
    """All ranges that are given to anybody on this host; lines that cannot be understood are passed over."""
    found = []
    for path in ("/etc/subuid", "/etc/subgid"):
        try:
            lines = read_file(path).decode(errors="replace").splitlines()
        except FileNotFoundError:
            continue
        for line in lines:
            numbers = line.strip().split(":")[1:]
            if len(numbers) == 2 and all(word.isascii() and word.isdecimal() for word in numbers):
                found.append((int(numbers[0]), int(numbers[1])))
    return found
