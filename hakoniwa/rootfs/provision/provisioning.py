"""Provisioning: which steps are to be taken, and what is remembered of those that were."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError, nearest
from hakoniwa.known import marks, state
from hakoniwa.known.idmaps.callerids import for_ordinary_user
from hakoniwa.known.idmaps.ids import choose_maps
from hakoniwa.known.marks import Mark
from hakoniwa.rootfs.provision.stepprocess import run_inside
from hakoniwa.rootfs.rootless import as_root
from hakoniwa.rootfs.store.locks import hold_rootfs
from hakoniwa.rootfs.store.registry import write_mark
from hakoniwa.rootfs.store.roots import root_of
from hakoniwa.rootfs.tools.digests import asked, step_digest, step_id
from hakoniwa.rootfs.tools.progress import progress_for
from hakoniwa.spec.outline import outline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.rootfs.tools.progress import Progress
    from hakoniwa.spec.records import Barn, Container, Outline, ProvisionStep

    # A step, what it is remembered by, and what it does.
    Pending = tuple[ProvisionStep, str, str]


def new_mark(container: Container, layers: tuple[str, ...] = (), steps: dict[str, str] | None = None) -> Mark:
    """The mark of a rootfs that was just made: on these layers, in which these steps were taken."""
    return Mark(
        name=container.name,
        asked=asked(container),
        said=outline(container),
        form="stack" if layers else "host" if container.files.rootfs.layered else "plain",
        layers=layers,
        steps=steps or {},
    )


def pending(container: Container, mark: Mark) -> list[Pending]:
    """The steps that were not taken yet, whose text has changed, or that are taken each time."""
    return [found for found in identified(container) if found[0].always or mark.steps.get(found[1]) != found[2]]


def identified(container: Container) -> list[Pending]:
    """All steps. Raises HakoError if what one copies cannot be read."""
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


def take_steps(container: Container, folder: str, mark: Mark, steps: list[Pending], progress: Progress) -> Mark:
    """Take steps in the rootfs at `folder`, one after the other. Returns its mark. Raises HakoError at one that fails.

    The mark that lies on the disk names a step while it is taken, so that a start knows of one that never ended.
    """
    for step, identity, hashed in steps:
        mark = mark.replace(provisioning=step.label)
        write_mark(folder, mark)
        run_inside(container, step, hashed, root_of(container, folder, mark.layers), progress)
        mark = mark.replace(steps={**mark.steps, identity: hashed})
    mark = mark.replace(provisioning=None)
    write_mark(folder, mark)
    return mark


def _said_now(container: Container, mark: Mark, due: list[Pending]) -> Outline:
    """The outline of a rootfs once these steps are taken; what was done by others stays done."""
    now = outline(container)
    said = mark.said or now
    return said.replace(steps={**said.steps, **{step.label: now.steps[step.label] for step, _, _ in due}})


def provision(container: Container, names: list[str] | None, progress: Progress) -> None:
    """Take the steps that are due, or those of these names, in a rootfs that is in place. Raises HakoError."""
    path = container.files.rootfs.path
    if not os.path.isdir(path) or not os.listdir(path):
        raise HakoError(
            f"the rootfs {path} is missing",
            where=container.files.rootfs.where,
            hint=f"hako create {container.file or 'FILE'}",
        )
    lock = hold_rootfs(path, container.files.rootfs.where)
    try:
        mark = marks.read(path) or new_mark(container).replace(asked="")
        due = pending(container, mark) if names is None else chosen(container, names)
        half = mark.provisioning
        mark = take_steps(container, path, mark.replace(said=_said_now(container, mark, due)), due, progress)
        if half is not None and names is not None:
            left = any(step.label == half for step, _, _ in pending(container, mark))
            write_mark(path, mark.replace(provisioning=half if left else None))
    finally:
        os.close(lock)
    count = len(due)
    progress.tell(f"took {count} step{'s' if count != 1 else ''} of provisioning" if count else "nothing is left to do")


def provision_barn(barn: Barn, names: list[str] | None, *, quiet: bool) -> None:
    """The use case `provision`: take the steps that are due, or those of these names, in each rootfs of a barn. Raises HakoError."""
    for container in barn.containers:
        state.must_belong(container)
    members = [container for container in barn.containers if not container.build.provision.skip]
    known = [step.name for container in members for step in container.build.provision.steps if step.name]
    for name in names or ():
        if name not in known:
            hint = nearest(name, known) or "no step has a name: name= gives it one"
            raise HakoError(f"provisioning step {name!r} is unknown", where=barn.file, hint=hint)
    for container in members:
        own = {step.name for step in container.build.provision.steps}
        wanted = None if names is None else [name for name in names if name in own]
        if wanted != []:
            _provision_as_root(container, wanted, quiet=quiet)


def _provision_as_root(container: Container, names: list[str] | None, *, quiet: bool) -> None:
    """Be root of a user namespace with the ids of the container for that, if this user is not root."""
    maps = None if os.geteuid() == 0 else choose_maps(for_ordinary_user(container))
    as_root(lambda: provision(container, names, progress_for(container.name, quiet=quiet)), maps)
