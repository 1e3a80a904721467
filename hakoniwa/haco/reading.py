"""The reading of one container file: where it is, and what is wrong with it."""

from __future__ import annotations

import sys

from hakoniwa.errors import HakoError, Problems
from hakoniwa.spec.rules.checks import Wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any, NoReturn


class Reading:
    """The reading of one container file: its path, what is wrong in it, and whether it may still be written to."""

    def __init__(self, file: str, shown: str) -> None:
        self.file = file
        self.shown = shown
        self.problems: list[HakoError] = []
        self.open = True
        self.unused: list[tuple[str, str]] = []  # decorators that were made, and their lines
        self.code: CodeType | None = None
        self.asked: list[str] = []  # names of containers: what is known of them has a part in the description

    def here(self) -> str:
        """`dev.haco.py:12`: the line of the container file that is being executed."""
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_filename == self.file:
                return f"{self.shown}:{frame.f_lineno}"
            frame = frame.f_back  # type: ignore[assignment]
        return self.shown

    def problem(self, message: str, hint: str = "", where: str = "") -> None:
        """Note something wrong, and read on: all problems of a file are reported together."""
        self.problems.append(HakoError(message, where=where or self.here(), hint=hint))

    def stop(self, message: str, hint: str = "") -> NoReturn:
        """Something is wrong that leaves nothing to go on with."""
        self.problem(message, hint)
        raise Problems(self.problems)

    def check(self, setting: str, check: Callable[[Any], Any], value: object, default: Any = None) -> Any:
        """`value` as `check` returns it, or `default` once the problem is noted."""
        try:
            return check(value)
        except Wrong as wrong:
            self.problem(f"{setting} must be {wrong}, not {short(value)}", wrong.hint)
            return default

    def must_take(self, function: Callable[..., Any], what: str, lists: tuple[str, ...]) -> None:
        """Note a function that cannot be called with any of these lists of arguments."""
        from hakoniwa.haco.functions import parameters, takes

        if not callable(function) or any(takes(function, listed.count(",") + 1) for listed in lists):
            return
        name = getattr(function, "__name__", "f")
        wanted = " or ".join(f"def {name}({listed})" for listed in lists)
        self.problem(f"the {what} must be {wanted}", parameters(function))


def refuse(reading: Reading, word: str) -> None:
    """Note that `word` is understood and not carried out."""
    reading.problem(f"{word} is not supported yet", "remove it, or use a newer hakoniwa")


def short(value: object) -> str:
    """A value as an error shows it."""
    try:
        shown = repr(value)
    except ValueError:  # a number of more digits than Python converts
        return f"a huge {type(value).__name__}"
    return shown if len(shown) <= 80 else shown[:77] + "..."
