"""hakoniwa: Linux containers described in plain Python.

A container file imports `Haconiwa`. A program imports `Box`, `Running`, `run`, `load` and `HakoError` (docs/library.md).
"""

from __future__ import annotations

import sys

__version__ = "0.1.0"
__all__ = ["Box", "Haconiwa", "HakoError", "Running", "__version__", "load", "run"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.errors import HakoError
    from hakoniwa.haco.facade import Haconiwa
    from hakoniwa.library.box import Box, Running, load, run

_HOMES = {
    "Haconiwa": "hakoniwa.haco.facade",
    "HakoError": "hakoniwa.errors",
    **dict.fromkeys(("Box", "Running", "load", "run"), "hakoniwa.library.box"),
}


class _Package(type(sys)):  # type: ignore[misc]
    """Keeps the name `run` for the function: the import system would give it to the folder, which has it by chance."""

    def __setattr__(self, name: str, value: object) -> None:
        if name != "run" or type(value) is not type(sys):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """A public name on its first use: a command loads what it needs, and no more."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'hakoniwa' has no attribute {name!r}")
    __import__(home)
    value = globals()[name] = getattr(sys.modules[home], name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
