"""What was measured, and what it may be at most."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One figure. `form` shows it, and its limit: `{:.2f} ms`."""

    what: str
    value: float
    form: str
    limit: float | None = None
    beside: str = ""  # shown beside the figure, without a limit of its own

    def holds(self) -> bool:
        """Whether it is as small as it has to be. What is shown is rounded; what is compared is not."""
        return self.limit is None or self.value <= self.limit

    def __str__(self) -> str:
        limit = "" if self.limit is None else self.form.format(self.limit)
        broken = "" if self.holds() else " **broken**"
        return f"| {self.what} | {self.form.format(self.value)}{self.beside}{broken} | {limit} |"


class Limits:
    """The rows of all tables."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def table(self, rows: Sequence[Row]) -> list[str]:
        """Some rows, as lines."""
        self.rows += rows
        return ["| what | measured | limit |", "|---|--:|--:|", *map(str, rows)]

    def broken(self) -> list[Row]:
        """What is larger than it may be."""
        return [row for row in self.rows if not row.holds()]


def medians(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, float]:
    """Seconds of each command: each round runs every command once, so that all have the same of the machine's load."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 3):
        for name, words in commands.items():
            began = time.perf_counter()
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
            )
            if done.returncode:
                sys.exit(f"bench: {' '.join(words)} failed with {done.returncode}")
            if number >= 3:  # the first rounds warm the caches
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(every) for name, every in times.items()}
