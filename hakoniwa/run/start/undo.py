"""Undo beside do: whatever a step creates on the host is registered for removal where it is created."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Undo:
    """A stack of removals. One that fails is reported and does not keep the others from running."""

    def __init__(self) -> None:
        self._removals: list[tuple[str, Callable[[], object]]] = []
        self.descriptors: list[int] = []  # that are closed by removals

    def add(self, what: str, remove: Callable[[], object]) -> None:
        """Register `remove`; `what` completes "cannot ..." when it fails."""
        self._removals.append((what, remove))

    def run(self) -> list[str]:
        """Remove everything, last created first. Returns what could not be removed, with the reason."""
        failures = []
        while self._removals:
            what, remove = self._removals.pop()
            try:
                remove()
            except FileNotFoundError:
                continue
            except Exception as error:  # whatever it is, the others are still to be removed
                failures.append(f"cannot {what}: {getattr(error, 'strerror', None) or error}")
        return failures

    def take_first(self) -> tuple[str, Callable[[], object]]:
        """Take the removal that was registered first out, to run it last by other means. Raises IndexError."""
        return self._removals.pop(0)
