"""`tarball`: unpack an archive with GNU tar, keeping owners, modes, extended attributes and hard links."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.rootfs.boot import Boot
from hakoniwa.rootfs.command import run_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec import Bootstrap


def fill(boot: Boot, bootstrap: Bootstrap) -> None:
    """Unpack. tar finds out the compression by itself, and refuses absolute members and `..`."""
    archive = str(bootstrap.archive_path)
    if not os.path.isfile(archive):
        what = "is a folder" if os.path.isdir(archive) else "is not there"
        raise HakoError(f"the archive {archive} {what}", where=bootstrap.where, hint="set archive_path")
    argv = ["tar", "--extract", f"--file={archive}", "--force-local", f"--directory={boot.rootfs}", "--numeric-owner"]
    argv += ["--same-owner", "--same-permissions", "--xattrs", "--xattrs-include=*", *bootstrap.tar_options]
    run_step("tar", argv, where=bootstrap.where, folder=boot.beside)
