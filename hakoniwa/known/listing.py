"""All containers that are known, or those that a command line means.

Lists read the heads of files, which is one read for each, and look once for which supervisors live: /proc/locks has the locks that
they hold. What is wrong in the rest of a file is told by the commands that need that.
"""

from __future__ import annotations

import os

from hakoniwa import fastjson, log, recordreader
from hakoniwa.kernel.filesystem.files import held_locks
from hakoniwa.kernel.processes.pidfd import boot_id
from hakoniwa.known import BEGINNING, RECORDS, STATE, state
from hakoniwa.known.glance import head_of, recorded_names
from hakoniwa.known.statefile import ALIVE, Damaged, Head, must_be_of
from hakoniwa.places import lib_dir, run_dir
from hakoniwa.trust import read_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Self

    from hakoniwa.known.statefile import Made, State

    _Line = tuple[str, "_Folder", bytes | None]

_READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_FOR_OTHERS = 0o077
_AT_ONCE = 32  # heads


def heads(*, recorded: bool = True, tell: bool = True, saying: Sequence[bytes] = ()) -> Iterator[Head]:
    """The heads of all known containers, without `recorded` of those that have a state. One that cannot be read is told, and left out.

    With `saying`, which is made by `said`, only of those that say so.
    """
    held: set[str] | None = None
    for lines in _batches(_lines(recorded, saying)):
        sound = _sound_heads({name: line for name, _, line in lines if line is not None})
        for name, folder, line in lines:
            try:
                head = sound.pop(name, None)
                if head is None and line is not None:
                    head = _read_head(name, folder, line)
                if head is not None and head.status in ALIVE:
                    held = _held_locks() if held is None else held
                    head = head if head.lock in held and head.boot_id == boot_id() else None
                # What is of an earlier version, is damaged or may be dead is looked at more closely.
                head = head or _whole(name, recorded)
            except Damaged as damaged:
                _tell(damaged, tell)
                continue
            if head is not None:
                yield head


def _batches(lines: Iterable[_Line]) -> Iterator[list[_Line]]:
    """What is read at once: so few that the memory of one batch serves the next. Pages that are new cost a third of the time."""
    batch: list[_Line] = []
    for line in lines:
        batch.append(line)
        if len(batch) == _AT_ONCE:
            yield batch
            batch.clear()
    if batch:
        yield batch


def _sound_heads(lines: dict[str, bytes]) -> dict[str, Head]:
    """The heads that first lines are, by name: read all at once. Nothing if one is damaged; then each is to be read by itself."""
    try:
        values = fastjson.loads((b"[%b]" % b",".join(lines.values())).decode())
        found = recordreader.read_alike(Head, values) if values else []
    except ValueError:
        return {}
    # Damage may make two values of a line, or one of two.
    return dict(zip(lines, found, strict=True)) if [head.name for head in found] == [*lines] else {}


def _read_head(name: str, folder: _Folder, line: bytes) -> Head:
    """The head that a first line is. Raises Damaged."""
    try:
        head = recordreader.read(Head, fastjson.loads(line.decode()))
        must_be_of(name, head)
    except ValueError as problem:
        raise Damaged(name, folder.file_of(name), str(problem)) from None
    return head


def every(*, recorded: bool = True, tell: bool = True, saying: Sequence[bytes] = ()) -> list[State | Made]:
    """The same containers, with all that is known of them."""
    found = []
    for name, _, _ in _lines(recorded, saying):
        try:
            one = _whole(name, recorded)
        except Damaged as damaged:
            _tell(damaged, tell)
            continue
        if one is not None:
            found.append(one)
    return found


def _whole(name: str, recorded: bool) -> State | Made | None:
    return state.known(name) if recorded else state.read(name)


def _tell(damaged: Damaged, tell: bool) -> None:
    if tell:
        log.write(damaged.lines()[0], "warning")


def _lines(recorded: bool, saying: Sequence[bytes]) -> Iterator[_Line]:
    """Names, each with where its file lies and the first line of that; None if there is none, and the file has to be read whole."""
    with _Folder(run_dir(), f"/{STATE}") as states, _Folder(os.path.join(lib_dir(), RECORDS), ".json") as records:
        folders = dict.fromkeys(recorded_names() if recorded else (), records)
        folders |= dict.fromkeys(states.entries(), states)
        for name in sorted(folders):
            folder = folders[name]
            line = folder.first_line(name)
            if line is None or not saying or all(map(line.__contains__, saying)):
                yield name, folder, line


class _Folder:
    """A folder of ours with a file for each container: its name and an end."""

    def __init__(self, path: str, end: str) -> None:
        """Open it, if it is there. Raises OSError."""
        self._path, self._end = path, end
        self._folder, self._is_closed = -1, False
        try:
            self._folder = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        # If nobody else can enter it, nobody else can have put anything there, and no file needs a look.
        self._is_closed = not os.fstat(self._folder).st_mode & _FOR_OTHERS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._folder != -1:
            os.close(self._folder)

    def entries(self) -> list[str]:
        """What lies in it, but for what no container can be called. What is no folder has no file in it, either."""
        return [name for name in os.listdir(self._folder) if name[0] != "."] if self._folder != -1 else []

    def file_of(self, name: str) -> str:
        """The file of a container."""
        return f"{self._path}/{name}{self._end}"

    def first_line(self, name: str) -> bytes | None:
        """The head in the file of a container; None if it has none that we know, or cannot be read."""
        try:
            if not self._is_closed:
                return head_of(read_own(self.file_of(name), most=BEGINNING))
            file = os.open(name + self._end, _READING, dir_fd=self._folder)
            try:
                return head_of(os.read(file, BEGINNING))
            finally:
                os.close(file)
        except OSError:
            return None


def _held_locks() -> set[str]:
    """Who has locked what; nothing if that cannot be told, and then each supervisor is looked at."""
    try:
        return held_locks()
    except OSError:
        return set()
