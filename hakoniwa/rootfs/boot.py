"""`boot`: what a strategy, a `python` bootstrap and `postprocess` functions get."""

from __future__ import annotations

import os

from hakoniwa.dsl.container import RootPath
from hakoniwa.rootfs.command import run_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.rootfs.progress import Progress
    from hakoniwa.spec import Container


class Boot:
    """A build under way."""

    def __init__(self, container: Container, folder: str, progress: Progress) -> None:
        self.name = container.name
        self.rootfs = RootPath(folder)  # the folder to fill; it gets its own name when it is complete
        self.beside = os.path.dirname(container.file)
        self.options: dict[str, Any] = container.bootstrap.settings.get("options", {})
        self.progress = progress
        self._where = container.bootstrap.where

    def log(self, text: str, level: str = "info") -> None:
        """Write a line to standard error."""
        if level in ("warning", "error"):
            self.progress.warn(text)
        elif level == "info":
            self.progress.tell(text)

    def run(self, argv: list[str], *, environ: dict[str, str] | None = None) -> None:
        """Run a program of the host beside the container file, with `$ROOTFS`. Raises HakoError when it fails.

        What it has started ends with it, and what it has mounted goes.
        """
        variables = {"ROOTFS": str(self.rootfs), **(environ or {})}
        name = os.path.basename(argv[0])
        run_step(name, argv, where=self._where, folder=self.beside, progress=self.progress, environ=variables)
