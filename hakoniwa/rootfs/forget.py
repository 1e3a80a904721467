"""The use case `forget`: what is known of stopped containers is removed, and with it their rootfs if that is asked for."""

from __future__ import annotations

from hakoniwa.errors import HakoError, joined
from hakoniwa.known import leftovers, listing, marks, state
from hakoniwa.known.idmaps import ranges
from hakoniwa.known.statefile import ALIVE, Made, State
from hakoniwa.places import aside_of
from hakoniwa.rootfs.removal import remove_rootfs
from hakoniwa.rootfs.rootless import as_root
from hakoniwa.rootfs.store.discards import REMOVING
from hakoniwa.rootfs.store.locks import clear_locks_of
from hakoniwa.run import holders
from hakoniwa.steps.namespaces import release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def forget(containers: Sequence[State | Made], *, rootfs: bool) -> None:
    """Forget containers: their states and logs, and with `rootfs` that too, which hakoniwa must have made.

    Raises HakoError before anything is removed if one runs, or its rootfs is not ours to remove; and Problems, once all others
    are removed, for what could not be.
    """
    for known in containers:
        if known.status in ALIVE:
            what = "runs" if known.status == "running" else "is held"
            raise HakoError(f"container {known.name!r} {what}", hint=f"hako kill -n {known.name}")
    made = {known.rootfs for known in containers if _was_made(known)}
    for known in containers:
        if rootfs and known.rootfs not in made:
            raise HakoError(
                f"the rootfs {known.rootfs} was not made by hako create",
                where=known.name,
                hint="leave --rootfs out, and remove it by hand",
            )
    problems = []
    for known in containers:
        try:
            _forget(known, containers if rootfs else [])
        except HakoError as error:
            problems.append(error)
        except OSError as error:
            problems.append(HakoError(f"{error.filename}: {error.strerror}", where=known.name))
    for barn in {known.barn for known in containers}:
        _remove_barn_log(barn)
    if problems:
        raise joined(problems)


def _was_made(known: State | Made) -> bool:
    """Whether `hako create` has made the rootfs for this container. Without a record of that, its mark tells."""
    if state.read_record(known.name) is not None:
        return True
    mark = marks.read(known.rootfs)
    return mark is not None and mark.name == known.name


def _remove_barn_log(barn: str) -> None:
    """The log of a barn goes with what is known of its last container."""
    if not any(barn in (known.name, known.barn) for known in listing.heads(tell=False)):
        state.remove_logs(barn)


def _forget(known: State | Made, found: Sequence[State | Made]) -> None:
    """Forget one container, and with its rootfs the records of all in `found` that have the same."""
    name, path = known.name, known.rootfs
    try:
        lock = holders.take_lock(name)
    except state.Busy:
        raise HakoError(
            f"container {name!r} is being started or stopped by another command", hint="try again"
        ) from None
    leftovers.clear(name)
    for persisted in known.persisted if isinstance(known, State) else ():
        release(persisted)
    if isinstance(known, State) and known.network is not None and known.network.kept:
        from hakoniwa.network.clearing import let_go

        let_go(name, known.network.namespace)
    alike = [other.name for other in found if other.rootfs == path]

    def remove_records() -> None:
        for other in alike:
            state.remove_record(other)

    if any(map(state.read_record, alike)):
        as_root(lambda: remove_rootfs(path, remove_records))
        clear_locks_of(path, aside_of(path), aside_of(path, REMOVING))
    state.remove_logs(name)
    state.forget(name, lock)
    ranges.free_forgotten()
