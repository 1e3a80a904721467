"""Snapshots of a rootfs, the way back to one, and clones.

A snapshot of a rootfs on layers is its upper layer, taken out and put on top of them: nothing is copied.
A crash at any point loses nothing: what is frozen is a layer of the rootfs before it is taken out of it.
"""

from __future__ import annotations

import errno
import os
import stat

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem import tree
from hakoniwa.kernel.filesystem.files import exchange
from hakoniwa.known import marks, state
from hakoniwa.known.marks import Mark, Snapshot
from hakoniwa.known.statefile import Made, timestamp
from hakoniwa.places import layer_tree
from hakoniwa.rootfs.store import layers
from hakoniwa.rootfs.store.discards import remove_tree
from hakoniwa.rootfs.store.locks import hold_place, hold_rootfs
from hakoniwa.rootfs.store.overlay import prepare_top
from hakoniwa.rootfs.store.placement import make_parent, open_aside, put_in_place
from hakoniwa.rootfs.store.registry import remove_stale_marks, write_mark
from hakoniwa.rootfs.store.treecopy import copy_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hakoniwa.spec.records import Container


class _LockedRootfs:
    """A rootfs that nothing runs on, its mark, and the store of layers, until the block ends."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = hold_rootfs(path)
        mark = marks.read(path)
        if mark is None or not mark.asked:
            os.close(self._lock)
            raise HakoError(
                f"the rootfs {path} was not made by hako create", hint="only such can be snapshot and cloned"
            )
        self.mark = mark
        self._store = layers.hold_store()

    def __enter__(self) -> _LockedRootfs:
        return self

    def __exit__(self, *failure: object) -> None:
        os.close(self._lock)
        os.close(self._store)

    def change(self, **changes: Any) -> None:
        """Write the mark anew."""
        self.mark = self.mark.replace(**changes)
        write_mark(self.path, self.mark)

    def snapshot(self, name: str) -> Snapshot:
        """The snapshot of that name. Raises HakoError."""
        known = self.mark.snapshots
        if name not in known:
            hint = f"known: {' '.join(known)}" if known else "it has none: hako snapshot makes one"
            raise HakoError(f"there is no snapshot {name!r} of {self.path}", hint=hint)
        return known[name]

    def must_be_whole(self) -> None:
        """Raise HakoError if provisioning has stopped half-way."""
        if self.mark.provisioning is not None:
            raise HakoError(f"the provisioning of {self.path} has stopped at {self.mark.provisioning!r}")


def snapshot(path: str, name: str) -> None:
    """Keep a rootfs as it is now under a name. Raises HakoError."""
    with _LockedRootfs(path) as held:
        held.must_be_whole()
        if name in held.mark.snapshots:
            hint = "choose another name, or remove that one: hako snapshot --delete"
            raise HakoError(f"there is a snapshot {name!r} of {path} already", hint=hint)
        chain = _keep(held, f"snapshot {name}")
        # With the form, too: a rebuild may have changed it since.
        kept = Snapshot(
            form=held.mark.form,
            asked=held.mark.asked,
            layers=chain,
            steps=held.mark.steps,
            created_at=timestamp(),
        )
        held.change(snapshots={**held.mark.snapshots, name: kept})


def rollback(path: str, name: str) -> None:
    """Put a rootfs back to what it was at a snapshot. What was done since is gone. Raises HakoError."""
    with _LockedRootfs(path) as held:
        kept = held.snapshot(name)
        if (kept.form == "host") != (held.mark.form == "host"):
            hint = "set the strategy that it had, and hako create --rebuild"
            raise HakoError(f"the snapshot {name!r} is of another kind than {path} is now", hint=hint)
        mark = held.mark.replace(form=kept.form, asked=kept.asked, steps=kept.steps, provisioning=None)
        _replace(path, mark, kept.layers, rebuild=True)
        layers.remove_snapshots(layer for layer in held.mark.layers if layer not in kept.layers)


def delete(path: str, name: str) -> None:
    """Forget a snapshot, and remove what only it was made of. Raises HakoError."""
    with _LockedRootfs(path) as held:
        kept = held.snapshot(name)
        held.change(snapshots={other: found for other, found in held.mark.snapshots.items() if other != name})
        layers.remove_snapshots(kept.layers)


def clone(path: str, container: Container) -> None:
    """Make the rootfs of another container a copy of this one as it is now. Raises HakoError."""
    state.must_belong(container)
    target, where = container.files.rootfs.path, container.files.rootfs.where
    make_parent(target)
    place = hold_place(target, where) if os.path.realpath(target) != os.path.realpath(path) else -1
    try:
        if os.path.isdir(target) and os.listdir(target):
            raise HakoError(f"the rootfs {target} is there already", where=where)
        _clone(path, container)
    finally:
        if place != -1:
            os.close(place)


def _clone(path: str, container: Container) -> None:
    """Make the clone, whose place the caller has locked."""
    with _LockedRootfs(path) as held:
        held.must_be_whole()
        if (held.mark.form == "host") != container.files.rootfs.layered:
            told = "a clone of strategy 'host' must be of that strategy, and others not"
            raise HakoError(told, where=container.build.bootstrap.where)
        chain = _keep(held, f"base of {container.name}")
        mark = held.mark.replace(name=container.name, snapshots={})
        try:
            _replace(
                container.files.rootfs.path,
                mark,
                chain,
                rebuild=False,
                before=lambda: state.write_record(Made.of(container)),
            )
        finally:
            if held.mark.form != "stack":
                layers.remove_snapshots(chain)


def _keep(held: _LockedRootfs, what: str) -> tuple[str, ...]:
    """Make a rootfs as it is now a layer, or find that it is one. Returns the layers that it consists of."""
    return _freeze(held, what) if held.mark.form == "stack" else (_copy(held, what),)


def _freeze(held: _LockedRootfs, what: str) -> tuple[str, ...]:
    """Make the upper layer of a rootfs one of those that it lies on. Returns these."""
    upper, chain = os.path.join(held.path, "upper"), held.mark.layers
    if not os.listdir(upper) and _look(upper) == _look(layer_tree(chain[-1])):
        return chain
    if len(chain) >= layers.MOST_LAYERS:
        hint = "remove snapshots with --delete, and go back to one, or hako create --rebuild"
        raise HakoError(f"{held.path} lies on {len(chain)} layers already, and cannot on more", hint=hint)
    layer = layers.new(layers.Facts(what=what, kind="snapshot", parent=chain[-1]))
    files = layer_tree(layer)
    _give_look(upper, files)
    try:
        held.change(layers=(*chain, layer))
        # Before the swap: an index in there is of the upper layer as it was, and the kernel refuses it with another one.
        # The folder itself stays, without which nothing can be started.
        tree.empty(os.path.join(held.path, "work"))
        exchange(upper, files)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL):
            raise
        copy_tree(upper, files)  # to another file system; what is above now says the same once more
    return held.mark.layers


def _look(path: str) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_mode, status.st_uid, status.st_gid


def _give_look(source: str, target: str) -> None:
    mode, uid, gid = _look(source)
    os.chown(target, uid, gid)
    os.chmod(target, stat.S_IMODE(mode))


def _copy(held: _LockedRootfs, what: str) -> str:
    """A layer with a copy of a plain folder, or of the private layer of strategy `host`."""
    layer = layers.new(layers.Facts(what=what, kind="snapshot"))
    try:
        source = os.path.join(held.path, "upper") if held.mark.form == "host" else held.path
        copy_tree(source, layer_tree(layer))
    except BaseException:
        layers.remove(layer)
        raise
    return layer


def _replace(
    path: str, mark: Mark, chain: tuple[str, ...], *, rebuild: bool, before: Callable[[], object] = lambda: None
) -> None:
    """Put a new folder that lies on these layers, or has the content of the one, in the place of a rootfs."""
    aside, lock = open_aside(path, rebuild=rebuild)
    try:
        for entry in os.listdir(aside):
            remove_tree(os.path.join(aside, entry))
        os.chmod(aside, 0o755)
        if mark.form == "stack":
            prepare_top(aside, layer_tree(chain[-1]))
        elif mark.form == "host":
            prepare_top(aside, layer_tree(chain[0]))
            copy_tree(layer_tree(chain[0]), os.path.join(aside, "upper"))
        else:
            copy_tree(layer_tree(chain[0]), aside)
        write_mark(path, mark.replace(layers=chain if mark.form == "stack" else ()), folder=aside)
        before()
        put_in_place(aside, path)
    except BaseException:
        remove_tree(aside)
        remove_stale_marks(aside)
        remove_stale_marks(path)
        raise
    finally:
        os.close(lock)
