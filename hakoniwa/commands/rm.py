"""`hako rm`: forget a stopped container, and with `--rootfs` remove its rootfs."""

from __future__ import annotations

import os

from hakoniwa import ranges, state
from hakoniwa.commands.selection import selected
from hakoniwa.errors import HakoError
from hakoniwa.options import NAME, Command, Given, Option
from hakoniwa.rootfs.remove import remove_rootfs
from hakoniwa.rootfs.rootless import as_root
from hakoniwa.statefile import Made, State
from hakoniwa.steps.namespaces import release

COMMAND = Command(
    name="rm",
    summary="Forget a stopped container: its state and its log.",
    options=(NAME, Option(flags=("--rootfs",), help="remove its rootfs, too")),
    by_name=True,
)


def run(given: Given) -> int:
    """Remove each container that is meant; refuse while one runs."""
    found = selected(given)
    for known in found:
        if known.status == "running":
            raise HakoError(f"container {known.name!r} runs", hint=f"hako kill -n {known.name}")
    made = {known.rootfs for known in found if state.read_record(known.name)}
    for known in found:
        if given.flag("rootfs") and known.rootfs not in made:
            raise HakoError(
                f"the rootfs {known.rootfs} was not made by hako create",
                where=known.name,
                hint="leave --rootfs out, and remove it by hand",
            )
    for known in found:
        _remove(known, given.flag("rootfs"))
    for barn in {known.barn for known in found}:
        _remove_barn_log(barn)
    return 0


def _remove_barn_log(barn: str) -> None:
    """The log of a barn goes with what is known of its last container."""
    if not any(barn in (known.name, known.barn) for known in state.every(tell=False)):
        _remove_logs(barn)


def _remove_logs(name: str) -> None:
    for path in (state.log_file(name), f"{state.log_file(name)}.1"):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass


def _remove(known: State | Made, rootfs: bool) -> None:
    name = known.name
    try:
        lock = state.take_lock(name)
    except state.Busy:
        raise HakoError(
            f"container {name!r} is being started or stopped by another command", hint="try again"
        ) from None
    state.clear_leftovers(name)
    for path in known.persisted if isinstance(known, State) else ():
        release(path)
    if rootfs:
        as_root(lambda: remove_rootfs(known.rootfs))
        state.remove_record(name)
    _remove_logs(name)
    state.forget(name, lock)
    ranges.free_forgotten()
