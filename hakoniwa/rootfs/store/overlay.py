"""Overlays that a rootfs is made of: an upper layer on those of the store, whether there can be one, and what it shows."""

from __future__ import annotations

import os
import stat

from hakoniwa.errors import HakoError
from hakoniwa.kernel import idmap, mount, process
from hakoniwa.places import layer_tree
from hakoniwa.rootfs.store.discards import remove_tree
from hakoniwa.rootfs.store.roots import root_of
from hakoniwa.rootfs.store.treecopy import copy_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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
        return in_own_mounts(attempt) == ""
    finally:
        remove_tree(trial)


def in_own_mounts(action: Any) -> str:
    """Call `action` in a child with a mount namespace of its own. Returns what went wrong, in words."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = process.clone(process.NAMESPACES["mount"])
    if pid == 0:
        try:
            mount.make_all_private()
            action()
            os._exit(0)
        except HakoError as error:
            os.write(writer, error.message.encode())
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(1)
    os.close(writer)
    os.close(pidfd)
    said = b""
    while more := os.read(reader, 65536):
        said += more
    os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return said.decode(errors="replace") or (f"ended with {status}" if status else "")


def copy_merged(container: Container, chain: tuple[str, ...], folder: str) -> None:
    """Copy what layers show together into a folder, sharing the blocks where the file system can. Raises HakoError."""
    top = os.path.join(folder, ".top")
    os.mkdir(top, 0o700)
    prepare_top(top, layer_tree(chain[-1]))

    def copy() -> None:
        from hakoniwa.steps.step import Context

        context = Context(supervisor=-1, status=-1, environ={})
        root_of(container, top, chain).apply(context)
        os.fchdir(context.root)
        copy_tree(".", folder)

    try:
        failure = in_own_mounts(copy)
    finally:
        remove_tree(top)
    if failure:
        raise HakoError(f"cannot copy the layers to {folder}: {failure}")
