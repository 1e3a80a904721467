"""Whether a path may be trusted: who, besides us, could have put there what it leads to, or could change it.

What root executes or believes has to be root's on the whole way: each folder, each symlink and the thing itself, by owner,
mode and POSIX ACL (`man 5 acl`). Under sudo, who asked counts as an owner too, as git has it (safe.directory in
`man 1 git-config`). A group may write when nobody else is in it, which is what a umask of 002 relies on.

An ordinary user judges for themselves what they name. But in a folder that everybody can write to, what somebody else has
put there is refused for them as well, as the kernel does for links (fs.protected_symlinks in `man 5 proc_sys_fs`).
"""

from __future__ import annotations

import errno
import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem.files import read_all, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_LARGEST_OWN = 32 << 20  # bytes: what a container file of the greatest size says, several times over
_USUAL = 32 << 10  # bytes that a file has at most, unless it says otherwise: those of /proc say that they have none
_KIND, _FOLDER, _LINK, _REGULAR = 0o170000, 0o040000, 0o120000, 0o100000
_STICKY, _GROUP_WRITES, _OTHERS_WRITE = 0o1000, 0o020, 0o002
_WANTED = "name a NAME.haco.py file"
_MOST_LINKS = 40  # as the kernel: `man 7 path_resolution`
_ACL = "system.posix_acl_access"
_ACL_HEADER, _ACL_ENTRY = 4, 8  # linux/posix_acl_xattr.h: a version; then tag, permissions and id
_ACL_USER, _ACL_OWNING_GROUP, _ACL_GROUP, _ACL_MASK, _ACL_WRITE = 0x02, 0x04, 0x08, 0x10, 2


class Distrust(HakoError):
    """A path that is not to be trusted. `foreign`: what lies there is somebody else's."""

    def __init__(self, message: str, *, where: str = "", hint: str = "", foreign: bool = False) -> None:
        super().__init__(message, where=where, hint=hint)
        self.foreign = foreign


class Way:
    """Where a path leads: `real` is its end, with `status`; `links` are the symlinks on it.

    `passed` has, for each entry on the way, its path and status, and those of the folder that it lies in.
    """

    def __init__(self) -> None:
        self.real, self.status = "/", os.lstat("/")
        self.root = self.status
        self.complete = True
        self.links: list[str] = []
        self.passed: list[tuple[str, os.stat_result, str, os.stat_result]] = []


def follow(path: str, *, missing: bool = False) -> Way:
    """Go along `path` as the kernel does, and note what is passed. Raises OSError.

    With `missing`, a path to what is not there ends at the last folder that is; it is not `complete`.
    """
    way = Way()
    whole = path if path.startswith("/") else os.path.join(os.getcwd(), path)
    ahead = whole.split("/")[::-1]
    while ahead:
        name = ahead.pop()
        if name in ("", "."):
            continue
        if name == "..":
            way.real = os.path.dirname(way.real)
            way.status = os.lstat(way.real)
            continue
        entry = f"{way.real.rstrip('/')}/{name}"
        try:
            status = os.lstat(entry)
        except FileNotFoundError:
            if not missing:
                raise
            way.complete = False
            return way
        way.passed.append((entry, status, way.real, way.status))
        if status.st_mode & _KIND != _LINK:
            way.real, way.status = entry, status
            continue
        way.links.append(entry)
        if len(way.links) > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(entry)
        ahead += target.split("/")[::-1]
        if target.startswith("/"):
            way.real, way.status = "/", os.lstat("/")
    return way


def check(path: str) -> Way:
    """Raise Distrust when this user must not execute what `path` leads to, OSError when there is nothing."""
    way = follow(path)
    owners, strict = _judges(way.root)
    _check_folders(way, path, owners, strict)
    if strict:
        uid = way.status.st_uid
        if uid not in owners:
            told = f"this file belongs to uid {uid}, and root would execute it"
            raise Distrust(told, where=path, hint=f"chown root {path}", foreign=True)
        who = _who_else_writes(way.real, way.status, owners)
        if who is not None:
            told = f"others can write to this file, which root would execute{who}"
            raise Distrust(told, where=path, hint=_way_out(who, path))
    return way


def check_folder(folder: str) -> bool:
    """Whether a folder of ours is there. Raises Distrust when it belongs to somebody else, or they could write to it.

    The folders above it are judged even when it is not there.
    """
    way = follow(folder, missing=True)
    owners, strict = _judges(way.root)
    _check_folders(way, folder, owners, strict)
    if way.complete:
        _must_be_ours(folder, way.status, way.real, owners)
    return way.complete


def check_entry(folder: str) -> None:
    """The same for a folder that is there, in one that was checked: nobody else can have put it there. It is no symlink."""
    status = os.lstat(folder)
    _must_be_ours(folder, status, folder, (0, os.geteuid()))


def _must_be_ours(folder: str, status: os.stat_result, real: str, owners: Collection[int]) -> None:
    us = os.geteuid()
    if status.st_mode & _KIND != _FOLDER:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)
    if status.st_uid not in (0, us) or _who_else_writes(real, status, owners) is not None:
        hint = f"chown {us} {folder} && chmod go-w {folder}, once what lies in it is yours"
        raise Distrust(f"the folder {folder} is not ours alone", hint=hint)


def check_place(path: str) -> None:
    """Raise Distrust where `path` lies in a folder that everybody can write to, and somebody else has put it there."""
    way = follow(path)
    _check_folders(way, path, _judges(way.root)[0], strict=False)


def read_own(path: str, *, most: int | None = None) -> bytes:
    """The bytes of a file that lies in a folder of ours and is ours alone, too; with `most`, its first bytes.

    Raises OSError: EPERM where it is not, EINVAL where it is no regular file, EFBIG where it is larger than any of ours.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(file)
        if status.st_mode & _KIND != _REGULAR:
            raise OSError(errno.EINVAL, "not a regular file", path)
        if status.st_size > _LARGEST_OWN:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
        shared = status.st_mode & (_GROUP_WRITES | _OTHERS_WRITE)
        if status.st_uid not in (0, os.geteuid()) or (
            shared and _who_else_writes(path, status, _judges(os.lstat("/"))[0]) is not None
        ):
            raise PermissionError(errno.EPERM, "the file is not ours alone", path)
        return read_all(file) if most is None else os.read(file, most)
    finally:
        os.close(file)


def read_trusted(path: str, largest: int, *, wanted: str = _WANTED) -> bytes:
    """The bytes of a regular file that this user may execute; `wanted` is the hint for what is none.

    Raises HakoError (Distrust) and OSError.
    """
    return read_found(path, largest, wanted=wanted)[0]


def read_found(path: str, largest: int, *, wanted: str = _WANTED) -> tuple[bytes, str]:
    """The same, and where the file lies: its path without symlinks."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(file)
        if status.st_mode & _KIND != _REGULAR:
            raise HakoError("not a regular file", where=path, hint=wanted)
        if status.st_size > largest:
            raise HakoError(f"{status.st_size} bytes are more than the {largest} that are read", where=path)
        way = check(path)
        if not os.path.samestat(status, way.status):
            raise HakoError("the file was replaced while it was being read", where=path, hint="try again")
        return os.read(file, max(status.st_size, _USUAL) + 1), way.real
    finally:
        os.close(file)


def is_strict() -> bool:
    """Whether this is the root whose tree of files this is, who trusts nobody else.

    Root of a user namespace that an ordinary user has made is that user; `/` is nobody's there.
    """
    return _judges(os.lstat("/"))[1]


def _judges(root: os.stat_result) -> tuple[set[int], bool]:
    """Whose files may be executed, and whether this is the root of the tree whose `/` has this status (`is_strict`).

    Root's, our own, and those of who called sudo. Whoever owns `/` is as good as root.
    """
    us = os.geteuid()
    owners = {0, us, root.st_uid}
    asked = os.environ.get("SUDO_UID", "") if us == 0 else ""
    if asked.isascii() and asked.isdigit():
        owners.add(int(asked))
    return owners, us == 0 == root.st_uid


def _check_folders(way: Way, shown: str, owners: Collection[int], strict: bool) -> None:
    shared: dict[str, bool] = {}
    for entry, status, folder, above in way.passed:
        if folder not in shared:
            shared[folder] = _is_shared(folder, above, shown, owners, strict)
        if shared[folder] and status.st_uid not in owners:
            told = f"others can write to the folder {folder}, and uid {status.st_uid} has put {entry} there"
            raise Distrust(told, where=shown, hint="use a folder of your own", foreign=True)


def _is_shared(folder: str, status: os.stat_result, shown: str, owners: Collection[int], strict: bool) -> bool:
    """Whether others can make entries in a folder, and not take away ours: it is sticky. Raises Distrust where they can."""
    if not strict:
        return bool(status.st_mode & _OTHERS_WRITE)
    if status.st_uid not in owners:
        told = f"the folder {folder} belongs to uid {status.st_uid}, who can replace what lies in it"
        raise Distrust(told, where=shown, hint=f"chown root {folder}", foreign=True)
    who = _who_else_writes(folder, status, owners)
    if who is not None and not status.st_mode & _STICKY:
        raise Distrust(f"others can write to the folder {folder}{who}", where=shown, hint=_way_out(who, folder))
    return who is not None


def _way_out(who: str, path: str) -> str:
    return f"setfacl -b {path}" if "ACL" in who else f"chmod go-w {path}"


def _who_else_writes(path: str, status: os.stat_result, owners: Collection[int]) -> str | None:
    """Who can write besides `owners`, as the end of a sentence that says "others can"; None where nobody can."""
    if status.st_mode & _OTHERS_WRITE:
        return ""
    if not status.st_mode & _GROUP_WRITES:
        return None  # an ACL lets nobody either: these bits are its mask
    for is_group, number in _granted(path, status.st_gid):
        if not is_group and number not in owners:
            return f": its ACL lets uid {number}"
        if is_group and not _is_private(number, owners):
            return f": group {number}"
    return None


def _granted(path: str, owning_group: int) -> list[tuple[bool, int]]:
    """Whom the group bits let write: the owning group, or whom an ACL names; groups as (True, gid)."""
    try:
        acl = os.getxattr(path, _ACL)
    except OSError:
        return [(True, owning_group)]
    mask, granted = _ACL_WRITE, []
    for at in range(_ACL_HEADER, len(acl) - _ACL_ENTRY + 1, _ACL_ENTRY):
        tag, permissions, number = (
            int.from_bytes(acl[at + begin : at + end], "little") for begin, end in ((0, 2), (2, 4), (4, 8))
        )
        if tag == _ACL_MASK:
            mask = permissions
        elif permissions & _ACL_WRITE and tag in (_ACL_USER, _ACL_OWNING_GROUP, _ACL_GROUP):
            granted.append((tag != _ACL_USER, owning_group if tag == _ACL_OWNING_GROUP else number))
    return granted if mask & _ACL_WRITE else []


def _is_private(gid: int, owners: Collection[int]) -> bool:
    """Whether a group is known and has nobody in it but `owners`. By the files: others' services cannot list members."""
    from hakoniwa.kernel.security.users import members

    try:
        passwd, group = (read_file(f"/etc/{name}").decode(errors="replace") for name in ("passwd", "group"))
    except OSError:
        return False
    found = members(passwd, group, gid)
    return found is not None and found <= set(owners)
