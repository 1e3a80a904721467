"""Device nodes of a rootfs that is being built: they have no effect in it, since its root is `nodev`."""

from __future__ import annotations

import os
import stat

from hakoniwa.kernel.filesystem import tree


def remove_devices(folder: str) -> None:
    """Remove those of `dev`, into which the tools that build a system put them. No symlink is followed."""
    top = os.path.join(folder, "dev")
    if os.path.islink(top) or not os.path.isdir(top):
        return
    with tree.Place(top) as place:
        for event, name in place.walk():
            if event == tree.FILE:
                mode = os.stat(name, dir_fd=place.folder, follow_symlinks=False).st_mode
                if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
                    os.unlink(name, dir_fd=place.folder)
