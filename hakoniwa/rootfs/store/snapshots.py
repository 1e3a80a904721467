"""Snapshots of a rootfs, the way back to one, and clones.

Where a rootfs lies on layers, a snapshot is its upper layer taken out and put on top of them, and nothing is copied.
A crash at any point loses nothing: what is frozen is a layer of the rootfs before it is taken out of it.
"""

from __future__ import annotations

import os
import stat
import time

from hakoniwa import boxes, state
from hakoniwa.errors import HakoError
from hakoniwa.kernel import tree
from hakoniwa.kernel.files import exchange
from hakoniwa.rootfs.build.assembly import prepare_top
from hakoniwa.rootfs.build.construction import make_parent, open_aside, put_in_place, record_of
from hakoniwa.rootfs.store import layers
from hakoniwa.rootfs.store.locks import hold_place, hold_rootfs
from hakoniwa.rootfs.store.removal import remove_tree
from hakoniwa.rootfs.store.treecopy import copy_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hakoniwa.spec.records import Container


_KEPT = ("form", "steps", "asked")  # of a mark, with a snapshot: a rebuild may have changed them since


class _Held:
    """A rootfs that nothing runs on, its mark, and the store of layers, until the block ends."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = hold_rootfs(path)
        mark = boxes.read(path)
        if mark is None or not mark["asked"]:
            os.close(self._lock)
            raise HakoError(
                f"the rootfs {path} was not made by hako create", hint="only such can be snapshot and cloned"
            )
        self.mark = mark
        self._store = layers.hold_store()

    def __enter__(self) -> _Held:
        return self

    def __exit__(self, *failure: object) -> None:
        os.close(self._lock)
        os.close(self._store)

    def write(self) -> None:
        boxes.write(self.path, self.mark)

    def must_be_whole(self) -> None:
        """Raise HakoError where provisioning has stopped half-way."""
        if self.mark["provisioning"] is not None:
            raise HakoError(f"the provisioning of {self.path} has stopped at {self.mark['provisioning']!r}")


def snapshot(path: str, name: str) -> None:
    """Keep a rootfs as it is now under a name. Raises HakoError."""
    with _Held(path) as held:
        held.must_be_whole()
        if name in held.mark["snapshots"]:
            hint = "choose another name, or remove that one: hako snapshot --delete"
            raise HakoError(f"there is a snapshot {name!r} of {path} already", hint=hint)
        chain = _freeze(held, f"snapshot {name}") if held.mark["form"] == "stack" else [_copy(held, f"snapshot {name}")]
        kept = {"layers": chain, **{word: held.mark[word] for word in _KEPT}, "steps": dict(held.mark["steps"])}
        held.mark["snapshots"][name] = {**kept, "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        held.write()


def rollback(path: str, name: str) -> None:
    """Put a rootfs back to what it was at a snapshot. What was done since is gone. Raises HakoError."""
    with _Held(path) as held:
        kept = held.mark["snapshots"].get(name)
        if kept is None:
            raise HakoError(f"there is no snapshot {name!r} of {path}", hint=_known(held.mark))
        if (kept["form"] == "host") != (held.mark["form"] == "host"):
            hint = "set the strategy that it had, and hako create --rebuild"
            raise HakoError(f"the snapshot {name!r} is of another kind than {path} is now", hint=hint)
        before = [*held.mark["layers"]]
        mark = {**held.mark, **{word: kept[word] for word in _KEPT}, "provisioning": None}
        _replace(path, mark, kept["layers"], rebuild=True)
        _remove_own([layer for layer in before if layer not in kept["layers"]])


def delete(path: str, name: str) -> None:
    """Forget a snapshot, and remove what only it was made of. Raises HakoError."""
    with _Held(path) as held:
        kept = held.mark["snapshots"].pop(name, None)
        if kept is None:
            raise HakoError(f"there is no snapshot {name!r} of {path}", hint=_known(held.mark))
        held.write()
        _remove_own(kept["layers"])


def _known(mark: dict[str, Any]) -> str:
    return "known: " + " ".join(mark["snapshots"]) if mark["snapshots"] else "it has none: hako snapshot makes one"


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
    """The place of the clone is locked."""
    with _Held(path) as held:
        held.must_be_whole()
        if (held.mark["form"] == "host") != container.files.rootfs.layered:
            told = "a clone of strategy 'host' must be of that strategy, and others not"
            raise HakoError(told, where=container.build.bootstrap.where)
        stacked = held.mark["form"] == "stack"
        chain = _freeze(held, f"base of {container.name}") if stacked else [_copy(held, f"base of {container.name}")]
        mark = {**held.mark, "name": container.name, "snapshots": {}}
        try:
            _replace(container.files.rootfs.path, mark, chain, rebuild=False, before=lambda: _record(container))
        finally:
            if not stacked:
                _remove_own(chain)


def _record(container: Container) -> None:
    state.write_record(record_of(container))


def remove_own(mark: dict[str, Any]) -> None:
    """Remove the layers that a rootfs had for itself, once it is gone: its snapshots, and what lies on them."""
    _remove_own([*mark["layers"], *(layer for kept in mark["snapshots"].values() for layer in kept["layers"])])


def _remove_own(candidates: list[str]) -> None:
    layers.remove_unused([layer for layer in candidates if layers.read_facts(layer).get("kind") == "snapshot"])


def _freeze(held: _Held, what: str) -> list[str]:
    """Make the upper layer of a rootfs one of those that it lies on. Returns these."""
    upper, chain = os.path.join(held.path, "upper"), held.mark["layers"]
    if not os.listdir(upper) and _look(upper) == _look(boxes.layer_tree(chain[-1])):
        return list(chain)
    if len(chain) >= layers.MOST_LAYERS:
        hint = "remove snapshots with --delete, and go back to one, or hako create --rebuild"
        raise HakoError(f"{held.path} lies on {len(chain)} layers already, and cannot on more", hint=hint)
    layer = layers.new({"what": what, "kind": "snapshot", "parent": chain[-1]})
    files = boxes.layer_tree(layer)
    _give_look(upper, files)
    try:
        held.mark["layers"] = [*chain, layer]
        held.write()
        # Before the swap: an index in there is of the upper layer as it was, and the kernel refuses it with another one.
        # The folder itself stays, without which nothing can be started.
        tree.empty(os.path.join(held.path, "work"))
        exchange(upper, files)
    except OSError as error:
        if error.errno not in (18, 22):  # EXDEV, EINVAL
            raise
        copy_tree(upper, files)  # to another file system; what is above now says the same once more
    return list(held.mark["layers"])


def _look(path: str) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_mode, status.st_uid, status.st_gid


def _give_look(source: str, target: str) -> None:
    mode, uid, gid = _look(source)
    os.chown(target, uid, gid)
    os.chmod(target, stat.S_IMODE(mode))


def _copy(held: _Held, what: str) -> str:
    """A layer with a copy of a plain folder, or of the private layer of strategy `host`."""
    layer = layers.new({"what": what, "kind": "snapshot"})
    try:
        source = os.path.join(held.path, "upper") if held.mark["form"] == "host" else held.path
        copy_tree(source, boxes.layer_tree(layer))
    except BaseException:
        layers.remove(layer)
        raise
    return layer


def _replace(
    path: str, mark: dict[str, Any], chain: list[str], *, rebuild: bool, before: Callable[[], object] = lambda: None
) -> None:
    """Put a new folder that lies on these layers, or has the content of the one, in the place of a rootfs."""
    aside, lock = open_aside(path, rebuild=rebuild)
    try:
        for entry in os.listdir(aside):
            remove_tree(os.path.join(aside, entry))
        os.chmod(aside, 0o755)
        if mark["form"] == "stack":
            prepare_top(aside, boxes.layer_tree(chain[-1]))
        elif mark["form"] == "host":
            prepare_top(aside, boxes.layer_tree(chain[0]))
            copy_tree(boxes.layer_tree(chain[0]), os.path.join(aside, "upper"))
        else:
            copy_tree(boxes.layer_tree(chain[0]), aside)
        boxes.write(path, {**mark, "layers": chain if mark["form"] == "stack" else []}, folder=aside)
        before()
        put_in_place(aside, path)
    except BaseException:
        remove_tree(aside)
        boxes.remove_stale(aside)
        boxes.remove_stale(path)
        raise
    finally:
        os.close(lock)
