"""`hako provision`: take the steps of provisioning that are due, in a rootfs that is there."""

from __future__ import annotations

from hakoniwa import log
from hakoniwa.commands.build.create import QUIET
from hakoniwa.haco.loader import load_given
from hakoniwa.options import Command, Given, Option, usage_error
from hakoniwa.rootfs.provision.provisioning import provision_barn
from hakoniwa.run.prepare import check_real_id

COMMAND = Command(
    name="provision",
    summary="Take the steps of provisioning that were not taken yet, or whose text has changed.",
    options=(
        Option(
            flags=("-r", "--run-only"), value="NAMES", help="the steps of these names, with commas between; again, too"
        ),
        QUIET,
    ),
    undone=True,
)


def run(given: Given) -> int:
    """Load the file and provision each container of it."""
    barn = load_given(given, "provision")
    check_real_id(barn)
    log.set_level(barn.log_level)
    only = given.value("run_only")
    names = None if only is None else [name.strip() for name in only.split(",") if name.strip()]
    if names == []:
        raise usage_error("--run-only names no step", "provision")
    provision_barn(barn, names, quiet=given.flag("quiet"))
    return 0
