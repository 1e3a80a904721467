"""`os` for the modules in the bundle: what they need of it, without the abstract classes that it is imported with.

`import os` takes a seventh of an empty interpreter's time. `make install` has the modules of the bundle import this one in its
place (tools/write_launcher.py); their sources, and whatever else is executed, have `os` itself. The C module `posix` is
most of it. Everything else is taken from `os`, which is then imported.
"""

from __future__ import annotations

import posix
import sys
from posix import *  # noqa: F403
from posix import _exit

from hakoniwa.bundle import quickpath as path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["_exit", "devnull", "fsencode", "path"]  # and those of posix

devnull = "/dev/null"
del environ  # noqa: F821 # in posix it has bytes

_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


def fsencode(filename: str | bytes) -> bytes:
    """The bytes of a path, as the kernel has it."""
    filename = posix.fspath(filename)
    return filename.encode(_ENCODING, _ERRORS) if isinstance(filename, str) else filename


def fsdecode(filename: str | bytes) -> str:
    """A path of the kernel's as text."""
    filename = posix.fspath(filename)
    return filename.decode(_ENCODING, _ERRORS) if isinstance(filename, bytes) else filename


class _Environment:
    """`os.environ`, to be read, for as long as nobody has imported `os`: then nobody has changed anything."""

    def __getitem__(self, name: str) -> str:
        return fsdecode(posix.environ[fsencode(name)])

    def __contains__(self, name: str) -> bool:
        return fsencode(name) in posix.environ

    def get(self, name: str, otherwise: str | None = None) -> str | None:
        value = posix.environ.get(fsencode(name))
        return otherwise if value is None else fsdecode(value)


_environment = _Environment()


def __getattr__(name: str) -> Any:
    """Anything else of `os`."""
    if name == "environ" and "os" not in sys.modules:
        return _environment
    import os as whole

    return getattr(whole, name)
