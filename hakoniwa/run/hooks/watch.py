"""Watch hooks: files of the host, by patterns."""

from __future__ import annotations

import os
import re
import threading
import time

from hakoniwa import log
from hakoniwa.run.hooks.trees import Reader, Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MOST_PATHS = 1000
# How long changes may follow each other before they are told: so many times the quiet that is waited for, at least so long.
_TIMES, _AT_LEAST = 10, 1.0
_TRIES = 16


class Changes:
    """Changed paths; the folder that they all lie below where they are too many."""

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._many = False

    def __bool__(self) -> bool:
        return bool(self._paths)

    def add(self, paths: Iterable[str]) -> None:
        """Note some more."""
        self._paths.update(paths)
        self._many = self._many or len(self._paths) > _MOST_PATHS
        if self._many:
            self._paths = {os.path.commonpath(self._paths)}

    def take(self) -> list[str]:
        """All of them, which are then noted no more."""
        paths, self._paths, self._many = sorted(self._paths), set(), False
        return paths


class Watcher:
    """Collects the paths that match, and hands them over when nothing has changed for a while, or after a longer one.

    Where changes come faster than they are read, the folders that are watched stand for what has changed.
    """

    def __init__(self, patterns: tuple[str, ...], quiet: float, changed: Callable[[list[str]], None]) -> None:
        """Watch from now on. Raises OSError."""
        self._patterns = patterns
        self._matching = [re.compile(translate(pattern)) for pattern in patterns]
        self._quiet = quiet
        self._longest = max(_AT_LEAST, _TIMES * quiet)
        self._changed = changed
        self._changes = Changes()
        self._first = self._last = 0.0  # when the first and the last of them came
        self._reading = False  # so there may be more of them
        self._fresh = False  # some have come since that began
        self._wake = threading.Condition()
        self._over = False
        self._trees: list[Tree] = []
        self._reader = Reader(self._read_anew, self._note_reading)
        self._reader.start()
        try:
            self._plant()
            threading.Thread(target=self._work, daemon=True).start()
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Watch no more, and hand over what has come."""
        with self._wake:
            self._over = True
            self._wake.notify()
        self._reader.stop()
        for tree in list(self._trees):
            tree.close()
        self._hand_over()

    def _plant(self) -> None:
        """Have a tree for each pattern, below another's or its own."""
        for folder in sorted({_watched_folder(pattern) for pattern in self._patterns}):
            if not any(folder == tree.path for tree in self._trees):
                self._trees.append(Tree(self._reader, folder, self._note, self._replant))

    def _replant(self, gone: Tree) -> None:
        """The folder of a tree was removed: watch the one that it lay in, for it to come back."""
        if self._over:
            return
        self._trees.remove(gone)
        gone.close()
        self._note_all([gone.path])
        for _ in range(_TRIES):
            try:
                self._plant()
                return
            except FileNotFoundError:
                continue  # that one has just gone, too
            except OSError as error:
                log.write(f"watching {gone.path}: changes are not seen any more: {error.strerror}", "warning")
                return

    def _read_anew(self) -> None:
        """Some changes were lost: whatever lies below may have changed."""
        for tree in list(self._trees):
            self._note_all([tree.path])
            tree.read_anew()
            self._note_all([tree.path])  # and has in folders that were not watched yet

    def _note(self, path: str) -> None:
        if any(pattern.fullmatch(path) for pattern in self._matching):
            self._note_all([path])

    def _note_all(self, paths: Iterable[str]) -> None:
        now = time.monotonic()
        with self._wake:
            if not self._changes:
                self._first = now
                self._wake.notify()
            self._last = now
            self._fresh = True
            self._changes.add(paths)

    def _note_reading(self, reading: bool) -> None:
        """The reader has begun to work, or has ended: it rests in between, and that is no quiet."""
        with self._wake:
            self._reading = reading
            if reading:
                return
            if self._fresh:
                self._last, self._fresh = time.monotonic(), False
            self._wake.notify()

    def _work(self) -> None:
        """Wait for changes, and then for quiet."""
        while not self._over:
            with self._wake:
                while not self._changes and not self._over:
                    self._wake.wait()
                while not self._over:
                    due = self._first + self._longest
                    if not self._reading:
                        due = min(due, self._last + self._quiet)
                    left = due - time.monotonic()
                    if left <= 0:
                        break
                    self._wake.wait(left)
            self._hand_over()

    def _hand_over(self) -> None:
        with self._wake:
            paths = self._changes.take()
        if paths:
            self._changed(paths)


def _watched_folder(pattern: str) -> str:
    """The folder that is there and below which all matches lie, so that folders made later are seen."""
    fixed = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    folder = fixed if fixed == pattern else os.path.dirname(fixed)
    folder = os.path.dirname(folder) if fixed == pattern else folder
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder or "/"


def escape(path: str) -> str:
    """A pattern that matches this very path."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def translate(pattern: str) -> str:
    """A glob as a regular expression: `**` is any number of folders, `*` and `?` stay within a name."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^\]]+\])", pattern)
    special = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        special[part] if part in special else part.replace("[!", "[^") if part.startswith("[") else re.escape(part)
        for part in parts
    )
