"""Provisioning: which steps are to be taken, and what is remembered of those that were."""

from __future__ import annotations

import os

from hakoniwa import boxes
from hakoniwa.errors import HakoError, nearest
from hakoniwa.kernel import idmap
from hakoniwa.plan.container import stacked_root
from hakoniwa.rootfs.provision.stepprocess import run_inside
from hakoniwa.rootfs.store.locks import hold_rootfs
from hakoniwa.rootfs.tools.digests import asked, step_digest, step_id
from hakoniwa.spec.outline import outline
from hakoniwa.steps.root import BindRoot, LayerRoot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.rootfs.tools.progress import Progress
    from hakoniwa.spec.records import Container, ProvisionStep
    from hakoniwa.steps.step import Step

    # A step, what it is remembered by, and what it does.
    Pending = tuple[ProvisionStep, str, str]


def new_mark(container: Container, layers: list[str], steps: dict[str, str]) -> dict[str, Any]:
    """The mark of a rootfs (boxes.py): what it was made from, and what was done to it."""
    return {
        "name": container.name,
        "asked": asked(container),
        "said": outline(container),
        "form": "stack" if layers else "host" if container.files.rootfs.layered else "plain",
        "layers": layers,  # of the store, from the bottom up; none under a plain folder
        "steps": steps,  # of provisioning, that were taken
        "provisioning": None,  # the step that is being taken, or has failed
        "snapshots": {},
    }


def pending(container: Container, mark: dict[str, Any]) -> list[Pending]:
    """The steps that were not taken yet, whose text has changed, or that are taken each time."""
    return [found for found in identified(container) if found[0].always or mark["steps"].get(found[1]) != found[2]]


def identified(container: Container) -> list[Pending]:
    """All steps. Raises HakoError where what one copies cannot be read."""
    steps = () if container.build.provision.skip else container.build.provision.steps
    found = [(step, step_digest(step)) for step in steps]
    return [(step, step_id(step, hashed), hashed) for step, hashed in found]


def chosen(container: Container, names: list[str]) -> list[Pending]:
    """The steps of these names, in the order of the file, whether they were taken before or not. Raises HakoError."""
    known = [step.name for step in container.build.provision.steps if step.name]
    for name in names:
        if name not in known:
            hint = nearest(name, known) or "no step has a name: name= gives it one"
            raise HakoError(f"provisioning step {name!r} is unknown", where=container.file, hint=hint)
    return [found for found in identified(container) if found[0].name in names]


def root_of(container: Container, folder: str, layers: list[str]) -> Step:
    """The step that mounts a rootfs, writable, with its ids as they are on the disk."""
    rootfs = container.files.rootfs
    return tree_of(folder, layers, host=rootfs.layered, file=container.file, where=rootfs.where)


def tree_of(folder: str, layers: list[str], *, host: bool, file: str, where: str = "") -> Step:
    """The same of any rootfs: one on `layers`, one on the `host`, or a plain folder."""
    facts: dict[str, Any] = {"path": folder, "readonly": False, "file": file, "where": where}
    by_user = not idmap.is_host_root()
    if layers:
        return stacked_root(boxes.layer_trees(layers), by_user=by_user, **facts)
    if not host:
        return BindRoot(**facts)
    if by_user:
        from hakoniwa.steps.gather import GatherRoot

        return GatherRoot(**facts)
    return LayerRoot(**facts)


def take_steps(
    container: Container, folder: str, mark: dict[str, Any], steps: list[Pending], progress: Progress
) -> None:
    """Take steps in the rootfs at `folder`, which is marked, one after the other. Raises HakoError at one that fails.

    The mark names the step while it is taken, so that a start knows of one that never ended.
    """
    for step, identity, hashed in steps:
        mark["provisioning"] = step.label
        boxes.write(folder, mark)
        run_inside(container, step, hashed, root_of(container, folder, mark["layers"]), progress)
        mark["steps"][identity] = hashed
    mark["provisioning"] = None
    boxes.write(folder, mark)


def _said_now(container: Container, mark: dict[str, Any], due: list[Pending]) -> dict[str, Any]:
    """The outline of a rootfs once these steps are taken; what was done by others stays done."""
    said = mark.get("said") or outline(container)
    steps = outline(container)["steps"]
    return {**said, "steps": {**said["steps"], **{step.label: steps[step.label] for step, _, _ in due}}}


def provision(container: Container, names: list[str] | None, progress: Progress) -> None:
    """Take the steps that are due, or those of these names, in a rootfs that is in place. Raises HakoError."""
    path = container.files.rootfs.path
    if not os.path.isdir(path) or not os.listdir(path):
        raise HakoError(
            f"the rootfs {path} is missing", where=container.files.rootfs.where, hint=f"hako create {container.file}"
        )
    lock = hold_rootfs(path, container.files.rootfs.where)
    try:
        mark = boxes.read(path) or {**new_mark(container, [], {}), "asked": ""}
        due = pending(container, mark) if names is None else chosen(container, names)
        half = mark["provisioning"]
        mark["said"] = _said_now(container, mark, due)
        take_steps(container, path, mark, due, progress)
        if half is not None and names is not None:
            mark["provisioning"] = half if any(step.label == half for step, _, _ in pending(container, mark)) else None
            boxes.write(path, mark)
    finally:
        os.close(lock)
    count = len(due)
    progress.tell(f"took {count} step{'s' if count != 1 else ''} of provisioning" if count else "nothing is left to do")
