"""`hako rm`: forget a stopped container, and with `--rootfs` remove its rootfs."""

from __future__ import annotations

import os

from hakoniwa import marks, ranges, state
from hakoniwa.commands.selection import ALL, selected
from hakoniwa.errors import HakoError, Problems
from hakoniwa.options import NAME, Command, Given, Option
from hakoniwa.rootfs.removal import remove_rootfs
from hakoniwa.rootfs.rootless import as_root
from hakoniwa.statefile import Made, State
from hakoniwa.steps.namespaces import release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

COMMAND = Command(
    name="rm",
    summary="Forget a stopped container: its state and its log.",
    options=(NAME, ALL, Option(flags=("--rootfs",), help="remove its rootfs, too")),
    by_name=True,
    undone=True,
)


def run(given: Given) -> int:
    """Remove each container that is meant; refuse while one runs."""
    found = selected(given, "rm")
    for known in found:
        if known.status == "running":
            raise HakoError(f"container {known.name!r} runs", hint=f"hako kill -n {known.name}")
    made = {known.rootfs for known in found if _was_made(known)}
    for known in found:
        if given.flag("rootfs") and known.rootfs not in made:
            raise HakoError(
                f"the rootfs {known.rootfs} was not made by hako create",
                where=known.name,
                hint="leave --rootfs out, and remove it by hand",
            )
    problems = []
    for known in found:  # whatever one has left, the others are removed
        try:
            _remove(known, found if given.flag("rootfs") else [])
        except HakoError as error:
            problems.append(error)
        except OSError as error:
            problems.append(HakoError(f"{error.filename}: {error.strerror}", where=known.name))
    for barn in {known.barn for known in found}:
        _remove_barn_log(barn)
    if problems:
        raise problems[0] if len(problems) == 1 else Problems(problems)
    return 0


def _was_made(known: State | Made) -> bool:
    """Whether `hako create` has made the rootfs for this container. Without a record of that, its mark tells."""
    if state.read_record(known.name) is not None:
        return True
    mark = marks.read(known.rootfs)
    return mark is not None and mark.name == known.name


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


def _remove(known: State | Made, found: Sequence[State | Made]) -> None:
    """Forget one container, and with its rootfs the records of all in `found` that have the same."""
    name, path = known.name, known.rootfs
    try:
        lock = state.take_lock(name)
    except state.Busy:
        raise HakoError(
            f"container {name!r} is being started or stopped by another command", hint="try again"
        ) from None
    state.clear_leftovers(name)
    for persisted in known.persisted if isinstance(known, State) else ():
        release(persisted)
    alike = [other.name for other in found if other.rootfs == path]

    def forget() -> None:
        for other in alike:
            state.remove_record(other)

    if any(map(state.read_record, alike)):
        as_root(lambda: remove_rootfs(path, forget))
    _remove_logs(name)
    state.forget(name, lock)
    ranges.free_forgotten()
