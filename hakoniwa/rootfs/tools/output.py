"""The output of a program of a build: passed on line by line, and its last lines kept for the error."""

from __future__ import annotations

import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.rootfs.tools.progress import Progress, Stage

KEPT = 10  # lines
_LONGEST = 4096  # bytes of a line
_BETWEEN = 0.1  # seconds between two looks at the clock


def follow(pipe: int, who: str, progress: Progress, stage: Stage, *, noise: bool = False) -> list[str]:
    """Read until nobody is left to write. Returns the last lines. Each is shown with `who` before it."""
    rest = b""
    last: list[str] = []
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while True:
        if not poll.poll(_BETWEEN * 1000):
            stage.advance()
            continue
        more = os.read(pipe, 65536)
        *lines, rest = (rest + more).split(b"\n")
        if (not more or len(rest) > _LONGEST) and rest:
            lines.append(rest)
            rest = b""
        for line in lines:
            shown = _shown(line)
            last = [*last, shown][-KEPT:]
            progress.output(who, shown, noise=noise)
            stage.advance(note=shown)
        if not more:
            return last


def _shown(line: bytes) -> str:
    """A line as a terminal would end up showing it: what comes after the last return to its beginning."""
    return line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace").expandtabs()


def quoted(last: list[str]) -> str:
    """The last lines as the hint of an error."""
    return "; ".join(line.strip() for line in last if line.strip())
