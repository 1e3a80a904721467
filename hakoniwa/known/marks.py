"""What is known of a rootfs that was made here: its mark, which lies beside all others and not beside the rootfs.

A mark belongs to one folder, by path and inode. So the rename that puts another folder in that place puts the mark of that
folder in force. Nothing inside a container can write a mark, which says what host folders are shown inside.
Each start glances at one (known/markglance.py); what writes and lists them is in rootfs/store/registry.py.
"""

from __future__ import annotations

from hakoniwa.fastjson import read_document
from hakoniwa.known.markglance import SCHEMA, content_of, damaged, must_be_layers, must_be_of
from hakoniwa.record import Record, Unreadable
from hakoniwa.recordreader import read as read_record
from hakoniwa.spec.records import Outline  # `read_record` finds it here

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal


class _Composed(Record):
    """What a rootfs and each of its snapshots consist of."""

    # A folder, the upper layer of the host's root, or an upper layer on those of the store.
    form: Literal["plain", "host", "stack"]
    asked: str  # a hash of what the file asked for; empty if the rootfs was not made by `hako create`
    layers: tuple[str, ...]  # of the store, from the bottom up; none under a plain folder
    steps: dict[str, str]  # of provisioning, that were taken

    def _check(self) -> None:
        must_be_layers(self.layers)


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


def read(path: str) -> Mark | None:
    """The mark of the rootfs at `path`, or None if it was not made here. Raises HakoError if it cannot be read."""
    found = content_of(path)
    if found is None:
        return None
    file, content = found
    try:
        mark = parse(content)
        must_be_of(mark.path, path)
    except Unreadable as problem:
        raise damaged(path, file, problem) from None
    return mark


def parse(content: bytes) -> Mark:
    """The mark that a file holds. Raises Unreadable."""
    return read_record(Mark, read_document(content, SCHEMA))
