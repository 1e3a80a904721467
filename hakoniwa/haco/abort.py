"""`Haconiwa.Abort`, by itself: whoever runs hooks needs it without all that executes a file."""

from __future__ import annotations


class Abort(Exception):
    """Raised by a hook that runs before the container does: the start is refused."""
