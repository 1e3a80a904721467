"""Import the modules of a start from one file that holds them all, compiled.

A start loads some fifty modules. Finding and opening each of them takes the import system longer than loading it; read
from one file they take half the time (docs/performance.md). `make install` writes the file. A module whose source has
changed since, and everything where there is no such file, is left to the import system.
"""

from __future__ import annotations

import marshal
import os
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType
    from typing import Any

    # Source file, its time and size when it was compiled, whether it is a package, where its code lies.
    Entry = tuple[str, int, int, bool, int, int]

_FOLDER: str = os.path.dirname(__file__)
BUNDLE: str = f"{_FOLDER}/__pycache__/start.{sys.implementation.cache_tag}.bundle"
_LARGEST = 16 << 20


class _BundleFinder:
    """Finder and loader in one. The code of a module waits in its spec between the two."""

    def __init__(self, entries: dict[str, Entry], codes: memoryview) -> None:
        self._entries = entries
        self._codes = codes

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        entry = self._entries.get(name)
        if entry is None:
            return None
        source, changed, size, package, start, end = entry
        try:
            status = os.stat(source)
        except OSError:
            return None
        if status.st_mtime_ns != changed or status.st_size != size:
            return None
        loader: Any = self
        spec = ModuleSpec(name, loader, origin=source, is_package=package, loader_state=self._codes[start:end])
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [os.path.dirname(source)]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        exec(marshal.loads(module.__spec__.loader_state), module.__dict__)


def install() -> None:
    """Ask the bundle before all other finders, where there is one that this interpreter has written."""
    try:
        file = os.open(BUNDLE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    content = os.read(file, _LARGEST)
    os.close(file)
    if content.startswith(MAGIC_NUMBER):
        begin = len(MAGIC_NUMBER) + 4
        codes = begin + int.from_bytes(content[begin - 4 : begin], "little")
        view = memoryview(content)
        sys.meta_path.insert(0, _BundleFinder(marshal.loads(view[begin:codes]), view[codes:]))


def write_bundle() -> None:
    """Compile the modules that `hako start` and `hako attach` load into the bundle: it is read whole each time.

    Without docstrings, assertions and annotations of functions, a quarter of it: nothing asks for those at run time. First
    the length of the index, then the index, then the codes.
    """
    import hakoniwa.commands.attach
    import hakoniwa.commands.kill
    import hakoniwa.commands.start
    import hakoniwa.hostroot.shadows
    import hakoniwa.kernel.idle
    import hakoniwa.kernel.tree
    import hakoniwa.options
    import hakoniwa.run.control
    import hakoniwa.run.start.groups
    import hakoniwa.run.start.helper
    import hakoniwa.spec.outline
    import hakoniwa.steps.gather
    import hakoniwa.steps.scheduling  # noqa: F401

    entries: dict[str, Entry] = {}
    codes = b""
    for name in sorted(sys.modules):
        if name.split(".")[0] != __package__ or name in (__package__, __name__):
            continue
        source = str(sys.modules[name].__file__)
        status = os.stat(source)
        with open(source, "rb") as stream:
            code = _compile_lean(stream.read(), source)
        package, start = source.endswith("/__init__.py"), len(codes)
        codes += marshal.dumps(code)
        entries[name] = (source, status.st_mtime_ns, status.st_size, package, start, len(codes))
    index = marshal.dumps(entries)
    os.makedirs(os.path.dirname(BUNDLE), exist_ok=True)
    file = os.open(f"{BUNDLE}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)  # whatever the umask
    with open(file, "wb") as stream:
        stream.write(MAGIC_NUMBER + len(index).to_bytes(4, "little") + index + codes)
    os.rename(f"{BUNDLE}.new", BUNDLE)


def _compile_lean(source: bytes, file: str) -> CodeType:
    """The code of a module without what a start does not need. Annotations of classes stay: records have their fields by them."""
    import ast

    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
    return compile(tree, file, "exec", dont_inherit=True, optimize=2)
