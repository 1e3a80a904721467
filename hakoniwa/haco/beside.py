"""Modules beside a container file: for its own code alone, after everything that is installed, and checked before they run.

`sys.path` knows nothing of that folder: what hakoniwa, the standard library and packages import never comes from there.
"""

from __future__ import annotations

import os
import sys
from _frozen_importlib_external import ExtensionFileLoader, PathFinder, SourceFileLoader, spec_from_file_location
from _imp import extension_suffixes

from hakoniwa import trust
from hakoniwa.errors import HakoError
from hakoniwa.kernel.libc import compile_file
from hakoniwa.known.kept import LARGEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

_IMPORT_SYSTEM = ("importlib", "importlib._bootstrap", "importlib._bootstrap_external", "_frozen_importlib")


class _Loader(SourceFileLoader):
    """Executes the source that was checked. A compiled file in `__pycache__` could be anybody's."""

    def get_code(self, fullname: str) -> CodeType:
        return compile_file(trust.read_trusted(self.path, LARGEST), self.path)


class BesideFinder:
    """Finds modules for the code of one folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.found: list[str] = []  # the files and packages that were taken from the folder
        self.closed = False  # whether a container can write there: what was not executed before it began is not to be
        self._missed: list[str] = []

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None:
            places = [place for place in path if place.startswith(f"{self._folder}/")]
            return self._look(name, places[0]) if places else None
        if name in sys.stdlib_module_names or name == __package__ or not self._asks():
            return None
        installed = PathFinder.find_spec(name)
        if installed is not None and installed.origin is not None:
            return installed
        spec = self._look(name, self._folder)
        if spec is None and installed is None:
            self._missed.append(name)
        return spec or installed

    def missed(self) -> list[str]:
        """The modules that the folder's code asked for, and that are nowhere: who can write to the folder could make them."""
        return [name for name in self._missed if name not in sys.modules]

    def _asks(self) -> bool:
        """Whether the import that is going on is one of the folder's own code."""
        frame = sys._getframe(2)
        while frame is not None:
            file, names = frame.f_code.co_filename, frame.f_globals
            if not file.startswith("/"):
                file = str(names.get("__file__", ""))  # a text that is executed belongs to whose names it has
            if file and names.get("__name__") not in _IMPORT_SYSTEM:
                return file.startswith(f"{self._folder}/")
            frame = frame.f_back  # type: ignore[assignment]
        return False

    def _look(self, name: str, folder: str) -> ModuleSpec | None:
        base = f"{folder}/{name.rpartition('.')[2]}"
        ends = (".py", "/__init__.py", *extension_suffixes())
        found = [base + end for end in ends if os.path.isfile(base + end)]
        if len(found) > 1:
            raise HakoError(
                f"module {name} is there twice", where=found[1], hint=f"the other is {found[0]}; remove one"
            )
        if found:
            return self._spec_of(name, found[0])
        if not os.path.isdir(base):
            return None
        spec = PathFinder.find_spec(name, [folder])  # a folder without __init__.py
        if spec is not None:
            self.found.append(base)
        return spec

    def _spec_of(self, name: str, file: str) -> ModuleSpec | None:
        if self.closed and not any(file.startswith(f"{package}/") for package in self.found):
            hint = "import it at the top of the file: the container can write to its folder"
            raise HakoError(f"the module {name} is not loaded yet", where=file, hint=hint)
        trust.check(file)
        package = file.endswith("/__init__.py")
        self.found.append(os.path.dirname(file) if package else file)
        loader = _Loader(name, file) if file.endswith(".py") else ExtensionFileLoader(name, file)
        places = [os.path.dirname(file)] if package else None
        return spec_from_file_location(name, file, loader=loader, submodule_search_locations=places)


def close_beside(folder: str) -> None:
    """Have nothing more found there, which the container that begins could have changed by then."""
    find_beside(folder).closed = True


def find_beside(folder: str) -> BesideFinder:
    """Have the code of a folder find the modules there from now on, in hooks as well."""
    for finder in sys.meta_path:
        if isinstance(finder, BesideFinder) and finder._folder == folder:
            return finder
    made = BesideFinder(folder)
    # Before the usual one, which would find the modules of a package by itself, without a check.
    at = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else len(sys.meta_path)
    sys.meta_path.insert(at, made)
    return made
