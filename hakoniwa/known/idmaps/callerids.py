"""Which ids an ordinary user's container has in its user namespace, checked against what the user may use.

`man 7 user_namespaces`, `man 5 subuid`, `man 1 newuidmap`.
"""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem.files import read_all
from hakoniwa.kernel.processes import idmap
from hakoniwa.spec.records import Maps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.kernel.processes.idmap import Range
    from hakoniwa.spec.records import Container, IdRange


def for_ordinary_user(container: Container) -> Container:
    """The container as who is not root can have it: in a user namespace. Raises HakoError for what they cannot have."""
    for point in container.files.mounts:
        if point.idmap and (container.process.uid not in (None, 0, "root") or not _is_ours(point.source)):
            raise HakoError(
                "mapping ids on a mount takes root",
                where=point.where,
                hint="without it: your own files are those of root inside",
            )
    if container.has_user_namespace():
        return container
    return container.replace(namespaces=container.namespaces.replace(own=(*container.namespaces.own, "user")))


def _is_ours(path: str) -> bool:
    try:
        return os.stat(path).st_uid == os.geteuid()
    except OSError:
        return True  # the mount itself tells what is wrong


def choose_rootless(container: Container, uids: tuple[Range, ...], gids: tuple[Range, ...]) -> Maps:
    """The maps of an ordinary user's container, of which the file may name some. Raises HakoError."""
    if not container.namespaces.uid_map:
        return caller_maps()
    own, granted = {"uid": os.geteuid(), "gid": os.getegid()}, _usable_ranges()
    alone = True
    for kind, described in (("uid", container.namespaces.uid_map), ("gid", container.namespaces.gid_map)):
        for one in described:
            _must_be_granted(kind, one, own[kind], granted[kind])
        alone = alone and len(described) == 1 and described[0].outside == own[kind]
    if idmap.outside_of(uids, 0) != own["uid"]:
        told = (
            "an ordinary user's own id must be the container's 0: else the rootfs, which is theirs, is out of its reach"
        )
        raise HakoError(
            told,
            where=container.namespaces.uid_map[0].where,
            hint=f"set_uid_mapping(min=0, max=0, offset={own['uid']})",
        )
    return Maps(
        uids=uids,
        gids=gids,
        rootless=True,
        helped=not alone,
    )


def _usable_ranges() -> dict[str, list[tuple[int, int]]]:
    """What is granted, where the programs are there that can write it into a map."""
    granted = own_ranges()
    usable = granted["uid"] and granted["gid"] and _finds("newuidmap") and _finds("newgidmap")
    return granted if usable else {"uid": [], "gid": []}


def own_ranges() -> dict[str, list[tuple[int, int]]]:
    """What /etc/subuid and /etc/subgid give the calling user. Raises HakoError for a line that cannot be understood."""
    import pwd

    uid = os.geteuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return {kind: idmap.subordinate_ranges(f"/etc/sub{kind}", user, uid) for kind in ("uid", "gid")}


def caller_maps() -> Maps:
    """The maps of an ordinary user's containers where the file names none. Raises HakoError."""
    return usual_maps(_usable_ranges())


def usual_maps(granted: dict[str, list[tuple[int, int]]]) -> Maps:
    """The caller as root, and behind it as many ids as are granted; without any, the caller alone."""
    made: dict[str, tuple[Range, ...]] = {}
    for kind, own in (("uid", os.geteuid()), ("gid", os.getegid())):
        ranges: list[Range] = [(0, own, 1)]
        for first, count in granted[kind]:
            following = ranges[-1][0] + ranges[-1][2]
            count = min(count, idmap.USUAL - following)
            if count > 0:
                ranges.append((following, first, count))
        made[kind] = tuple(ranges)
    return Maps(uids=made["uid"], gids=made["gid"], rootless=True, helped=any(granted.values()))


def _must_be_granted(kind: str, one: IdRange, own: int, granted: list[tuple[int, int]]) -> None:
    """Raise HakoError for a range outside of what the caller may use."""
    inside_one = any(first <= one.outside and one.outside + one.count <= first + count for first, count in granted)
    if inside_one or (one.outside == own and one.count == 1):
        return
    have = " ".join(f"{first}:{count}" for first, count in granted) or "nothing"
    raise HakoError(
        f"{kind}s {one.outside} to {one.outside + one.count - 1} of the host are not yours to map",
        where=one.where,
        hint=f"/etc/sub{kind} gives you {have}, and your own {kind} {own} may be mapped once",
    )


def _finds(program: str) -> bool:
    return any(os.access(f"{folder}/{program}", os.X_OK) for folder in ("/usr/bin", "/bin", "/usr/local/bin"))


def run_helper(program: str, pid: int, ranges: tuple[Range, ...]) -> None:
    """newuidmap and newgidmap are set-uid, and check /etc/subuid themselves."""
    words = [program, str(pid), *(str(number) for one in ranges for number in one)]
    reader, writer = os.pipe2(os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, writer, 2)]
    child = os.posix_spawnp(program, words, {"PATH": "/usr/bin:/bin:/usr/local/bin"}, file_actions=actions)
    os.close(writer)
    told = read_all(reader)
    os.close(reader)
    if os.waitpid(child, 0)[1]:
        said = told.decode(errors="replace").strip().splitlines()
        raise HakoError(
            f"{program} refused: {said[-1] if said else 'without a word'}", hint="see /etc/subuid, /etc/subgid"
        )


def why_no_user_namespace() -> str:
    """What keeps user namespaces from being made here, as far as the kernel tells."""
    for path, value, hint in (
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "an AppArmor profile for hako with `userns,`"),
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
    ):
        try:
            with open(path) as file:
                if file.read().strip() == value:
                    return hint
        except OSError:
            continue
    return ""
