"""Trees of files of any depth: walked by descriptor, one folder open at a time, without recursion and without paths.

What lies in a tree may be the work of a container. No symlink is followed and no mount is entered. The way back up is
`..`, which must lead to where the walk came from. A walk by path would end at PATH_MAX, a recursive one at the
interpreter's limit, and one that keeps every folder above open at RLIMIT_NOFILE.
"""

from __future__ import annotations

import os

from hakoniwa.kernel.filesystem.paths import open_folder_beneath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Self

# What a walk comes by: something that is no folder; a folder, before what it holds; the same folder after that.
FILE, ENTERED, LEFT = "file", "entered", "left"

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_EMPTY, _LOOP, _STALE = 39, 40, 116
_ROUNDS = 100  # in which a folder that is written to meanwhile may be emptied


class Place:
    """Where in a tree a walk is. As a context it closes what it has open."""

    def __init__(self, top: int | str) -> None:
        """`top` is a folder: a path, or a descriptor that stays the caller's to close. Raises OSError."""
        self.folder = os.open(top, _FOLDER) if isinstance(top, str) else os.open(".", _FOLDER, dir_fd=top)
        self._above: list[tuple[str, int, int]] = []  # what was entered, and which folder that was in

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        os.close(self.folder)

    def path(self, name: str = "") -> str:
        """How something in this folder is called from the top, for messages."""
        return "/".join([*(entered for entered, _, _ in self._above), *([name] if name else [])])

    def enter(self, name: str) -> None:
        """Go into a folder. Raises OSError: ELOOP for a symlink, EXDEV where something is mounted."""
        below = open_folder_beneath(self.folder, name)
        status = os.fstat(self.folder)
        self._above.append((name, status.st_dev, status.st_ino))
        os.close(self.folder)
        self.folder = below

    def leave(self) -> str:
        """Go back to the folder above. Returns the name of the one that was left. Raises OSError."""
        name, *before = self._above[-1]
        above = os.open("..", _FOLDER, dir_fd=self.folder)
        status = os.fstat(above)
        if [status.st_dev, status.st_ino] != before:
            os.close(above)
            raise OSError(_STALE, "it was moved in the meantime", self.path())
        self._above.pop()
        os.close(self.folder)
        self.folder = above
        return name

    def walk(self, *, ordered: bool = False) -> Generator[tuple[str, str], None, None]:
        """Go through everything below: (FILE, ENTERED or LEFT, name).

        `folder` is the one that holds a file, the one that was entered, the one above that was left. `ordered`: by name,
        else the files of a folder come first. What vanishes meanwhile is left out. Raises OSError.
        """
        waiting: list[list[tuple[str, bool]]] = []
        rest = yield from self._look(ordered)
        while True:
            while rest:
                name, is_folder = rest.pop()
                if not is_folder:
                    yield FILE, name
                elif self._could_enter(name):
                    yield ENTERED, name
                    waiting.append(rest)
                    rest = yield from self._look(ordered)
            if not waiting:
                return
            rest = waiting.pop()
            yield LEFT, self.leave()

    def _look(self, ordered: bool) -> Generator[tuple[str, str], None, list[tuple[str, bool]]]:
        """What is still to be visited of this folder, the last first: name, and whether it is a folder."""
        rest = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                if ordered or is_folder:
                    rest.append((entry.name, is_folder))
                else:
                    yield FILE, entry.name
        return sorted(rest, reverse=True) if ordered else rest

    def _could_enter(self, name: str) -> bool:
        try:
            self.enter(name)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if error.errno == _LOOP:
                return False
            raise
        return True


def empty(top: int | str) -> None:
    """Remove everything below a folder. Raises OSError; somebody may put in more than can be removed."""
    for _ in range(_ROUNDS):
        stays, gone = _remove_once(top)
        if not stays:
            return
        if not gone:
            break
    raise OSError(_NOT_EMPTY, os.strerror(_NOT_EMPTY), stays)


def _remove_once(top: int | str) -> tuple[str, int]:
    """Remove what one walk finds. Returns a folder that stays, since it has got something new, and how much has gone."""
    stays, gone = "", 0
    with Place(top) as place:
        for event, name in place.walk():
            try:
                if event == FILE:
                    os.unlink(name, dir_fd=place.folder)
                elif event == LEFT:
                    os.rmdir(name, dir_fd=place.folder)
                gone += event != ENTERED
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno != _NOT_EMPTY:
                    raise OSError(error.errno, error.strerror, place.path(name)) from None
                stays = place.path(name)
    return stays, gone


def remove(path: str) -> None:
    """Remove a folder with everything below it. Raises OSError."""
    empty(path)
    os.rmdir(path)
