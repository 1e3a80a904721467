"""What a supervisor tells the barn's process: through a pipe between two forks of one interpreter, unless it is that process."""

from __future__ import annotations

import marshal
import os

from hakoniwa.errors import HakoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

HELD, RUNNING, READY, EXITED, FAILED = "held", "running", "ready", "exited", "failed"
ADMITTED = "admitted"  # of a document: the barn can have its container, whose name and packed record follow
REFUSED = "refused"  # of a document: it cannot, for these errors
MADE = "made"  # of a barn: it has told all about its containers, and goes on


def send(pipe: int, kind: str, *parts: Any) -> None:
    """Tell something. That nobody listens any more is no error: the barn's process may have been killed."""
    message = marshal.dumps((kind, *parts))
    try:
        os.write(pipe, len(message).to_bytes(4, "little") + message)
    except BrokenPipeError:
        pass


def parts_of(error: HakoError) -> tuple[str, str, str, int]:
    """An error as the parts of a message."""
    return error.message, error.where, error.hint, error.status


def error_of(parts: Sequence[Any]) -> HakoError:
    """The error that `parts_of` was given."""
    message, where, hint, status = parts
    return HakoError(message, where=where, hint=hint, status=status)


class Inbox:
    """Messages as they arrive."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe
        self._held = b""

    def receive(self) -> list[tuple[str, tuple[object, ...]]] | None:
        """The messages that one read has completed (it waits for something to read); None at the end."""
        more = os.read(self.pipe, 65536)
        if not more:
            return None
        self._held += more
        found = []
        while len(self._held) >= 4:
            length = int.from_bytes(self._held[:4], "little")
            if len(self._held) < 4 + length:
                break
            kind, *parts = marshal.loads(self._held[4 : 4 + length])
            self._held = self._held[4 + length :]
            found.append((kind, tuple(parts)))
        return found
