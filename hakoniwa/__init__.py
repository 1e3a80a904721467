"""hakoniwa: Linux containers described in plain Python."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["Haconiwa", "__version__"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.haco.facade import Haconiwa


def __getattr__(name: str) -> Any:
    """`Haconiwa` on first use: most commands never execute a container file."""
    if name == "Haconiwa":
        from hakoniwa.haco.facade import Haconiwa

        return Haconiwa
    raise AttributeError(f"module 'hakoniwa' has no attribute {name!r}")
