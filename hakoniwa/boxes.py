"""What is known of a rootfs that was made here: its mark, which is put beside all others and not where the rootfs lies.

A mark belongs to one folder, by path and inode: so whatever puts another folder in that place by a rename has put its mark
there by the same rename. Nothing inside a container can write a mark, which says what host folders are shown inside.
"""

from __future__ import annotations

import os

from hakoniwa import fastjson
from hakoniwa.places import ensure_private, lib_dir
from hakoniwa.trust import read_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEMA = 1
_LONGEST = 200  # of 255 bytes of a file name


def _folder() -> str:
    return os.path.join(lib_dir(), ".boxes")


def layers_dir() -> str:
    """Where the layers lie that boxes are made of (rootfs/layers.py)."""
    return os.path.join(lib_dir(), ".layers")


def layer_tree(layer: str) -> str:
    """The files of one layer."""
    return os.path.join(layers_dir(), layer, "tree")


def layer_trees(layers: list[str]) -> tuple[str, ...]:
    """The files of each of several layers."""
    return tuple(map(layer_tree, layers))


def trees_under(path: str) -> tuple[str, ...]:
    """The files of the layers that a rootfs lies on, from the bottom up; none under a plain folder."""
    mark = read(path)
    return layer_trees(mark["layers"]) if mark is not None else ()


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
    """The mark of the rootfs at `path`, or None where there is none: then it was not made here."""
    try:
        mark = fastjson.loads(read_own(_place(path, os.stat(path).st_ino)).decode())
    except (OSError, ValueError):
        return None
    return mark if isinstance(mark, dict) and mark.get("schema") == SCHEMA and mark.get("path") == path else None


def write(path: str, mark: dict[str, Any], *, folder: str | None = None) -> None:
    """Mark the folder that lies at `path`, or that will, once `folder` has been renamed so. Whole or not at all."""
    place = _place(path, os.stat(folder or path).st_ino)
    ensure_private(lib_dir())
    ensure_private(_folder())
    new = f"{place}.new"
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        content = fastjson.dumps({**mark, "schema": SCHEMA, "path": path}).encode()
        while content:
            content = content[os.write(file, content) :]
    finally:
        os.close(file)
    os.rename(new, place)


def remove_stale(path: str) -> None:
    """Remove the marks of folders that lie at `path` no more."""
    try:
        entries = os.listdir(_folder())
    except FileNotFoundError:
        return
    try:
        kept = os.path.basename(_place(path, os.stat(path).st_ino))
    except FileNotFoundError:
        kept = ""
    for entry in entries:
        if entry.startswith(f"{_stem(path)}@") and entry != kept:
            os.unlink(os.path.join(_folder(), entry))


def every() -> list[dict[str, Any]]:
    """All marks, those of a folder that is about to be put in place included."""
    try:
        entries = sorted(os.listdir(_folder()))
    except FileNotFoundError:
        return []
    found = []
    for entry in entries:
        try:
            mark = fastjson.loads(read_own(os.path.join(_folder(), entry)).decode())
        except (OSError, ValueError):
            continue
        if isinstance(mark, dict) and mark.get("schema") == SCHEMA:
            found.append(mark)
    return found
