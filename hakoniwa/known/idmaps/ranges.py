"""The range of ids of each container whose file names none: given once, and kept until the container is forgotten.

A range is an empty file NAME@FIRST: there is nothing in it that could be half written, and one look at the folder tells all.
"""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes.idmap import LARGEST_ID, USUAL, taken_ranges
from hakoniwa.known import state
from hakoniwa.places import barn_folder_of, ensure_private, folder_of, lib_dir
from hakoniwa.spec.records import Maps
from hakoniwa.trust import check_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FOLDER = ".ids"
_BARN = "+"
_MACHINES = "/var/lib/machines"  # where systemd-nspawn keeps trees, which belong to the range that it has chosen
# The part of the id space that systemd leaves to containers (its UIDS-GIDS.md). Others choose from it, too.
_FIRST, _LAST = 0x80000, 0x6FFF0000
_SLOTS = (_LAST - _FIRST) // USUAL


def maps_of(name: str) -> tuple[Maps, bool]:
    """The maps of a container, and whether they were given just now. The container's lock is held. Raises HakoError."""
    try:
        first, new = _range_of(name)
    except OSError as error:
        told = f"cannot keep the ids of {name!r}: {error.strerror}: {error.filename}"
        raise HakoError(told, hint="is the disk full, or the folder not writable?") from None
    return Maps(uids=((0, first, USUAL),), gids=((0, first, USUAL),)), new


def _range_of(name: str) -> tuple[int, bool]:
    folder = _open_folder(make=True)
    try:
        # Whoever frees a range holds the lock alone, and looks whether the container has a state: ours has one by now.
        _lock(folder, alone=False)
        kept = _given().get(name)
        if kept is not None and _slot(kept) not in _slots_of(taken_ranges()):
            return kept, False
        _lock(folder, alone=True)
        given = _given()
        first = _FIRST + USUAL * _free_slot(name, given)
        if kept is not None:
            log.write(
                f"{name}: its ids move from {kept} to {first}, as /etc/subuid or subgid gives those away", "warning"
            )
            _remove(name, kept)
        os.close(os.open(_place(name, first), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return first, True
    finally:
        os.close(folder)


def free_unless_known(name: str) -> None:
    """Free the range of a container that has neither a state nor a record; its lock is held."""
    _free(lambda given: given == name and not state.is_known(name))


def free_forgotten() -> list[str]:
    """Free the ranges of all containers that have neither, and of barns that are gone. Returns their names."""

    def is_free(given: str) -> bool:
        if given.startswith(_BARN):
            return not os.path.exists(barn_folder_of(given[len(_BARN) :]))
        return not os.path.exists(folder_of(given)) and not state.is_known(given)

    return _free(is_free)


def key_of_barn(name: str) -> str:
    """What the range of a barn's shared user namespace is kept under: no container has such a name."""
    return f"{_BARN}{name}"


def _free(is_free: Callable[[str], bool]) -> list[str]:
    if not os.path.isdir(os.path.join(lib_dir(), _FOLDER)):
        return []
    folder = _open_folder()
    freed = []
    try:
        _lock(folder, alone=True)
        for name, first in _given().items():
            if is_free(name):
                _remove(name, first)
                freed.append(name)
    finally:
        os.close(folder)
    return freed


def _open_folder(*, make: bool = False) -> int:
    path = os.path.join(lib_dir(), _FOLDER)
    if make and not os.path.isdir(path):
        ensure_private(lib_dir())
        ensure_private(path)
    check_folder(path)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)


def _lock(folder: int, *, alone: bool) -> None:
    import fcntl

    fcntl.flock(folder, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)


def _place(name: str, first: int) -> str:
    return os.path.join(lib_dir(), _FOLDER, f"{name}@{first}")


def _remove(name: str, first: int) -> None:
    os.unlink(_place(name, first))


def _given() -> dict[str, int]:
    """The first id of each container that has a range. What is no such file is passed over."""
    found = {}
    for entry in os.listdir(os.path.join(lib_dir(), _FOLDER)):
        name, _, first = entry.rpartition("@")
        if name and first.isascii() and first.isdecimal() and _is_first(int(first)):
            found[name] = int(first)
    return found


def _is_first(number: int) -> bool:
    return _FIRST <= number < _FIRST + _SLOTS * USUAL and (number - _FIRST) % USUAL == 0


def _slot(first: int) -> int:
    return (first - _FIRST) // USUAL


def _free_slot(name: str, given: dict[str, int]) -> int:
    """A slot that is nobody's: by the name first, so that a container that was forgotten comes back to where it was."""
    from zlib import crc32

    taken = _slots_of([*taken_ranges(), *((first, USUAL) for first in given.values()), *_named_in_files(), *_in_use()])
    preferred: int = crc32(name.encode()) % _SLOTS
    for further in range(_SLOTS):
        slot = (preferred + further) % _SLOTS
        if slot not in taken and not _has_owner(_FIRST + slot * USUAL):
            return slot
    raise HakoError("every range of ids is taken", hint="hako gc frees those of containers that are gone")


def _slots_of(ranges: list[tuple[int, int]]) -> set[int]:
    """The slots that ranges of ids (first, count) touch."""
    touched: set[int] = set()
    for first, count in ranges:
        low, high = max(first, _FIRST), min(first + count - 1, _LAST - 1)
        touched.update(range(_slot(low), _slot(high) + 1) if low <= high else ())
    return touched


def _named_in_files() -> Iterator[tuple[int, int]]:
    """What the files of other containers name, whether they run or not."""
    from hakoniwa.known import listing

    for known in listing.every(tell=False):
        for one in (*known.definition.namespaces.uid_map, *known.definition.namespaces.gid_map):
            yield one.outside, one.count


def _in_use() -> Iterator[tuple[int, int]]:
    """What the user namespaces map that there are now, whoever has made them, and the owners of nspawn's trees."""
    seen: set[str] = set()
    for pid in os.listdir("/proc"):
        for kind in ("uid", "gid") if pid.isdecimal() else ():
            try:
                with open(f"/proc/{pid}/{kind}_map") as file:
                    seen.update(file.read().splitlines())
            except OSError:
                continue  # it has ended
    for line in seen:
        _, first, count = map(int, line.split())
        if count <= LARGEST_ID:  # not those of the host itself
            yield first, count
    try:
        trees = os.listdir(_MACHINES)
    except OSError:
        return
    for tree in trees:
        yield os.lstat(f"{_MACHINES}/{tree}").st_uid, USUAL


def _has_owner(first: int) -> bool:
    """Whether the user database knows the first id of a range: how systemd's UIDS-GIDS.md has programs tell each other."""
    import grp
    import pwd

    for find in (pwd.getpwuid, grp.getgrgid):
        try:
            find(first)
            return True
        except KeyError:
            continue
    return False
