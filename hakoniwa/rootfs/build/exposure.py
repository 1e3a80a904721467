"""What a rootfs shows to other users of the host."""

from __future__ import annotations

import os
import stat

from hakoniwa.kernel.filesystem import tree
from hakoniwa.known import marks

_BY_OTHERS = stat.S_IXOTH
_AS_ANOTHER = stat.S_ISUID | stat.S_ISGID


def program_for_others(path: str) -> str | None:
    """A set-user-ID program in the rootfs at `path` that any user of the host can execute, or None.

    Layers are not looked at: they lie in a folder that is closed to others.
    """
    if not _is_open(path):
        return None
    mark = marks.read(path)
    top = os.path.join(path, "upper") if mark is not None and mark.layers else path
    with tree.Place(top) as place:
        for event, name in place.walk():
            if event == tree.FILE:
                mode = os.stat(name, dir_fd=place.folder, follow_symlinks=False).st_mode
                if stat.S_ISREG(mode) and mode & _AS_ANOTHER and mode & _BY_OTHERS:
                    return os.path.join(top, place.path(name))
    return None


def _is_open(path: str) -> bool:
    """Whether every folder on the way may be entered by everybody."""
    while path != "/":
        if not os.stat(path).st_mode & _BY_OTHERS:
            return False
        path = os.path.dirname(path)
    return True
