"""The step that mounts a rootfs whole: a plain folder, one on layers of the store, or one on the host."""

from __future__ import annotations

from hakoniwa.kernel.processes import idmap
from hakoniwa.places import layer_trees
from hakoniwa.plan.container import stacked_root
from hakoniwa.steps.files.root import BindRoot, LayerRoot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.spec.records import Container
    from hakoniwa.steps.step import Step


def root_of(container: Container, folder: str, layers: tuple[str, ...]) -> Step:
    """The step that mounts the rootfs of a container, writable, with its ids as they are on the disk."""
    rootfs = container.files.rootfs
    return root_at(folder, layers, host=rootfs.layered, file=container.file, where=rootfs.where)


def root_at(folder: str, layers: tuple[str, ...], *, host: bool, file: str, where: str = "") -> Step:
    """The same for any rootfs: one on `layers`, one on the `host`, or a plain folder."""
    facts: dict[str, Any] = {"path": folder, "readonly": False, "file": file, "where": where}
    by_user = not idmap.is_host_root()
    if layers:
        return stacked_root(layer_trees(layers), by_user=by_user, **facts)
    if not host:
        return BindRoot(**facts)
    if by_user:
        from hakoniwa.steps.files.gather import GatherRoot

        return GatherRoot(**facts)
    return LayerRoot(**facts)
