"""`hako create`: build the rootfs of each container of a file."""

from __future__ import annotations

from hakoniwa import log
from hakoniwa.commands.start import check_real_id
from hakoniwa.loader import load
from hakoniwa.options import Command, Given, Option
from hakoniwa.rootfs.build import build_missing

COMMAND = Command(
    name="create",
    summary="Build the rootfs of each container of a file. What is there and complete is left alone.",
    options=(Option(flags=("-N", "--no-provision"), help="leave provisioning out"),),
)


def run(given: Given) -> int:
    """Load the file and build what is missing."""
    assert given.file is not None
    barn = load(given.file, "create")
    check_real_id(barn)
    log.set_level(barn.log_level)
    build_missing(barn, needed=True)
    return 0
