"""The marks of all rootfs: written, listed, and removed with the folders that they are of (known/marks.py)."""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.fastjson import document
from hakoniwa.kernel.filesystem.files import entries_of, replace_file
from hakoniwa.known import marks
from hakoniwa.known.markglance import SCHEMA, file_of, marks_dir
from hakoniwa.known.marks import Mark
from hakoniwa.places import aside_of, ensure_private, file_name_for, lib_dir
from hakoniwa.record import Unreadable
from hakoniwa.trust import read_own

_DIGEST = 64  # characters of a file name that is a hash, since the path was too long


def write_mark(path: str, mark: Mark, *, folder: str | None = None) -> None:
    """Mark the folder that lies at `path`, or that will once `folder` has been renamed so. Whole or not at all.

    Raises HakoError.
    """
    try:
        file = file_of(path, os.stat(folder or path).st_ino)
        ensure_private(lib_dir())
        ensure_private(marks_dir())
        replace_file(file, document(mark.replace(path=path), SCHEMA))
    except OSError as error:
        told = f"cannot write down what is known of the rootfs {path}: {error.strerror}"
        raise HakoError(told, hint=f"is there room in {lib_dir()}?") from error


def salvage_mark(path: str) -> Mark | None:
    """The mark, for commands that replace or remove the rootfs anyway: if it cannot be read, they get a warning and None."""
    try:
        return marks.read(path)
    except HakoError as error:
        log.write(error.lines()[0], "warning")
        return None


def is_marked(path: str) -> bool:
    """Whether there is a mark of the rootfs at `path`, damaged or not."""
    try:
        return os.path.exists(file_of(path, os.stat(path).st_ino))
    except OSError:
        return False


def remove_stale_marks(path: str) -> None:
    """Remove the marks of folders that lie at `path` no more."""
    try:
        kept = os.path.basename(file_of(path, os.stat(path).st_ino))
    except FileNotFoundError:
        kept = ""
    for entry in entries_of(marks_dir()):
        if entry.startswith(f"{file_name_for(path)}@") and entry != kept:
            try:
                os.unlink(os.path.join(marks_dir(), entry))
            except FileNotFoundError:
                continue


def every_mark() -> tuple[list[Mark], list[str]]:
    """All marks, also of a folder that is about to be put in place; and the files that hold none, by path."""
    found, damaged = [], []
    for entry in entries_of(marks_dir()):
        file = os.path.join(marks_dir(), entry)
        try:
            if entry.endswith(".json"):  # else it is being written
                mark = marks.parse(read_own(file))
                if entry.rpartition("@")[0] != file_name_for(mark.path):
                    raise Unreadable(f"it is of {mark.path!r}")
                found.append(mark)
        except FileNotFoundError:
            continue
        except (OSError, Unreadable):
            damaged.append(file)
    return found, damaged


def half_written_marks() -> list[str]:
    """What killed commands have left of marks that they were writing."""
    return [os.path.join(marks_dir(), entry) for entry in entries_of(marks_dir()) if entry.endswith(".new")]


def path_of(file: str) -> str:
    """Which rootfs a mark is of, as the name of its file tells; nothing if the path was too long for that."""
    stem = os.path.basename(file).rpartition("@")[0]
    path = "/" + stem.replace("%2F", "/").replace("%25", "%")
    return path if file_name_for(path) == stem and len(stem) != _DIGEST else ""


def is_stale(damaged: str) -> bool:
    """Whether the folder that a damaged mark was of has gone, as far as the name of its file tells."""
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
