"""`boot`: what a strategy, a `python` bootstrap and `postprocess` functions get."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError, nearest
from hakoniwa.haco.container import RootPath
from hakoniwa.rootfs.tools.programs import run_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hakoniwa.rootfs.tools.progress import Progress
    from hakoniwa.spec.records import Container

TEXT = "bootstrap code"  # the name of a text that is executed, in the place of a file's


class Boot:
    """A build under way."""

    def __init__(self, container: Container, folder: str, progress: Progress, identity: Any = None) -> None:
        self.name = container.name
        self.rootfs = RootPath(folder)  # the folder to fill; it gets its own name when it is complete
        self.beside = os.path.dirname(container.file) or "/"
        self.options: dict[str, Any] = container.build.bootstrap.settings.get("options", {})
        self.progress = progress
        self.file = container.file
        self.identity = identity  # under which what the strategy makes is kept: it must make that
        self._where = container.build.bootstrap.where

    def log(self, text: str, level: str = "info") -> None:
        """Write a line to standard error."""
        if level in ("warning", "error"):
            self.progress.warn(text)
        elif level == "info":
            self.progress.tell(text)

    def __getattr__(self, name: str) -> Any:
        hint = (
            "write boot.rootfs"
            if name == "root"
            else nearest(name, ["rootfs", "name", "beside", "options", "log", "run"])
        )
        raise AttributeError(f"boot.{name} is unknown ({hint})")

    def call(self, function: Callable[[Boot], object], what: str, where: str) -> None:
        """Call a function of the file's. Raises HakoError with the line of it that failed."""
        try:
            function(self)
        except HakoError:
            raise
        except Exception as error:
            told = f"{what} failed: {type(error).__name__}: {error}"
            raise HakoError(told, where=self._line_of(error) or where, hint="--debug shows the traceback") from error

    def _line_of(self, error: Exception) -> str:
        """The innermost line of users' code that an exception came through; nothing if there is none."""
        found, trace = "", error.__traceback__
        while trace is not None:
            file, line = trace.tb_frame.f_code.co_filename, trace.tb_lineno
            if file == self.file:
                found = f"{self._where.rpartition(':')[0] or os.path.basename(file)}:{line}"
            elif file == TEXT or file.startswith(f"{self.beside}/"):
                found = f"{file}:{line}"
            trace = trace.tb_next
        return found

    def run(self, argv: list[str], *, environ: dict[str, str] | None = None) -> None:
        """Run a program of the host beside the container file, with `$ROOTFS`. Raises HakoError when it fails.

        What it has started ends with it, and what it has mounted goes.
        """
        variables = {"ROOTFS": str(self.rootfs), **(environ or {})}
        name = os.path.basename(argv[0])
        run_step(name, argv, where=self._where, folder=self.beside, progress=self.progress, environ=variables)
