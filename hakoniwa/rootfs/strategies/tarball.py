"""`tarball`: unpack an archive with GNU tar, keeping owners, modes, extended attributes and hard links."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.rootfs.boot import Boot
from hakoniwa.rootfs.unpack import unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec import Bootstrap


def fill(boot: Boot, bootstrap: Bootstrap) -> None:
    """Unpack. The compression is told by the archive's first bytes."""
    archive = str(bootstrap.archive_path)
    if not os.path.isfile(archive):
        what = "is a folder" if os.path.isdir(archive) else "is not there"
        raise HakoError(f"the archive {archive} {what}", where=bootstrap.where, hint="set archive_path")
    try:
        passing = unpack(archive, boot.rootfs, bootstrap.tar_options)
    except HakoError as error:
        told = f"cannot unpack {archive}: {error.message}"
        raise HakoError(told, where=bootstrap.where, hint=error.hint) from error
    if passing.devices:
        boot.log(f"left out {passing.devices} device nodes: the private /dev has what is needed")
