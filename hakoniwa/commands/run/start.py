"""`hako start`: run the containers of a file."""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.errors import printable
from hakoniwa.kernel.processes import signals
from hakoniwa.known import kept
from hakoniwa.options import Command, Given, Option, usage_error
from hakoniwa.run.barn.foreground import run_in_foreground
from hakoniwa.run.prepare import Wanted, check_real_id, describe, for_caller, prepare, resolve_capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.known.kept import Sought
    from hakoniwa.run.prepare import Prepared
    from hakoniwa.spec.records import Barn

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
        Option(flags=("--hold",), help="set everything up, and execute the program once `hako release` says so"),
        Option(flags=("--spec",), value="SPEC", help="in place of FILE: a spec as JSON, or - for standard input"),
    ),
    takes_argv=True,
    instead=("spec",),
)


def run(given: Given) -> int:
    """Load the file, prepare its containers, start them."""
    _check_options(given)
    barn, sought = _load(given)
    check_real_id(barn)
    log.set_level(barn.log_level)
    background = given.flag("daemon") or (barn.daemonize and not given.flag("foreground"))
    if given.flag("wait") and not background:
        raise usage_error("--wait is about containers in the background", "start", "give -D too")
    if given.argv and len(barn.containers) > 1:
        raise usage_error("a command after -- needs a file with one container", "start")
    if given.flag("bootstrap") and not given.flag("dry_run"):
        _build(for_caller(barn), provision=not given.flag("no_provision"))
    dry = given.flag("dry_run")
    prepared = prepare(barn, _wanted(given, background))
    if barn.file and any(launch.exposed.fixed for launch in prepared.launches):
        from hakoniwa.haco.beside import close_beside

        close_beside(os.path.dirname(barn.file))
    if dry:
        _show(prepared)
        return 0
    if background:
        status = _start_in_background(prepared, wait=given.flag("wait"), watch=given.flag("watch"))
    else:
        status, errors = run_in_foreground(prepared.barn, prepared.launches, watch=given.flag("watch"))
        for error in errors:
            log.write_error(error)
    if sought is not None and sought.could_be_kept():  # now that nobody waits for the program any more
        from hakoniwa.haco.keeping import keep

        keep(sought)
    return status


def _wanted(given: Given, background: bool) -> Wanted:
    terminals = () if background else tuple(stream for stream in (0, 1, 2) if os.isatty(stream))
    return Wanted(
        command=given.argv,
        background=background,
        hold=given.flag("hold"),
        terminals=terminals,
        dry=given.flag("dry_run"),
    )


def _load(given: Given) -> tuple[Barn, Sought | None]:
    """The barn, and the search for what was kept of its file, if there was one."""
    spec = given.value("spec")
    if spec is None:
        assert given.file is not None
        sought = kept.seek(given.file) if os.path.exists(given.file) and not given.flag("debug") else None
        if sought is not None and sought.barn is not None:
            return sought.barn, sought
        from hakoniwa.haco.loader import load, load_given

        return load(given.file, "start", sought) if sought is not None else load_given(given, "start"), sought
    if given.file is not None:
        raise usage_error(f"--spec {spec} and {given.file} are two descriptions", "start", "give one of them")
    from hakoniwa.haco.loader import load_document

    barn = load_document(spec)
    if given.flag("watch") and not barn.file:
        raise usage_error("--watch is about a file, and the spec has none", "start", "write it to a file")
    return barn, None


def _check_options(given: Given) -> None:
    if given.flag("daemon") and given.flag("foreground"):
        raise usage_error("-D and -T exclude each other", "start")
    if given.flag("no_provision") and not given.flag("bootstrap"):
        raise usage_error("-N says how to build: it needs -b", "start")
    if given.flag("wait") and given.flag("hold"):
        raise usage_error(
            "--wait is about a program that runs, and --hold keeps it from that", "start", "leave one out"
        )
    if given.flag("wait") and given.flag("foreground"):
        raise usage_error("--wait is about containers in the background, and -T excludes that", "start")


def _build(barn: Barn, *, provision: bool) -> None:
    for container in barn.containers:
        resolve_capabilities(container)  # what cannot be started is not built
    from hakoniwa.rootfs.build.options import BuildOptions
    from hakoniwa.rootfs.build.selection import build_missing

    with signals.Undoing():
        build_missing(barn, BuildOptions(provision=provision))


def _show(prepared: Prepared) -> None:
    for container, launch in zip(prepared.barn.containers, prepared.launches, strict=True):
        for line in describe(container, launch):
            print(printable(f"{container.name}: {line}"))


def _start_in_background(prepared: Prepared, *, wait: bool, watch: bool) -> int:
    from hakoniwa.run.barn.background import run_in_background

    running, errors = run_in_background(prepared.barn, prepared.launches, wait=wait, watch=watch)
    for name, pid in running:
        print(f"{name} {pid}")
    for error in errors:
        log.write_error(error)
    return errors[0].status if errors else 0
