"""The text of a container file, and the description that was kept of it, so that a start need not execute it.

A description is kept if nothing but the text says what it is (haco/keeping.py). Then the builders, the checks and the rules need
not even be loaded. It lies in the cache folder, and is taken only if all that could make it another one is as it was: the
text, byte by byte, where it lies and by which path it was named, the global file, the caller, the places, Python, and hakoniwa
itself. What is not exactly so is no copy, and the file is executed.
"""

from __future__ import annotations

import errno
import os
import sys

from hakoniwa import trust
from hakoniwa.errors import HakoError
from hakoniwa.host.paths import distrust
from hakoniwa.known.copied import content_of, finder_of_bundle, place_of
from hakoniwa.known.state import is_known
from hakoniwa.places import cache_dir, global_file, lib_dir
from hakoniwa.spec import records
from hakoniwa.spec.records import Barn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType
    from typing import Any

    # A record: the module of its kind, unless that is spec/records.py; its kind; those of its fields that hold no records; and
    # those that hold one or several, by their numbers.
    Row = tuple[str, str, dict[str, Any], tuple[tuple[str, int], ...], tuple[tuple[str, tuple[int, ...]], ...]]
    # What is kept: the key, the names that nothing was known of, the sources of hakoniwa's that made it, the rows.
    # None in the place of these says that the description of this text cannot be kept.
    Content = tuple[tuple[Any, ...], tuple[str, ...], tuple[tuple[str, int, int], ...], tuple[Row, ...] | None]

LARGEST = 4 << 20  # bytes of a file that is executed


class Sought:
    """A search for what was kept of a file. `barn` is the description, or None: then the file is to be executed."""

    def __init__(self, path: str, stamp: bytes, circumstances: tuple[Any, ...]) -> None:
        self.path = path
        self.source, self.real = _read(path)
        self.defaults = read_defaults()
        self.stamp = stamp
        self.key = (self.source, path, self.real, global_file(), self.defaults, *circumstances)
        self.judged = False  # whether it is known that the description cannot be kept
        self.made: Barn | None = None  # what the file says, once it was executed after all
        self.codes: tuple[CodeType | None, ...] = ()  # of the file, and of the global one
        self.asked: tuple[str, ...] = ()  # names of containers: what is known of them has a part in the description
        self.loaded: list[str] = []  # the modules that were loaded for it
        self._modules = len(sys.modules)
        self.barn = self._take(content_of(self.place(), stamp))

    def place(self) -> str:
        """Where the copy lies."""
        return place_of(f"{self.real}\n{self.path}")

    def found(self, barn: Barn, codes: tuple[CodeType | None, ...], asked: tuple[str, ...]) -> None:
        """Note what the execution of the file has come to."""
        self.made, self.codes, self.asked = barn, codes, asked
        self.loaded = list(sys.modules)[self._modules :]  # they are in the order in which they were loaded

    def could_be_kept(self) -> bool:
        """Whether it is worth a closer look: it was executed, and defines no function."""
        if self.made is None or self.judged:
            return False
        return all(code and not any(_is_function(one) for one in code.co_consts) for code in self.codes)

    def _take(self, content: Content | None) -> Barn | None:
        """The barn that is kept, if everything is as it was."""
        if content is None:
            return None
        key, names, sources, rows = content
        if key != self.key or not all(map(_is_as_it_was, sources)) or any(map(is_known, names)):
            return None
        if rows is None:
            self.judged = True
            return None
        barn = _rebuilt(rows)
        vars(barn)["executed"] = (os.path.join(os.getcwd(), self.path),)
        distrust(barn)
        sys.dont_write_bytecode = True  # as if it had been executed
        return barn


def seek(path: str) -> Sought | None:
    """Look for what was kept of a file. None if nothing can have been: hakoniwa itself is not as it was installed.

    Raises HakoError if the file cannot be read, or must not be executed.
    """
    finder = finder_of_bundle()
    if finder is None or finder.changed:
        return None
    try:
        circumstances = _circumstances()
    except HakoError:
        return None  # a place that is not to be trusted is told by what needs it
    return Sought(path, finder.stamp, circumstances)


def read_file(path: str) -> bytes:
    """The text of a container file that this user may execute."""
    return _read(path)[0]


def _read(path: str) -> tuple[bytes, str]:
    try:
        return trust.read_found(path, LARGEST)
    except OSError as error:
        hint = f"hako new {path} writes one" if error.errno == errno.ENOENT and path.endswith(".haco.py") else ""
        raise HakoError(error.strerror or str(error), where=path, hint=hint) from None


def read_defaults() -> bytes | None:
    """The text of the global file, if there is one."""
    path = global_file()
    return read_file(path) if os.path.exists(path) else None


def _circumstances() -> tuple[Any, ...]:
    """What a description depends on besides the texts and hakoniwa itself."""
    machine = getattr(sys.implementation, "_multiarch", "")
    return (os.getuid(), os.getgid(), lib_dir(), cache_dir(), sys.version, machine, sys.getfilesystemencoding())


def _is_as_it_was(source: tuple[str, int, int]) -> bool:
    path, changed, size = source
    try:
        status = os.stat(path)
    except OSError:
        return False
    return status.st_mtime_ns == changed and status.st_size == size


def _rebuilt(rows: Sequence[Row]) -> Barn:
    """The barn, which is the last row: a record has only such in its fields as come before it."""
    made: list[Any] = []
    for room, kind, plain, single, several in rows:
        known = getattr(records, kind) if not room else getattr(_imported(room), kind)
        record = known.__new__(known)
        fields = record.__dict__
        fields.update(plain)
        for name, number in single:
            fields[name] = made[number]
        for name, numbers in several:
            fields[name] = tuple([made[number] for number in numbers])
        made.append(record)
    barn = made[-1]
    assert isinstance(barn, Barn)
    return barn


def _imported(module: str) -> ModuleType:
    __import__(module)
    return sys.modules[module]


def _is_function(constant: object) -> bool:
    """Whether a constant of a code object is the code of a function, and not of a comprehension."""
    name = getattr(constant, "co_name", None)
    return name is not None and name not in ("<listcomp>", "<dictcomp>", "<genexpr>")
