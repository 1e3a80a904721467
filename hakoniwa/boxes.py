"""What is known of a rootfs that was made here: its mark, which is put beside all others and not where the rootfs lies.

A mark belongs to one folder, by path and inode: so whatever puts another folder in that place by a rename has put its mark
there by the same rename. Nothing inside a container can write a mark, which says what host folders are shown inside.
The lock of the place of a rootfs is found here, too.
"""

from __future__ import annotations

import os

from hakoniwa import fastjson, log
from hakoniwa.errors import HakoError
from hakoniwa.kernel.files import lock_file, replace_file
from hakoniwa.places import ensure_private, lib_dir, run_dir
from hakoniwa.trust import read_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEMA = 1
FORMS = ("plain", "host", "stack")  # a folder, the upper layer of the host's root, an upper layer on those of the store
BUILDING = ".building"  # ends the name of a folder beside the place of a rootfs
_LONGEST = 200  # of 255 bytes of a file name
_LOCKS = ".rootfs"


def _folder() -> str:
    return os.path.join(lib_dir(), ".boxes")


def layers_dir() -> str:
    """Where the layers lie that boxes are made of (rootfs/store/layers.py)."""
    return os.path.join(lib_dir(), ".layers")


def layer_tree(layer: str) -> str:
    """The files of one layer."""
    return os.path.join(layers_dir(), layer, "tree")


def layer_trees(layers: list[str]) -> tuple[str, ...]:
    """The files of each of several layers."""
    return tuple(map(layer_tree, layers))


def trees_under(path: str) -> tuple[str, ...]:
    """The files of the layers that a rootfs lies on, from the bottom up; none under a plain folder. Raises HakoError."""
    mark = read(path)
    return layer_trees(mark["layers"]) if mark is not None else ()


def aside_of(path: str, end: str = BUILDING) -> str:
    """The folder beside the place of a rootfs in which one is built, or removed."""
    parent, name = os.path.split(path)
    return os.path.join(parent, f".{name}{end}")


# Marks


def _stem(path: str) -> str:
    """A file name for a path."""
    escaped = path.strip("/").replace("%", "%25").replace("/", "%2F")
    if len(os.fsencode(escaped)) <= _LONGEST:
        return escaped
    import hashlib

    return hashlib.sha256(os.fsencode(path)).hexdigest()


def _place(path: str, inode: int) -> str:
    return os.path.join(_folder(), f"{_stem(path)}@{inode}.json")


def read(path: str) -> dict[str, Any] | None:
    """The mark of the rootfs at `path`, or None where there is none: then it was not made here.

    Raises HakoError where there is one that cannot be read: without it, a layer would pass for a plain folder.
    """
    try:
        inode = os.stat(path).st_ino
    except OSError:
        return None  # whoever opens the rootfs tells why
    place = _place(path, inode)
    try:
        content = read_own(place)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HakoError(f"what is known of the rootfs {path} cannot be read: {error.strerror}") from None
    try:
        return _parse(content, path)
    except ValueError as error:
        raise HakoError(
            f"what is known of the rootfs {path} is damaged: {place}: {error}",
            hint="hako create --rebuild makes it anew, hako rm --rootfs removes it",
        ) from None


def salvage(path: str) -> dict[str, Any] | None:
    """The mark, for who replaces or removes the rootfs anyway: None where it cannot be read, which is told."""
    try:
        return read(path)
    except HakoError as error:
        log.write(error.lines()[0], "warning")
        return None


def is_marked(path: str) -> bool:
    """Whether there is a mark of the rootfs at `path`, damaged or not."""
    try:
        return os.path.exists(_place(path, os.stat(path).st_ino))
    except OSError:
        return False


def _parse(content: bytes, path: str | None = None) -> dict[str, Any]:
    """A mark, with all that is read of one anywhere. Raises ValueError with what is wrong."""
    try:
        mark = fastjson.loads(content.decode())
    except (SystemError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(mark, dict) or mark.get("schema") != SCHEMA:
        raise ValueError(f"no record of schema {SCHEMA}")
    if not isinstance(mark.get("path"), str) or path not in (None, mark["path"]):
        raise ValueError(f"it is of {mark.get('path')!r}")
    snapshots = mark.get("snapshots")
    if (
        not _is_build(mark)
        or not _is_text_or_none(mark.get("provisioning"))
        or not _is_text_or_none(mark.get("failed"))
    ):
        raise ValueError("what was built is not all there")
    if not _is_outline(mark.get("said")):
        raise ValueError("what was said of it is not all there")
    if not isinstance(snapshots, dict) or not all(map(_is_snapshot, snapshots.values())):
        raise ValueError("what was kept is not all there")
    return mark


def _is_build(found: object) -> bool:
    """What a mark and each snapshot in it have in common."""
    if not isinstance(found, dict):
        return False
    layers, steps = found.get("layers"), found.get("steps")
    return (
        found.get("form") in FORMS
        and isinstance(found.get("asked"), str)
        and isinstance(layers, list)
        and all(isinstance(layer, str) and layer[:1] not in ("", ".") and "/" not in layer for layer in layers)
        and isinstance(steps, dict)
        and all(isinstance(step, str) for step in steps.values())
    )


def _is_snapshot(found: object) -> bool:
    return _is_build(found) and isinstance(found, dict) and isinstance(found.get("created_at"), str)


def _is_outline(said: object) -> bool:
    """What outline.py makes; an earlier version of ours wrote none."""
    if said is None:
        return True
    parts = [said.get(part) for part in ("bootstrap", "steps")] if isinstance(said, dict) else [None]
    return all(isinstance(part, dict) and all(isinstance(text, str) for text in part.values()) for part in parts)


def _is_text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def write(path: str, mark: dict[str, Any], *, folder: str | None = None) -> None:
    """Mark the folder that lies at `path`, or that will, once `folder` has been renamed so. Whole or not at all.

    Raises HakoError.
    """
    try:
        place = _place(path, os.stat(folder or path).st_ino)
        ensure_private(lib_dir())
        ensure_private(_folder())
        replace_file(place, fastjson.dumps({**mark, "schema": SCHEMA, "path": path}).encode())
    except OSError as error:
        told = f"cannot write down what is known of the rootfs {path}: {error.strerror}"
        raise HakoError(told, hint=f"is there room in {lib_dir()}?") from error


def remove_stale(path: str) -> None:
    """Remove the marks of folders that lie at `path` no more."""
    try:
        kept = os.path.basename(_place(path, os.stat(path).st_ino))
    except FileNotFoundError:
        kept = ""
    for entry in _entries():
        if entry.startswith(f"{_stem(path)}@") and entry != kept:
            try:
                os.unlink(os.path.join(_folder(), entry))
            except FileNotFoundError:
                continue


def _entries() -> list[str]:
    try:
        return sorted(os.listdir(_folder()))
    except FileNotFoundError:
        return []


def every() -> tuple[list[dict[str, Any]], list[str]]:
    """All marks, those of a folder that is about to be put in place included; and the files that are none, by path."""
    found, damaged = [], []
    for entry in _entries():
        place = os.path.join(_folder(), entry)
        try:
            if entry.endswith(".json"):  # else it is being written
                mark = _parse(read_own(place))
                if entry.rpartition("@")[0] != _stem(mark["path"]):
                    raise ValueError(f"it is of {mark['path']!r}")
                found.append(mark)
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            damaged.append(place)
    return found, damaged


def half_written() -> list[str]:
    """What killed commands have left of marks that they were writing."""
    return [os.path.join(_folder(), entry) for entry in _entries() if entry.endswith(".new")]


def path_of(place: str) -> str:
    """Which rootfs a mark is of, as its name tells; nothing where the path was too long for that."""
    stem = os.path.basename(place).rpartition("@")[0]
    path = "/" + stem.replace("%2F", "/").replace("%25", "%")
    return path if _stem(path) == stem and len(stem) != 64 else ""


def is_stale(damaged: str) -> bool:
    """Whether what a damaged mark was of is there no more, as far as its name tells."""
    path, inode = path_of(damaged), os.path.basename(damaged).removesuffix(".json").rpartition("@")[2]
    if not path or not inode.isdecimal():
        return False
    for folder in (path, aside_of(path)):
        try:
            if os.stat(folder).st_ino == int(inode):
                return False
        except OSError:
            continue
    return True


# The lock of a place


def claim(path: str, *, shared: bool = False) -> int:
    """Lock the place of a rootfs, whether one is there or not, for as long as the descriptor is open.

    The lock is on a file of our own. On the folder itself it could be taken from inside: there the folder is the root, and
    what `flock` locks is the inode, by whoever has it open, after the end of the container too where a descriptor was
    passed on (`man 2 flock`, `man 7 unix`).
    Raises BlockingIOError while another has it, FileNotFoundError where even the folder above is missing, and HakoError.
    """
    if os.path.islink(path):
        path = os.path.realpath(path)
    above, name = os.path.split(path)
    status = os.stat(above)
    key = f"{status.st_dev:x}-{status.st_ino:x}-{_stem(name)}"
    folder = os.path.join(run_dir(), _LOCKS)
    while True:
        try:
            lock = lock_file(os.path.join(folder, key), shared=shared)
        except FileNotFoundError:
            ensure_private(run_dir())
            ensure_private(folder)
            continue
        except BlockingIOError:
            raise
        except OSError as error:
            told = f"cannot lock the rootfs {path}: {error.filename}: {error.strerror}"
            raise HakoError(told, hint="is the disk full, or the folder not writable?") from None
        if lock is not None:
            return lock


def clear_claims() -> None:
    """Remove the lock files that nobody holds."""
    folder = os.path.join(run_dir(), _LOCKS)
    for entry in os.listdir(folder) if os.path.isdir(folder) else []:
        try:
            lock = lock_file(os.path.join(folder, entry))
        except BlockingIOError:
            continue
        if lock is not None:
            os.unlink(os.path.join(folder, entry))
            os.close(lock)
