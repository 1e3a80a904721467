"""`hako provision`: take the steps of provisioning that are due, in a rootfs that is there."""

from __future__ import annotations

import os

from hakoniwa import log, state
from hakoniwa.commands.create import QUIET
from hakoniwa.errors import HakoError, nearest
from hakoniwa.haco.loader import load_given
from hakoniwa.options import Command, Given, Option, usage_error
from hakoniwa.run.prepare import check_real_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec.records import Barn, Container

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
    for container in barn.containers:
        state.must_belong(container)
    for container in _meant(barn, names):
        _provision(container, names, quiet=given.flag("quiet"))
    return 0


def _meant(barn: Barn, names: list[str] | None) -> list[Container]:
    """The containers that have steps, of these names where some are given. Raises HakoError where there is none."""
    members = [container for container in barn.containers if not container.build.provision.skip]
    if names is None:
        return members
    known = [step.name for container in members for step in container.build.provision.steps if step.name]
    for name in names:
        if name not in known:
            hint = nearest(name, known) or "no step has a name: name= gives it one"
            raise HakoError(f"provisioning step {name!r} is unknown", where=barn.file, hint=hint)
    return [member for member in members if any(step.name in names for step in member.build.provision.steps)]


def _provision(container: Container, names: list[str] | None, *, quiet: bool) -> None:
    from hakoniwa.ids import choose_maps, for_ordinary_user
    from hakoniwa.rootfs.provision.provisioning import provision
    from hakoniwa.rootfs.rootless import as_root
    from hakoniwa.rootfs.tools.progress import progress_for

    maps = None if os.geteuid() == 0 else choose_maps(for_ordinary_user(container))
    as_root(lambda: provision(container, names, progress_for(container.name, quiet=quiet)), maps)
