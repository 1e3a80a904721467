"""The use case `prepare`: from a specification to what this host gives for a start of it. Nothing is made but what guards it.

Every front end comes this way: it has a barn, which is plain data, and says how it is to be started (`Wanted`). What it gets
is handed to the use case `start` (barn/foreground.py, background.py), or shown as a plan.
"""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.host.rewritable import find_exposed
from hakoniwa.kernel.security import capabilities
from hakoniwa.known.markglance import glance
from hakoniwa.places import layer_trees
from hakoniwa.plan.container import Launch
from hakoniwa.plan.flavours import flavour_of, plan
from hakoniwa.record import Record
from hakoniwa.run.life import CLAIM, CLONE, NAMESPACES, NETWORK, PROGRAM
from hakoniwa.run.start.hostside import host_steps, must_be_provisioned
from hakoniwa.seccomp.programs import programs_for
from hakoniwa.spec.records import NO_MAPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hakoniwa.spec.records import Barn, Container, Maps, Outline


class Wanted(Record):
    """How containers are to be started."""

    command: tuple[str, ...] | None = None  # in place of the specification's own
    background: bool = False
    terminals: tuple[int, ...] = ()  # those of the caller's standard streams that are terminals
    hold: bool = False  # they wait to be released, with everything set up
    dry: bool = False  # nothing is started: so nothing is made either


class Prepared(Record):
    """A barn as the caller can run it, and what each container of it is given."""

    barn: Barn
    launches: tuple[Launch, ...]


def check_real_id(barn: Barn) -> None:
    """Ask the file's `validate_real_id` function whether this user may run it. Raises HakoError."""
    if barn.real_id_check is None:
        return
    uid, gid = os.getuid(), os.getgid()
    if not barn.real_id_check.function(uid, gid):
        raise HakoError(f"uid {uid}, gid {gid} may not run this file", where=barn.real_id_check.where)


def for_caller(barn: Barn) -> Barn:
    """The barn as this user runs it: an ordinary user's containers have a user namespace, whatever they say."""
    if os.geteuid() == 0:
        return barn
    from hakoniwa.known.idmaps.callerids import for_ordinary_user

    for container in barn.containers:
        if container.network is not None:
            from hakoniwa.network.links.pasta import must_be_possible

            must_be_possible(container)
        if container.flavour == "fly":
            told = "a fly container takes root, since it has no user namespace"
            raise HakoError(told, where=container.place("flavour"), hint='flavour = "container"')
    return barn.replace(containers=tuple(map(for_ordinary_user, barn.containers)))


def prepare(barn: Barn, wanted: Wanted) -> Prepared:
    """What this host gives for each container of a barn. Raises HakoError if it cannot give what is asked for."""
    if barn.shared.namespaces:
        from hakoniwa.run.barn.shared import fit

        barn = barn.replace(containers=tuple(fit(container, barn.shared) for container in barn.containers))
    barn = for_caller(barn)
    if wanted.command and len(barn.containers) > 1:
        told = f"one command is for one container, and there are {len(barn.containers)}"
        raise HakoError(told, where=barn.file)
    alone = len(barn.containers) == 1
    launches = [_launch(container, wanted, alone=alone) for container in barn.containers]
    exposed = [
        find_exposed(barn, container, launch.layers, make=not wanted.dry)
        for container, launch in zip(barn.containers, launches, strict=True)
    ]
    pairs = zip(launches, exposed, strict=True)
    return Prepared(barn=barn, launches=tuple(launch.replace(exposed=found) for launch, found in pairs))


def prepare_one(container: Container, barn: Barn) -> tuple[Container, Launch]:
    """The same for a container that is added to a barn in the background, or started there once more. Raises HakoError."""
    prepared = prepare(barn.replace(containers=(container,)), Wanted(background=True))
    return prepared.barn.containers[0], prepared.launches[0]


def describe(container: Container, launch: Launch) -> Iterator[str]:
    """The whole plan of a container, a line for each step, in the order in which both sides come to them."""
    host = host_steps(container)
    yield from (f"on the host: {step}" for step in host if step.stage in (CLAIM, CLONE))
    yield f"new namespaces {' '.join(container.namespaces.own)}"
    yield from (f"on the host: {step}" for step in host if step.stage in (NAMESPACES, NETWORK))
    yield from map(str, plan(container, launch))
    yield from (f"on the host: {step}" for step in host if step.stage == PROGRAM)


def _launch(container: Container, wanted: Wanted, *, alone: bool) -> Launch:
    terminals: tuple[int, ...] = ()
    if wanted.terminals and alone and not wanted.background:
        redirected = {stream.number for stream in container.process.streams}
        terminals = tuple(stream for stream in wanted.terminals if stream not in redirected)
    held = resolve_capabilities(container)
    return Launch(
        command=wanted.command,
        idle=wanted.background and not wanted.command and container.process.command is None,
        hold=wanted.hold,
        terminals=terminals,
        capabilities=held,
        maps=_choose_maps(container),
        layers=_find_layers(container),
        filters=programs_for(container.security.seccomp, held, no_new_privs=container.security.no_new_privs),
    )


def _find_layers(container: Container) -> tuple[str, ...]:
    """What the rootfs lies on. Raises HakoError if its provisioning has stopped half-way."""
    mark = glance(container.files.rootfs.path)
    if mark is None:
        return ()
    must_be_provisioned(container, mark)
    if mark.said is not None and mark.name == container.name and not container.build.bootstrap.skip:
        _tell_what_differs(container, mark.said)
    return layer_trees(mark.layers)


def _tell_what_differs(container: Container, said: Outline) -> None:
    """Warn if the rootfs was made of another definition: it is used as it is."""
    from hakoniwa.spec import outline

    now = outline.outline(container)
    if now == said:
        return
    settings, steps = outline.differences(said, now)
    if settings or steps:
        told = f"{container.name}: the rootfs {container.files.rootfs.path} is as it was created: {'; '.join([*settings, *steps])}"
        log.write(f"{told} ({outline.way_out(settings, steps, container.file)})", "warning")


def _choose_maps(container: Container) -> Maps:
    if "user" not in container.namespaces.own and os.geteuid() == 0:
        return NO_MAPS
    from hakoniwa.known.idmaps.ids import choose_maps

    return choose_maps(container)


def resolve_capabilities(container: Container) -> int:
    """The capabilities of the container as a mask. Raises HakoError if one was named that the caller lacks."""
    wanted = container.security.capabilities
    held = capabilities.every() if container.has_user_namespace() else capabilities.held()
    lacking = capabilities.names(capabilities.mask(wanted.named) & ~held)
    if lacking:
        raise HakoError(
            f"capability {lacking[0]!r} is not held by the caller",
            where=container.place(lacking[0]),
            hint="drop it from allow()",
        )
    bits = held if wanted.everything else capabilities.mask((*capabilities.DEFAULT, *wanted.named)) & held
    bits &= ~capabilities.mask(wanted.dropped)
    if flavour_of(container).is_chroot(container) and "cap_sys_chroot" not in wanted.named:
        bits &= ~capabilities.mask(["cap_sys_chroot"])  # with it, root walks out of a chroot
    return bits
