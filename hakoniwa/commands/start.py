"""`hako start`: run the containers of a file."""

from __future__ import annotations

import os

from hakoniwa import boxes, log
from hakoniwa.errors import HakoError, printable
from hakoniwa.haco.beside import close_beside
from hakoniwa.haco.loader import load_given
from hakoniwa.kernel import capabilities, signals
from hakoniwa.options import Command, Given, Option, usage_error
from hakoniwa.plan.container import Launch, plan
from hakoniwa.rewritable import find_exposed
from hakoniwa.run.barn.background import run_in_background
from hakoniwa.run.barn.foreground import run_in_foreground
from hakoniwa.seccomp.programs import programs_for
from hakoniwa.spec.records import NO_MAPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.spec.records import Barn, Container, Maps

COMMAND = Command(
    name="start",
    summary="Run the containers of a file: in the foreground, or as a daemon.",
    options=(
        Option(flags=("-D", "--daemon"), help="in the background"),
        Option(flags=("-T", "--no-daemon", "--foreground"), help="in the foreground, whatever the file says"),
        Option(flags=("-b", "--bootstrap"), help="build the rootfs first where it is missing"),
        Option(flags=("-N", "--no-provision"), help="with -b: leave provisioning out"),
        Option(flags=("--dry-run",), help="print the steps, and take none"),
        Option(flags=("--watch",), help="reload when the file changes"),
        Option(flags=("--wait",), help="with -D: return when the containers are ready"),
    ),
    takes_argv=True,
)


def run(given: Given) -> int:
    """Load the file, plan each container, start them."""
    if given.flag("daemon") and given.flag("foreground"):
        raise usage_error("-D and -T exclude each other", "start")
    if given.flag("no_provision") and not given.flag("bootstrap"):
        raise usage_error("-N says how to build: it needs -b", "start")
    if given.flag("wait") and given.flag("foreground"):
        raise usage_error("--wait is about containers in the background, and -T excludes that", "start")
    barn = load_given(given, "start")
    check_real_id(barn)
    if os.geteuid() != 0:
        from hakoniwa.ids import for_ordinary_user

        barn = barn.replace(containers=tuple(map(for_ordinary_user, barn.containers)))
    log.set_level(barn.log_level)
    background = given.flag("daemon") or (barn.daemonize and not given.flag("foreground"))
    if given.flag("wait") and not background:
        raise usage_error("--wait is about containers in the background", "start", "give -D too")
    if given.argv and len(barn.containers) > 1:
        raise usage_error("a command after -- needs a file with one container", "start")
    if given.flag("bootstrap") and not given.flag("dry_run"):
        for container in barn.containers:
            resolve_capabilities(container)  # what cannot be started is not built
        from hakoniwa.rootfs.build.selection import How, build_missing

        with signals.Undoing():
            build_missing(barn, How(provision=not given.flag("no_provision")))
    launches = [_launch(container, given.argv, background, len(barn.containers)) for container in barn.containers]
    launches = [
        launch.replace(exposed=find_exposed(barn, container, launch.layers, make=not given.flag("dry_run")))
        for container, launch in zip(barn.containers, launches, strict=True)
    ]
    if any(launch.exposed.fixed for launch in launches):
        close_beside(os.path.dirname(barn.file))
    if given.flag("dry_run"):
        _show(barn, launches)
        return 0
    if background:
        return _start_in_background(barn, launches, wait=given.flag("wait"), watch=given.flag("watch"))
    return run_in_foreground(barn, launches, watch=given.flag("watch"))


def check_real_id(barn: Barn) -> None:
    """Ask the file's `validate_real_id` function whether this user may run it."""
    if barn.real_id_check is None:
        return
    uid, gid = os.getuid(), os.getgid()
    if not barn.real_id_check.function(uid, gid):
        raise HakoError(f"uid {uid}, gid {gid} may not run this file", where=barn.real_id_check.where)


def _launch(container: Container, argv: tuple[str, ...] | None, background: bool, number: int) -> Launch:
    terminals: tuple[int, ...] = ()
    if not background and number == 1 and any(os.isatty(stream) for stream in (0, 1, 2)):
        from hakoniwa.run.terminal.front import terminals as find

        redirected = {stream.number for stream in container.process.streams}
        terminals = tuple(stream for stream in find() if stream not in redirected)
    held = resolve_capabilities(container)
    return Launch(
        command=argv,
        idle=background and not argv and container.process.command is None,
        terminals=terminals,
        capabilities=held,
        maps=_choose_maps(container),
        layers=_layers(container),
        filters=programs_for(container.security.seccomp, held, no_new_privs=container.security.no_new_privs),
    )


def _layers(container: Container) -> tuple[str, ...]:
    """What the rootfs lies on. Raises HakoError where its provisioning has stopped half-way."""
    mark = boxes.read(container.files.rootfs.path)
    if mark is None:
        return ()
    if mark["provisioning"] is not None:
        from hakoniwa.rootfs.provision.provisioning import must_be_provisioned

        must_be_provisioned(container, mark)
    if (said := mark.get("said")) and mark["name"] == container.name and not container.build.bootstrap.skip:
        _tell_what_differs(container, said)
    return boxes.layer_trees(mark["layers"])


def _tell_what_differs(container: Container, said: dict[str, Any]) -> None:
    """Warn where the rootfs was made of another definition: it is used as it is."""
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
    from hakoniwa.ids import choose_maps

    return choose_maps(container)


def resolve_capabilities(container: Container) -> int:
    """The capabilities of the container as a mask. Raises HakoError where one was named that the caller lacks."""
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
    if container.files.rootfs.legacy_chroot and "cap_sys_chroot" not in wanted.named:
        bits &= ~capabilities.mask(["cap_sys_chroot"])  # with it, root walks out of a chroot
    return bits


def _show(barn: Barn, launches: list[Launch]) -> None:
    for container, launch in zip(barn.containers, launches, strict=True):
        print(f"{container.name}: new namespaces {' '.join(container.namespaces.own)}")
        for step in plan(container, launch):
            print(printable(f"{container.name}: {step}"))


def _start_in_background(barn: Barn, launches: list[Launch], *, wait: bool, watch: bool) -> int:
    running, errors = run_in_background(barn, launches, wait=wait, watch=watch)
    for name, pid in running:
        print(f"{name} {pid}")
    for error in errors:
        for line in error.lines():
            log.write(line, "error")
    return errors[0].status if errors else 0
