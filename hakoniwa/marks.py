"""What is known of a rootfs that was made here: its mark, which lies beside all others and not beside the rootfs.

A mark belongs to one folder, by path and inode. So the rename that puts another folder in that place puts the mark of that
folder in force. Nothing inside a container can write a mark, which says what host folders are shown inside.
Each start reads one mark; what writes and lists them is in rootfs/store/registry.py.
"""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.fastjson import read_document
from hakoniwa.places import file_name_for, layer_trees, lib_dir
from hakoniwa.record import Record, Unreadable
from hakoniwa.spec.records import Outline  # `recordreader.read` finds it here
from hakoniwa.trust import read_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

__all__ = ["Mark", "Outline", "Snapshot"]

SCHEMA = 1  # to be raised with each field that is added, which has a default: a mark of a later schema is not read


class _Composed(Record):
    """What a rootfs and each of its snapshots consist of."""

    # A folder, the upper layer of the host's root, or an upper layer on those of the store.
    form: Literal["plain", "host", "stack"]
    asked: str  # a hash of what the file asked for; empty if the rootfs was not made by `hako create`
    layers: tuple[str, ...]  # of the store, from the bottom up; none under a plain folder
    steps: dict[str, str]  # of provisioning, that were taken

    def _check(self) -> None:
        for layer in self.layers:
            if layer[:1] in ("", ".") or "/" in layer:
                raise Unreadable(f"{layer!r} is no layer", "layers")


class Snapshot(_Composed):
    """A rootfs as it was when it was kept under a name."""

    created_at: str


class Mark(_Composed):
    """What was asked for in a rootfs, and what was done to it."""

    path: str = ""
    name: str = ""  # of the container that it was made for
    said: Outline | None = None  # what the file said of it
    provisioning: str | None = None  # the step that is being taken, or has failed
    failed: str | None = None  # the step at which a build has stopped, and at which the next goes on
    snapshots: dict[str, Snapshot] = {}


def marks_dir() -> str:
    """Where the marks lie."""
    return os.path.join(lib_dir(), ".boxes")


def file_of(path: str, inode: int) -> str:
    """The file that holds the mark of a folder that lies, or will lie, at `path`."""
    return os.path.join(marks_dir(), f"{file_name_for(path)}@{inode}.json")


def read(path: str) -> Mark | None:
    """The mark of the rootfs at `path`, or None if it was not made here.

    Raises HakoError if there is one that cannot be read: without it, a layer would pass for a plain folder.
    """
    try:
        inode = os.stat(path).st_ino
    except OSError:
        return None  # whoever opens the rootfs tells why
    file = file_of(path, inode)
    try:
        return parse(read_own(file), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HakoError(f"what is known of the rootfs {path} cannot be read: {error.strerror}") from None
    except Unreadable as problem:
        raise HakoError(
            f"what is known of the rootfs {path} is damaged: {file}: {problem}",
            hint="hako create --rebuild makes it anew, hako rm --rootfs removes it",
        ) from None


def parse(content: bytes, path: str | None = None) -> Mark:
    """The mark that a file holds. Raises Unreadable, also for one that is not of `path`."""
    from hakoniwa import recordreader  # most rootfs of starts have no mark

    mark = recordreader.read(Mark, read_document(content, SCHEMA))
    if path not in (None, mark.path):
        raise Unreadable(f"it is of {mark.path!r}")
    return mark


def trees_under(path: str) -> tuple[str, ...]:
    """The files of the layers that a rootfs lies on, from the bottom up; none under a plain folder. Raises HakoError."""
    mark = read(path)
    return layer_trees(mark.layers) if mark is not None else ()
