"""Watch hooks: files of the host, by patterns, through watchdog (inotify)."""

from __future__ import annotations

import os
import re
import threading

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CHANGES = ("created", "modified", "moved", "deleted")


class Watcher(FileSystemEventHandler):
    """Collects the paths that match, and hands them over when nothing has changed for a while."""

    def __init__(self, patterns: tuple[str, ...], quiet: float, changed: Callable[[list[str]], None]) -> None:
        self._matching = [re.compile(translate(pattern)) for pattern in patterns]
        self._quiet = quiet
        self._changed = changed
        self._paths: set[str] = set()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._observer = Observer()
        for folder in {_watched_folder(pattern) for pattern in patterns}:
            self._observer.schedule(self, folder, recursive=True)
        self._observer.daemon = True
        self._observer.start()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Note the paths of a change (reading and closing is none), and begin to wait anew."""
        if event.event_type not in _CHANGES or (event.is_directory and event.event_type == "modified"):
            return
        paths = {os.fsdecode(path) for path in (event.src_path, event.dest_path) if path}
        matching = {path for path in paths if any(pattern.fullmatch(path) for pattern in self._matching)}
        if not matching:
            return
        with self._lock:
            self._paths |= matching
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(self._quiet, self._hand_over)
            self._timer.daemon = True
            self._timer.start()

    def end(self) -> None:
        """Watch no more."""
        self._observer.stop()

    def _hand_over(self) -> None:
        with self._lock:
            paths, self._paths = sorted(self._paths), set()
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
