"""`boot`: what a strategy, a `python` bootstrap and `postprocess` functions get."""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.dsl.container import RootPath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec import Container


class Boot:
    """A build under way."""

    def __init__(self, container: Container, folder: str) -> None:
        self.name = container.name
        self.rootfs = RootPath(folder)  # the folder to fill; it gets its own name when it is complete
        self.beside = os.path.dirname(container.file)

    def log(self, text: str, level: str = "info") -> None:
        """Write a line to standard error."""
        log.write(f"{self.name}: {text}", level)
