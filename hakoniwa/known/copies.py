"""The copies that are kept of what files say, as files: written, bounded in number, and cleared."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem.files import replace_file
from hakoniwa.known.copied import content_of, finder_of_bundle
from hakoniwa.places import descriptions_dir, ensure_private

MOST = 64  # of which the oldest go first


def write(path: str, text: bytes) -> None:
    """Write a copy. Where that cannot be it is done without: the file is read again next time."""
    try:
        ensure_private(descriptions_dir())
        _make_room()
        replace_file(path, text, end=f".{os.getpid()}.new")
    except (OSError, HakoError):
        pass  # the cache folder is full, read-only, or not ours


def clear() -> None:
    """Remove all copies. Raises OSError."""
    for path in _every():
        _remove(path)


def clear_stale() -> None:
    """Remove what no start can take: copies of another installation, damaged ones, and half-written ones. Raises OSError."""
    stamp = getattr(finder_of_bundle(), "stamp", None)
    for path in _every():
        if path.endswith(".new") or (stamp is not None and content_of(path, stamp) is None):
            _remove(path)


def _make_room() -> None:
    aged = []
    for path in _every():
        try:
            aged.append((os.lstat(path).st_mtime_ns, path))
        except FileNotFoundError:
            pass  # another command is at it
    for _, path in sorted(aged)[: max(0, len(aged) - MOST + 1)]:
        _remove(path)


def _every() -> list[str]:
    """The paths of all copies, and of what killed writers have left."""
    folder = descriptions_dir()
    try:
        return sorted(os.path.join(folder, name) for name in os.listdir(folder))
    except FileNotFoundError:
        return []


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # another command is at it
