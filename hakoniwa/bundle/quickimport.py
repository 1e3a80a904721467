"""Execute the modules that a command needs from one file that holds them compiled, without the import system.

A start has some seventy modules, and the import system takes longer to find and open each of them than to execute it
(docs/performance.md). `make install` writes the file, the bundle (tools/write_launcher.py). The launcher takes this module
from it and calls `load`. What is not in the bundle is left to the import system, and so is a module whose source has
changed since, and everything if this interpreter has no bundle.

Functions that the quick commands do not execute are not loaded with their modules (tools/bodies.py). A `Later` stands for
each, and reads it from the bundle when it is called. For that the bundle stays open: it is read in a root where the same
path would lead to another file, and once the bundle has been replaced.
"""

from __future__ import annotations

import _thread
import gc
import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import ExtensionFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType
    from typing import Any

    # A module: its name, its source, the time and size that this had when it was compiled, whether it is a package, the number
    # by which its functions know it, its code.
    Entry = tuple[str, str, int, int, bool, int, CodeType]
    # What is read at once: the commands that need it all, where it begins in the file, its size, and its modules, in an
    # order in which each imports only earlier ones.
    Part = tuple[tuple[str, ...], int, int, tuple[str, ...]]

ANY = "*"  # among the commands of a part: every other command, too
TOGETHER = "together"  # the first of them, if all modules of such parts are executed once one of them is asked for
LATER = "__later__"  # what modules know `Later` by
# The descriptors that the bundle may have: no table of descriptors has to grow for them, nor are they of those that a process
# inside is given (steps/program.py).
_HIGHEST, _LOWEST = 63, 16
_Function: Any = type(lambda: None)


def load(bundle: str, file: int, begin: bytes, parts: Sequence[Part], libraries: dict[str, str], command: str) -> None:
    """Execute what a command needs, and have the import system ask the bundle for the rest.

    `libraries` are modules of Python's own that are shared objects, with their files: to look for one takes half as long as
    to load it.

    Once a module fails, it and all after it are left to the import system, which fails where `hako` can tell it.
    """
    gc.disable()  # a supervisor, which lives on, switches it on again
    finder = _BundleFinder(bundle, begin, parts, libraries)
    Later.find = finder.function
    sys.meta_path.insert(0, finder)
    modules = sys.modules
    name = ""
    try:
        for commands, start, size, _ in parts:
            if command not in commands and ANY not in commands:
                continue
            entries: Sequence[Entry] = marshal.loads(posix.pread(file, size, start))
            for entry in entries:
                name = entry[0]
                spec = None if name in modules else finder.spec_of(entry)
                if spec is not None:
                    _execute(spec, entry[5], entry[6])
    except Exception:
        modules.pop(name, None)
    finder.keep(file)
    if __package__ not in modules:
        sys.meta_path.remove(finder)


def _execute(spec: ModuleSpec, number: int, code: CodeType) -> None:
    """Make a module, and put it where the import system would. What it imports has been there before."""
    name = spec.name
    above, _, own = name.rpartition(".")
    module: Any = type(sys)(name)
    module.__spec__ = spec
    module.__loader__ = spec.loader
    module.__package__ = spec.parent
    module.__file__ = spec.origin
    if spec.submodule_search_locations is not None:
        module.__path__ = spec.submodule_search_locations
    sys.modules[name] = module
    spec.loader.execute(number, code, module.__dict__)  # type: ignore[union-attr]
    if above:
        setattr(sys.modules[above], own, module)


class Later(tuple):  # type: ignore[type-arg]
    """A function that is read from the bundle when it is first called. As an attribute of a class it is a method.

    It says whose it is and where it lies: the number of its module, where it begins in the file and its size; or those of a
    group that is read at once, and its place in that.
    """

    __slots__ = ()
    find: Any = None  # what finds the function

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return Later.find(self)(*arguments, **keywords)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else _Method(self, instance)

    def __getattr__(self, name: str) -> Any:
        """What else a function has."""
        return getattr(Later.find(self), name)


_Method: Any = type(Later().__call__)


class _BundleFinder:
    """Finder and loader in one, for what is imported later, and reader of functions."""

    def __init__(self, bundle: str, begin: bytes, parts: Sequence[Part], libraries: dict[str, str]) -> None:
        self._bundle = bundle
        self._begin = begin
        self._parts = parts
        self._libraries = libraries
        self._read: dict[int, Sequence[Any]] = {}  # parts and groups of functions, by where they begin
        self._names: dict[int, dict[str, Any]] = {}  # of modules, by their numbers
        self._functions: dict[Later, Any] = {}  # that were called
        self.file = -1  # the bundle, which stays open
        self._identity = (-1, -1)
        self.stamp = begin  # no two bundles have the same
        self.changed = False  # whether a source was found to be another than the one that was compiled

    def keep(self, file: int) -> None:
        """Have the bundle open for as long as this process, and its children, do not become another program."""
        for number in range(_HIGHEST, _LOWEST, -1):
            try:
                posix.fstat(number)
            except OSError:
                try:
                    self.file = posix.dup2(file, number, False)
                    break
                except OSError:
                    continue  # above the limit
        posix.close(file)
        if self.file != -1:
            status = posix.fstat(self.file)
            self._identity = (status.st_dev, status.st_ino)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in self._libraries:
            return self._spec_of_library(name)
        for commands, start, size, names in self._parts if path is not None else ():
            if name in names:
                if commands[0] == TOGETHER and not _thread._count():  # nobody else imports meanwhile
                    self._execute_all(commands)
                for entry in self._entries(start, size):
                    if entry[0] == name and (spec := self.spec_of(entry)) is not None:
                        spec.loader_state = entry[5:]
                        return spec
        return None

    def _execute_all(self, wanted: tuple[str, ...]) -> None:
        """Execute all modules of the parts of a group. One that fails is left to who has asked, and so are those after it."""
        name = ""
        try:
            for commands, start, size, _ in self._parts:
                for entry in self._entries(start, size) if commands == wanted else ():
                    name = entry[0]
                    spec = None if name in sys.modules else self.spec_of(entry)
                    if spec is not None:
                        _execute(spec, entry[5], entry[6])
        except Exception:
            sys.modules.pop(name, None)

    def source_of(self, name: str) -> tuple[str, int, int] | None:
        """The source of a module that was imported later, with its time and size; None if the bundle has none."""
        for entries in self._read.values():
            for entry in entries:
                if entry[0] == name:
                    return entry[1], entry[2], entry[3]
        return None

    def _entries(self, start: int, size: int) -> Sequence[Entry]:
        if start not in self._read:
            content = self._read_at(start, size)
            self._read[start] = marshal.loads(content) if content else ()
        return self._read[start]

    def _spec_of_library(self, name: str) -> ModuleSpec | None:
        file = self._libraries[name]
        try:
            posix.stat(file)
        except OSError:
            return None
        spec = ModuleSpec(name, ExtensionFileLoader(name, file), origin=file)
        spec.has_location = True
        return spec

    def spec_of(self, entry: Entry) -> ModuleSpec | None:
        """The specification of a module. None if its source has changed since it was compiled."""
        name, source, changed, size, package, _, _ = entry
        try:
            status = posix.stat(source)
        except OSError:
            self.changed = True
            return None
        if status.st_mtime_ns != changed or status.st_size != size:
            self.changed = True
            return None
        loader: Any = self
        spec = ModuleSpec(name, loader, origin=source, is_package=package)
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [source.removesuffix("/__init__.py")]
        return spec

    def _read_at(self, start: int, size: int) -> bytes:
        """What lies there; nothing if we have no file any more, and another bundle has taken the place of ours."""
        try:
            status = posix.fstat(self.file)
            if (status.st_dev, status.st_ino) == self._identity:
                return posix.pread(self.file, size, start)
        except OSError:
            pass
        if self not in sys.meta_path:
            return b""  # this process is to load nothing any more: the path may be in another root
        try:
            file = posix.open(self._bundle, posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            return b""
        try:
            same = posix.pread(file, len(self._begin), 0) == self._begin
            return posix.pread(file, size, start) if same else b""
        finally:
            posix.close(file)

    def execute(self, number: int, code: CodeType, names: dict[str, Any]) -> None:
        """Execute a module."""
        names[LATER] = Later
        self._names[number] = names
        exec(code, names)

    def function(self, place: Later) -> Any:
        """A function that may have been left in the bundle."""
        found = self._functions.get(place)
        if found is None:
            number, start, size, *index = place
            body = self._read.get(start)
            if body is None:
                content = self._read_at(start, size)
                if not content:
                    raise ImportError("the bundle was replaced: hakoniwa was installed anew meanwhile")
                body = marshal.loads(content)
                if index:
                    self._read[start] = body
            code, defaults, of_keywords = body[index[0]] if index else body
            found = _Function(code, self._names[number], code.co_name, defaults)
            found.__kwdefaults__ = of_keywords
            found = self._functions.setdefault(place, found)
        return found

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The module, if it was executed together with others."""
        found = sys.modules.get(spec.name)
        if found is not None:
            spec.loader_state = None
        return found

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        if module.__spec__.loader_state is not None:
            number, code = module.__spec__.loader_state
            self.execute(number, code, module.__dict__)
