"""`hako create`: build and provision the rootfs of each container of a file."""

from __future__ import annotations

from hakoniwa import log
from hakoniwa.haco.loader import load_given
from hakoniwa.options import Command, Given, Option
from hakoniwa.rootfs.build.options import BuildOptions
from hakoniwa.rootfs.build.selection import build_missing
from hakoniwa.run.prepare import check_real_id

QUIET = Option(flags=("-q", "--quiet"), help="tell nothing but errors and warnings")

COMMAND = Command(
    name="create",
    summary="Build the rootfs of each container of a file. What is there and complete is left alone.",
    options=(
        Option(flags=("-N", "--no-provision"), help="leave provisioning out"),
        Option(flags=("--rebuild",), help="build anew, in the place of what is there"),
        Option(flags=("--no-cache",), help="take no layer that was built before"),
        QUIET,
        Option(flags=("-v", "--verbose"), help="tell each line that debootstrap and templates of lxc-create print"),
    ),
    undone=True,
)


def run(given: Given) -> int:
    """Load the file and build what is missing."""
    barn = load_given(given, "create")
    check_real_id(barn)
    log.set_level(barn.log_level)
    how = BuildOptions(
        provision=not given.flag("no_provision"),
        rebuild=given.flag("rebuild"),
        from_cache=not given.flag("no_cache"),
        quiet=given.flag("quiet"),
        verbose=given.flag("verbose"),
    )
    build_missing(barn, how, needed=True)
    return 0
