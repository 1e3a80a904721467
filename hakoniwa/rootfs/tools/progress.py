"""What a build tells its user while it works: a live line on a terminal, plain lines elsewhere, nothing when quiet.

`rich` draws the line. It is loaded when something is drawn, and draws only when it is told to: without a thread of its own,
since processes are cloned meanwhile (kernel/processes/process.py).
"""

from __future__ import annotations

import os
import sys
import time

from hakoniwa.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

_PATIENCE = 0.3  # seconds before a stage is shown on a terminal
_BETWEEN = 0.1  # seconds between two drawings


def progress_for(name: str, *, quiet: bool = False, verbose: bool = False) -> Progress:
    """How to tell of the build of `name` on the standard error that there is; `verbose`: the noise, too."""
    if quiet:
        return Progress(name)
    kind = Drawn if sys.stderr.isatty() and "NO_COLOR" not in os.environ else Plain
    return kind(name, verbose=verbose)


class Progress:
    """Tells nothing but warnings; the base of those that do."""

    def __init__(self, name: str) -> None:
        self.name = name

    def tell(self, text: str) -> None:
        """One line of our own."""

    def warn(self, text: str) -> None:
        """One line that is told even when quiet."""
        _write(f"hako: {self.name}: {text}")

    def output(self, who: str, line: str, *, noise: bool) -> None:
        """One line that a program has printed; `noise` is what only tells that it goes on."""

    def stage(self, text: str, total: int | None = None) -> Stage:
        """Something that takes its time begins; `total` bytes are ahead, if that is known."""
        return Stage(self, text, total)

    def draw(self, stage: Stage) -> None:
        """Show how far a stage is."""

    def finish(self, stage: Stage, done: bool) -> None:
        """A stage has ended."""


class Stage:
    """Something that takes its time. As a context it ends with the block."""

    def __init__(self, progress: Progress, text: str, total: int | None) -> None:
        self.text = text
        self.total = total
        self.done = 0
        self.note = ""  # the last thing heard
        self.started = time.monotonic()
        self._progress = progress
        self._drawn = self.started

    def __enter__(self) -> Self:
        self._progress.draw(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.finish(self, error is None)

    def advance(self, count: int = 0, note: str = "") -> None:
        """So many bytes more are done, or time has passed."""
        self.done += count
        self.note = note or self.note
        now = time.monotonic()
        if now - self._drawn >= _BETWEEN:
            self._drawn = now
            self._progress.draw(self)

    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self.started


class Plain(Progress):
    """A line when a stage begins, and one when it has ended."""

    def __init__(self, name: str, *, verbose: bool = False) -> None:
        super().__init__(name)
        self._verbose = verbose

    def tell(self, text: str) -> None:
        self._print(f"hako: {self.name}: {text}")

    def output(self, who: str, line: str, *, noise: bool) -> None:
        if self._verbose or not noise:
            self._print(f"{who}: {line}")

    def _print(self, line: str) -> None:
        _write(line)

    def stage(self, text: str, total: int | None = None) -> Stage:
        self.tell(text if total is None else f"{text} ({size(total)})")
        return super().stage(text, total)

    def finish(self, stage: Stage, done: bool) -> None:
        if done and stage.seconds() >= 1:
            self.tell(f"{stage.text}: done in {stage.seconds():.1f} s")


class Drawn(Plain):
    """A line at the bottom of the terminal, drawn by rich, that goes when its stage has ended."""

    def __init__(self, name: str, *, verbose: bool = False) -> None:
        super().__init__(name, verbose=verbose)
        self._live: Any = None
        self._task: Any = None

    def warn(self, text: str) -> None:
        self._print(f"hako: {self.name}: {text}")

    def stage(self, text: str, total: int | None = None) -> Stage:
        return Stage(self, text, total)

    def _print(self, line: str) -> None:
        if self._live is None:
            _write(line)
        else:
            self._live.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    def draw(self, stage: Stage) -> None:
        if self._live is None:
            if stage.seconds() < _PATIENCE:
                return
            self._begin(stage)
        shown = printable(stage.text) + (f": {printable(stage.note)[:60]}" if stage.note else "")
        self._live.update(self._task, completed=stage.done, description=shown)
        self._live.refresh()

    def _begin(self, stage: Stage) -> None:
        from rich import progress
        from rich.console import Console
        from rich.markup import escape

        known = stage.total is not None
        columns: list[Any] = [progress.SpinnerColumn(), progress.TextColumn("{task.description}", markup=False)]
        columns += [progress.BarColumn(), progress.DownloadColumn(), progress.TimeRemainingColumn()] if known else []
        columns += [progress.TimeElapsedColumn()]
        console = Console(file=sys.stderr)
        self._live = progress.Progress(*columns, console=console, transient=True, auto_refresh=False)
        self._task = self._live.add_task(escape(printable(stage.text)), total=stage.total)
        self._live.start()

    def finish(self, stage: Stage, done: bool) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if done and stage.seconds() >= 1:
            self.tell(f"{stage.text}: done in {stage.seconds():.1f} s")


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return ""


def _write(line: str) -> None:
    try:
        os.write(2, f"{printable(line)}\n".encode(errors="backslashreplace"))
    except OSError:
        pass  # nobody reads: not a reason to fail
