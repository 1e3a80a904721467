"""`os.path` for the modules in the bundle, as bundle/quickos.py is their `os`. For text: whoever has bytes asks the kernel."""

from __future__ import annotations

from _stat import S_ISDIR, S_ISLNK, S_ISREG
from posix import _path_normpath, fspath, getcwd, lstat, stat, stat_result  # type: ignore[attr-defined]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def join(first: str, *others: str) -> str:
    """The parts of a path as one. One that is absolute begins anew."""
    path = fspath(first)
    for other in map(fspath, others):
        if other.startswith("/"):
            path = other
        elif not path or path.endswith("/"):
            path += other
        else:
            path += "/" + other
    return path


def split(path: str) -> tuple[str, str]:
    """What is before the last slash, and what is after."""
    path = fspath(path)
    at = path.rfind("/") + 1
    return path[:at].rstrip("/") or path[:at], path[at:]


def dirname(path: str) -> str:
    """What is before the last slash."""
    return split(path)[0]


def basename(path: str) -> str:
    """What is after the last slash."""
    return split(path)[1]


def isabs(path: str) -> bool:
    """Whether it begins with a slash."""
    return fspath(path).startswith("/")


def normpath(path: str) -> str:
    """Without `.`, `..` and double slashes, as far as that can be told without looking."""
    normal: str = _path_normpath(fspath(path))
    return normal or "."


def abspath(path: str) -> str:
    """From the root, and normal."""
    return normpath(path if isabs(path) else join(getcwd(), path))


def realpath(path: str) -> str:
    """From the root and without symlinks. What is not there is taken as it is."""
    whole = path if isabs(path) else join(getcwd(), path)
    names = [name for name in whole.split("/") if name not in ("", ".")]
    found = ""
    for name in names:
        found += "/" + name
        if name == ".." or islink(found):
            from os import path as other

            return other.realpath(path)
    return found or "/"


def exists(path: str | int) -> bool:
    """Whether it leads to anything, an open descriptor too."""
    return _mode(path) is not None


def isdir(path: str | int) -> bool:
    """Whether it leads to a folder."""
    return S_ISDIR(_mode(path) or 0)


def isfile(path: str | int) -> bool:
    """Whether it leads to a regular file."""
    return S_ISREG(_mode(path) or 0)


def islink(path: str) -> bool:
    """Whether it is a symlink."""
    try:
        return S_ISLNK(lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def lexists(path: str) -> bool:
    """Whether there is anything, be it a symlink that leads nowhere."""
    try:
        lstat(path)
    except (OSError, ValueError):
        return False
    return True


def samestat(one: stat_result, other: stat_result) -> bool:
    """Whether they are of one file."""
    return one.st_ino == other.st_ino and one.st_dev == other.st_dev


def _mode(path: str | int) -> int | None:
    try:
        return stat(path).st_mode
    except (OSError, ValueError):
        return None


def __getattr__(name: str) -> Any:
    """Anything else of `os.path`."""
    from os import path as whole

    return getattr(whole, name)
