"""Trees of folders of which every change is told: watchdog's inotify thread, held to what it may take.

What a container does in a folder that it shares must not cost the supervisor more than it is given: the thread rests four times as
long as it works, what it has not read yet stays in the kernel, which keeps so much (fs.inotify.max_queued_events) and
then says that it has dropped some, and so many folders are watched at most.
"""

from __future__ import annotations

import errno
import os
import threading
import time
import warnings

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)

from hakoniwa import log
from hakoniwa.host.paths import open_outside
from hakoniwa.kernel.filesystem import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Pause = Callable[[], None]

_MOST_FOLDERS = 16384
_LONGEST = 1024  # characters of a folder's name, relative to that of the tree
_SLICE = 0.005  # seconds of work after which there is a rest
_RESTS = 4  # how much longer that is
_MOMENT = 0.01  # seconds between two reads: what is the same is told once
_CHANGES = Mask(
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_MODIFY
    | InotifyConstants.IN_MOVE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_EXCL_UNLINK
)

# A folder that was moved is found again at its new place before its old one is forgotten, and both are one to the kernel.
warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)


class Reader(InotifyFD):
    """The thread that reads events. It calls `on_loss` when some were dropped, and `on_work` when it begins and ends to work."""

    def __init__(self, on_loss: Callable[[], None], on_work: Callable[[bool], None]) -> None:
        super().__init__()
        self._on_loss = on_loss
        self._on_work = on_work
        self._mark = 0.0

    @classmethod
    def _create_inotify_fd(cls) -> int:
        descriptor = super()._create_inotify_fd()
        os.set_inheritable(descriptor, False)
        return descriptor

    def run(self) -> None:
        """Read and handle events until `stop`."""
        self._mark = time.thread_time()
        while self.should_keep_running():
            events = self.read_events()
            self._on_work(True)
            for event in events:
                self.handle_event(event)
                self.pause()
            self.stopped_event.wait(_MOMENT)
            self._on_work(False)

    def handle_event(self, event: InotifyEvent) -> None:
        """Tell those whom an event is for."""
        if event.is_queue_overflow:
            self._on_loss()
        else:
            super().handle_event(event)

    def pause(self) -> None:
        """Rest, where it is time to."""
        spent = time.thread_time() - self._mark
        if spent > _SLICE:
            self.stopped_event.wait(spent * _RESTS)
            self._mark = time.thread_time()


class Tree(WatchCallback):
    """A folder with all below it. `note` is called with the path of each change, `on_end` when the folder itself is gone.

    Folders are opened one below the other without following symlinks, whatever a container puts in their places.
    """

    def __init__(self, reader: Reader, path: str, note: Callable[[str], None], on_end: Callable[[Tree], None]) -> None:
        """Watch it from now on. Raises OSError."""
        self.path = path
        self._reader = reader
        self._note = note
        self._on_end = on_end
        self._lock = threading.RLock()
        self._full = False  # and has said so
        self._names: dict[WatchDescriptor, str] = {}  # of folders, relative to the tree's own
        self._watches: dict[str, WatchDescriptor] = {}
        self._closed = False
        try:
            with self._lock:
                self._add("", lambda: None, tell=False)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Watch no more."""
        with self._lock:
            self._closed = True
            self._forget(list(self._watches))

    def read_anew(self) -> None:
        """Some events were lost: there may be other folders than before."""
        with self._lock:
            if self._closed:
                return
            self._forget(list(self._watches))
            try:
                self._add("", self._reader.pause, tell=False)
            except OSError as error:
                self._say(f"changes are not seen any more: {error.strerror}")

    def on_event(self, event: InotifyEvent) -> None:
        """Called by the reader."""
        with self._lock:
            folder = self._names.get(event.wd)
            if folder is None or self._closed:
                return
            name = os.path.join(folder, os.fsdecode(event.name))
            self._note(os.path.join(self.path, name))
            if event.is_directory and event.is_moved_from:
                self._forget([known for known in self._watches if known == name or known.startswith(f"{name}/")])
            elif event.is_directory and event.is_delete:
                self._forget([name])
            elif event.is_directory and not event.is_move_self:
                try:
                    self._add(name, self._reader.pause, tell=True)
                except OSError:
                    pass  # the tree's own folder is on its way: that is told, too
        if event.is_move_self:
            self._on_end(self)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Called by the reader when the kernel watches a folder no more, since that is gone."""
        with self._lock:
            name = self._names.pop(wd, None)
            if name is None or self._watches.get(name) != wd:
                return
            del self._watches[name]
            if name or self._closed:
                return
        self._on_end(self)

    def on_queue_overflow(self) -> None:
        """Not called: the reader sees to that."""

    def _add(self, top: str, pause: Pause, *, tell: bool) -> None:
        """Watch a folder and those below; `tell` of what lies there. Raises OSError for the tree's own folder."""
        # Not kept open: a folder is not gone for inotify as long as somebody has it open.
        root = open_outside(self.path, paths.O_PATH | os.O_DIRECTORY)
        try:
            self._add_below(root, top, pause, tell=tell)
        finally:
            os.close(root)

    def _add_below(self, root: int, top: str, pause: Pause, *, tell: bool) -> None:
        found = [top]
        while found:
            pause()
            name = found.pop()
            try:
                folder = paths.open_beneath(root, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK)
            except OSError:
                if not name:
                    raise
                continue  # it is gone, or no folder any more
            try:
                if not self._watch(name, folder):
                    return
                with os.scandir(folder) as entries:
                    for entry in entries:
                        below = os.path.join(name, entry.name)
                        if tell:
                            self._note(os.path.join(self.path, below))
                        if entry.is_dir(follow_symlinks=False) and len(below) <= _LONGEST:
                            found.append(below)
                            if len(found) + len(self._watches) > _MOST_FOLDERS:
                                break
            except OSError:
                if not name:
                    raise
            finally:
                os.close(folder)

    def _watch(self, name: str, folder: int) -> bool:
        """Watch one folder. False when it is one too many."""
        if len(self._watches) >= _MOST_FOLDERS:
            self._say(f"there are more than {_MOST_FOLDERS} folders: changes in the others are not seen")
            return False
        try:
            place = os.fsencode(f"/proc/self/fd/{folder}")
            mask = _CHANGES if name else Mask(_CHANGES | InotifyConstants.IN_MOVE_SELF)
            wd = self._reader.add_callback(place, mask, self, CallbackId(id(self)))
        except OSError as error:
            if error.errno != errno.ENOSPC or not name:
                raise
            self._say(
                "no more folders can be watched (fs.inotify.max_user_watches): changes in the others are not seen"
            )
            return False
        self._names[wd] = name
        self._watches[name] = wd
        return True

    def _forget(self, names: list[str]) -> None:
        gone = []
        for name in names:
            wd = self._watches.pop(name, None)
            if wd is not None and self._names.get(wd) == name:  # else it is another's by now
                del self._names[wd]
                gone.append((wd, CallbackId(id(self))))
        self._reader.remove_callbacks(gone)

    def _say(self, what: str) -> None:
        if not self._full:
            log.write(f"watching {self.path}: {what}", "warning")
        self._full = True
