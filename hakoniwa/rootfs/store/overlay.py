"""Overlays that a rootfs is made of: an upper layer on those of the store, whether there can be one, and what it shows."""

from __future__ import annotations

import os
import stat

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem import mount
from hakoniwa.kernel.processes import idmap, process
from hakoniwa.places import layer_tree
from hakoniwa.rootfs.store.discards import remove_tree
from hakoniwa.rootfs.store.roots import root_of
from hakoniwa.rootfs.store.treecopy import copy_tree
from hakoniwa.rootfs.tools.programs import how_it_ended
from hakoniwa.run.process.task import Task
from hakoniwa.steps.step import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hakoniwa.spec.records import Container


def prepare_top(folder: str, below: str) -> None:
    """An empty upper layer, which shows as its own root what the layer below has for one, and a place to work in."""
    status = os.stat(below)
    upper = os.path.join(folder, "upper")
    os.mkdir(upper, 0o700)
    os.chown(upper, status.st_uid, status.st_gid)
    os.chmod(upper, stat.S_IMODE(status.st_mode))
    os.mkdir(os.path.join(folder, "work"), 0o700)


def can_overlay(folder: str) -> bool:
    """Whether an overlay can have its upper layer in a folder, which is tried."""
    trial = os.path.join(folder, ".trial")
    os.mkdir(trial)
    for name in ("lower", "upper", "work"):
        os.mkdir(os.path.join(trial, name))

    def attempt() -> None:
        options = [f"lowerdir={trial}/lower", f"upperdir={trial}/upper", f"workdir={trial}/work"]
        if any(character in trial for character in ":,\\"):
            os.chdir(trial)
            options = ["lowerdir=lower", "upperdir=upper", "workdir=work"]
        mount.make("overlay", "trial", options if idmap.is_host_root() else [*options, "userxattr"])

    try:
        return _in_own_mounts(attempt) == 0
    except HakoError:
        return False
    finally:
        remove_tree(trial)


def _in_own_mounts(action: Callable[[], object]) -> int:
    """Call `action` in a process with a mount namespace of its own. Returns its exit status. Raises what it tells."""

    def act(report: int) -> None:
        mount.make_all_private()
        action()

    return Task(act, process.NAMESPACES["mount"]).wait()


def copy_merged(container: Container, chain: tuple[str, ...], folder: str) -> None:
    """Copy what layers show together into a folder, sharing the blocks if the file system can. Raises HakoError."""
    top = os.path.join(folder, ".top")
    os.mkdir(top, 0o700)
    prepare_top(top, layer_tree(chain[-1]))

    def copy() -> None:
        context = Context(supervisor=-1, status=-1, environ={})
        root_of(container, top, chain).apply(context)
        os.fchdir(context.root)
        copy_tree(".", folder)

    try:
        status = _in_own_mounts(copy)
    except HakoError as error:
        raise HakoError(f"cannot copy the layers to {folder}: {error.message}", hint=error.hint) from None
    finally:
        remove_tree(top)
    if status:
        raise HakoError(f"cannot copy the layers to {folder}: {how_it_ended(status)}")
