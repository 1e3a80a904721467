"""Execute the modules that a command needs from one file that holds them compiled, without the import system.

A start has some seventy modules, and the import system takes longer to find and open each of them than to execute it
(docs/performance.md). `make install` writes the file, the bundle (tools/write_launcher.py). The launcher takes this module
from it and calls `load`. What is not in the bundle is left to the import system, and so is a module whose source has
changed since, and everything if this interpreter has no bundle.
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

    # A module: its name, its source, the time and size that this had when it was compiled, whether it is a package, its code.
    Entry = tuple[str, str, int, int, bool, CodeType]
    # What is read at once: the commands that need it all, where it begins in the file, its size, and its modules, in an
    # order in which each imports only earlier ones.
    Part = tuple[tuple[str, ...], int, int, tuple[str, ...]]

ANY = "*"  # among the commands of a part: every other command, too
TOGETHER = "together"  # the first of them, if all modules of such parts are executed once one of them is asked for


def load(bundle: str, file: int, begin: bytes, parts: Sequence[Part], libraries: dict[str, str], command: str) -> None:
    """Execute what a command needs, and have the import system ask the bundle for the rest.

    `libraries` are modules of Python's own that are shared objects, with their files: to look for one takes half as long as
    to load it.

    Once a module fails, it and all after it are left to the import system, which fails where `hako` can tell it.
    """
    gc.disable()  # a supervisor, which lives on, switches it on again
    finder = _BundleFinder(bundle, begin, parts, libraries)
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
                    _execute(spec, entry[5])
    except Exception:
        modules.pop(name, None)
    posix.close(file)
    if __package__ not in modules:
        sys.meta_path.remove(finder)


def _execute(spec: ModuleSpec, code: CodeType) -> None:
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
    exec(code, module.__dict__)
    if above:
        setattr(sys.modules[above], own, module)


class _BundleFinder:
    """Finder and loader in one, for what is imported later."""

    def __init__(self, bundle: str, begin: bytes, parts: Sequence[Part], libraries: dict[str, str]) -> None:
        self._bundle = bundle
        self._begin = begin
        self._parts = parts
        self._libraries = libraries
        self._read: dict[int, Sequence[Entry]] = {}  # by where they begin
        self.stamp = begin  # no two bundles have the same
        self.changed = False  # whether a source was found to be another than the one that was compiled

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
                        spec.loader_state = entry[5]
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
                        _execute(spec, entry[5])
        except Exception:
            sys.modules.pop(name, None)

    def source_of(self, name: str) -> tuple[str, int, int] | None:
        """The source of a module that was imported later, with its time and size; None if the bundle has none."""
        for entries in self._read.values():
            for entry in entries:
                if entry[0] == name:
                    return entry[1:4]
        return None

    def _entries(self, start: int, size: int) -> Sequence[Entry]:
        if start not in self._read:
            self._read[start] = self._read_part(start, size)
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
        name, source, changed, size, package, _ = entry
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

    def _read_part(self, start: int, size: int) -> Sequence[Entry]:
        """The modules of a part; none if another bundle has taken the place of the one that the part is of."""
        try:
            file = posix.open(self._bundle, posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            return ()
        try:
            if posix.pread(file, len(self._begin), 0) != self._begin:
                return ()
            entries: Sequence[Entry] = marshal.loads(posix.pread(file, size, start))
            return entries
        finally:
            posix.close(file)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The module, if it was executed together with others."""
        found = sys.modules.get(spec.name)
        if found is not None:
            spec.loader_state = None
        return found

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        if module.__spec__.loader_state is not None:
            exec(module.__spec__.loader_state, module.__dict__)
