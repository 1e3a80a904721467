"""What a start needs of the mark of its rootfs (known/marks.py), and where marks lie.

It is checked by hand: a start has no time to make what reads records, nor to look at the rest of the mark.
"""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.fastjson import read_document
from hakoniwa.places import file_name_for, layer_trees, lib_dir
from hakoniwa.record import Record, Unreadable
from hakoniwa.spec.records import Outline
from hakoniwa.trust import read_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEMA = 1  # to be raised with each field that is added, which has a default: a mark of a later schema is not read

# The mark of a `host` rootfs of which a file says nothing else, as it is written, without the texts that differ. Each second
# piece is a string, and the others are what stands between strings: so it is read without a scanner of JSON, which takes
# longer to load than all else that is read here.
_USUAL = (
    '{"schema": ' + str(SCHEMA) + ', "form": "", "asked": "", "layers": [], "steps": {}, "path": "", "name": "", '
    '"said": {"bootstrap": {"strategy": ""}, "steps": {}}, "provisioning": null, "failed": null, "snapshots": {}}'
).split('"')


class Glance(Record):
    """The fields of a mark that a start looks at."""

    name: str
    layers: tuple[str, ...]
    said: Outline | None
    provisioning: str | None


def marks_dir() -> str:
    """Where the marks lie."""
    return os.path.join(lib_dir(), ".boxes")


def file_of(path: str, inode: int) -> str:
    """The file that holds the mark of a folder that lies, or will lie, at `path`."""
    return os.path.join(marks_dir(), f"{file_name_for(path)}@{inode}.json")


def glance(path: str) -> Glance | None:
    """What a start needs of the mark of the rootfs at `path`, or None if it was not made here.

    Raises HakoError if that cannot be read: without its mark, a rootfs on layers would pass for a plain folder.
    """
    found = content_of(path)
    if found is None:
        return None
    file, content = found
    try:
        return _glance(_read_usual(content) or read_document(content, SCHEMA), path)
    except Unreadable as problem:
        raise damaged(path, file, problem) from None


def _read_usual(content: bytes) -> dict[str, object] | None:
    """The fields of a mark that a start looks at, if it is a usual one. None: it is to be read as JSON."""
    text = content.decode("ascii", "replace")
    pieces = text.split('"')
    if len(pieces) != len(_USUAL) or "\\" in text or not (text.isascii() and text.isprintable()):
        return None
    values = []
    for piece, usual in zip(pieces, _USUAL, strict=True):
        if not usual:
            values.append(piece)
        elif piece != usual:
            return None
    _, _, path, name, strategy = values
    said = {"bootstrap": {"strategy": strategy}, "steps": {}}
    return {"path": path, "name": name, "layers": [], "said": said, "provisioning": None}


def content_of(path: str) -> tuple[str, bytes] | None:
    """The file that holds the mark of the rootfs at `path`, and its content, or None. Raises HakoError."""
    try:
        inode = os.stat(path).st_ino
    except OSError:
        return None  # whoever opens the rootfs tells why
    file = file_of(path, inode)
    try:
        return file, read_own(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HakoError(f"what is known of the rootfs {path} cannot be read: {error.strerror}") from None


def damaged(path: str, file: str, problem: Unreadable) -> HakoError:
    """The error for a mark that cannot be read."""
    return HakoError(
        f"what is known of the rootfs {path} is damaged: {file}: {problem}",
        hint="hako create --rebuild makes it anew, hako rm --rootfs removes it",
    )


def must_be_of(mark: str, path: str) -> None:
    """Raise Unreadable if a mark is of another rootfs."""
    if mark != path:
        raise Unreadable(f"it is of {mark!r}")


def must_be_layers(layers: object) -> None:
    """Raise Unreadable if these are no names of layers: nothing may lead out of the store."""
    if not isinstance(layers, (list, tuple)):
        raise Unreadable("must be a list", "layers")
    for layer in layers:
        if not isinstance(layer, str) or layer[:1] in ("", ".") or "/" in layer:
            raise Unreadable(f"{layer!r} is no layer", "layers")


def _glance(mark: dict[str, object], path: str) -> Glance:
    name, layers, said, provisioning = (mark.get(word) for word in ("name", "layers", "said", "provisioning"))
    must_be_of(str(mark.get("path")), path)
    must_be_layers(layers)
    if not isinstance(name, str) or not isinstance(provisioning, str | None):
        raise Unreadable("'name' or 'provisioning' is no text")
    return Glance(name=name, layers=tuple(layers), said=_outline(said), provisioning=provisioning)  # type: ignore[arg-type]


def _outline(said: object) -> Outline | None:
    """What spec/outline.py makes; an earlier version of ours wrote none."""
    if said is None:
        return None
    parts: list[Any] = [said.get(part) for part in ("bootstrap", "steps")] if isinstance(said, dict) else [None, None]
    for part in parts:
        if not isinstance(part, dict) or not all(isinstance(text, str) for text in part.values()):
            raise Unreadable("must be an outline", "said")
    return Outline(bootstrap=parts[0], steps=parts[1])


def trees_under(path: str) -> tuple[str, ...]:
    """The files of the layers that a rootfs lies on, from the bottom up; none under a plain folder. Raises HakoError."""
    found = glance(path)
    return layer_trees(found.layers) if found is not None else ()
