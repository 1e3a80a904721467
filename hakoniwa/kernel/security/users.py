"""Users and groups as a rootfs names them: its files are parsed, and never through NSS, which would load its code."""

from __future__ import annotations

from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGEST_ID = 2**32 - 2  # 2**32 - 1 means "no change" to the kernel (man 2 setresuid)


class UnknownUser(LookupError):
    """A user or group name that the files do not have; `setting` is which of "uid", "gid" and "groups" has it."""

    def __init__(self, what: str, setting: str) -> None:
        super().__init__(f"{what} is not in the rootfs's {'/etc/passwd' if setting == 'uid' else '/etc/group'}")
        self.setting = setting


class Account(Record):
    """Who the payload runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str


def find_account(
    passwd: str, group: str, user: int | str | None, gid: int | str | None, groups: Sequence[int | str]
) -> Account:
    """The account of `user` (0 if None), from the texts of /etc/passwd and /etc/group.

    Without `gid` it is the user's own, or the uid's number where the user has no line. The groups are the named ones,
    or where none are named those that list the user. Raises UnknownUser.
    """
    wanted = 0 if user is None else user
    line = _user_line(passwd, wanted)
    if line is None and isinstance(wanted, str):
        raise UnknownUser(f"user {wanted!r}", "uid")
    uid = int(line[2]) if line else int(wanted)
    if gid is not None:
        primary = _group_id(group, gid, "gid")
    else:
        primary = int(line[3]) if line else uid
    if groups:
        extra = tuple(_group_id(group, item, "groups") for item in groups)
    else:
        extra = _groups_listing(group, line[0]) if line else ()
    home = line[5] if line and line[5].startswith("/") else "/"
    shell = line[6] if line and line[6].startswith("/") else ""
    return Account(uid=uid, gid=primary, groups=extra, home=home, shell=shell)


def members(passwd: str, group: str, gid: int) -> set[int] | None:
    """The uids of a group's members, those whose own group it is included; None for a group that the file lacks.

    A member without a line in `passwd` is -1.
    """
    lines = [line for line in _lines(group, 4, (2,)) if int(line[2]) == gid]
    if not lines:
        return None
    users = _lines(passwd, 7, (2, 3))
    names = {name for line in lines for name in line[3].split(",") if name}
    unknown = names - {line[0] for line in users}
    return {int(line[2]) for line in users if line[0] in names or int(line[3]) == gid} | ({-1} if unknown else set())


def _lines(text: str, fields: int, numbers: tuple[int, ...]) -> list[list[str]]:
    """The well-formed lines. A malformed one, or one with an impossible id, is passed over, as `getpwnam` does."""
    lines = (line.split(":") for line in text.splitlines())
    return [line for line in lines if len(line) >= fields and all(_is_id(line[number]) for number in numbers)]


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= _LARGEST_ID


def _user_line(passwd: str, user: int | str) -> list[str] | None:
    for line in _lines(passwd, 7, (2, 3)):
        if line[0] == user or (isinstance(user, int) and int(line[2]) == user):
            return line
    return None


def _group_id(group: str, wanted: int | str, setting: str) -> int:
    if isinstance(wanted, int):
        return wanted
    for line in _lines(group, 4, (2,)):
        if line[0] == wanted:
            return int(line[2])
    raise UnknownUser(f"group {wanted!r}", setting)


def _groups_listing(group: str, name: str) -> tuple[int, ...]:
    return tuple(int(line[2]) for line in _lines(group, 4, (2,)) if name in line[3].split(","))
