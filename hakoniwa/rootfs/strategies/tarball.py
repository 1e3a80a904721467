"""`tarball`: unpack an archive with GNU tar, keeping owners, modes, extended attributes and hard links."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.places import cache_dir
from hakoniwa.rootfs.archives.extraction import ContentChanged, extract
from hakoniwa.rootfs.tools.boot import Boot
from hakoniwa.rootfs.tools.digests import file_digest
from hakoniwa.rootfs.tools.download import download

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.spec.records import Bootstrap

SETTINGS = {"archive_path": "archive", "sha256": "digest", "tar_options": "texts"}
HELP = {
    "archive_path": "a tar archive beside the file, or its https:// URL",
    "sha256": "the digest of the archive, needed with a URL",
    "tar_options": "further options of GNU tar",
}
EXAMPLE = """\
b.strategy = "tarball"
b.archive_path = "rootfs.tar.gz"    # beside this file, or an https:// URL
# b.sha256 = "..."                  # needed with a URL
"""
KEPT = True


def identify(boot: Boot, bootstrap: Bootstrap) -> Any:
    """The archive by its content, wherever it lies. Raises HakoError if it is not the one that the file asks for."""
    return [_digest(bootstrap), bootstrap.settings.get("tar_options", ())]


def _digest(bootstrap: Bootstrap) -> str:
    wanted = bootstrap.settings.get("sha256")
    if _is_remote(bootstrap):
        return str(wanted)
    archive = bootstrap.settings["archive_path"]
    _must_be_file(archive, bootstrap)
    found = file_digest(archive, os.path.join(cache_dir(), "digests"))
    if wanted is not None and found != wanted:
        raise HakoError(
            f"the archive {archive} is not the one that is asked for: its SHA-256 is {found}",
            where=bootstrap.where,
            hint="is it complete? else correct config.bootstrap.sha256",
        )
    return found


def fill(boot: Boot, bootstrap: Bootstrap) -> None:
    """Unpack. The compression is told by the archive's first bytes."""
    wanted = boot.identity[0] if boot.identity is not None else bootstrap.settings.get("sha256")
    if boot.identity is None:
        _digest(bootstrap)
    archive = bootstrap.settings["archive_path"]
    if _is_remote(bootstrap):
        archive = download(archive, bootstrap.settings["sha256"], bootstrap.where, boot.progress)
    try:
        with boot.progress.stage(f"unpacking {os.path.basename(archive)}", os.stat(archive).st_size) as stage:
            options = bootstrap.settings.get("tar_options", ())
            members = extract(archive, boot.rootfs, options, stage, sha256=wanted)
    except HakoError as error:
        if isinstance(error, ContentChanged) and _is_remote(bootstrap):
            os.unlink(archive)  # what lies in the cache was damaged there: the next command fetches it again
        told = f"cannot unpack {archive}: {error.message}"
        raise HakoError(told, where=bootstrap.where, hint=error.hint) from error
    if members.devices:
        boot.log(f"left out {members.devices} device nodes: the private /dev has what is needed")


def _is_remote(bootstrap: Bootstrap) -> bool:
    return str(bootstrap.settings["archive_path"]).startswith("https://")


def _must_be_file(archive: str, bootstrap: Bootstrap) -> None:
    if not os.path.isfile(archive):
        what = "is a folder" if os.path.isdir(archive) else "is not there"
        raise HakoError(f"the archive {archive} {what}", where=bootstrap.where, hint="set archive_path")
