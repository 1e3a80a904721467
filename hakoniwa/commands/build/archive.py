"""`hako archive`: pack the rootfs of a container into a file that strategy `tarball` takes."""

from __future__ import annotations

import os
import re
import shlex

from hakoniwa import log
from hakoniwa.commands.build.create import QUIET
from hakoniwa.errors import HakoError, nearest, printable
from hakoniwa.haco.loader import load_given
from hakoniwa.options import Command, Given, Option, usage_error
from hakoniwa.rootfs.archives.creation import (
    COMPRESSIONS,
    ArchiveRequest,
    check_target,
    create_archive,
    kind_of,
    measure,
)
from hakoniwa.rootfs.build.options import BuildOptions
from hakoniwa.rootfs.build.selection import build_missing, is_built
from hakoniwa.rootfs.rootless import as_root
from hakoniwa.rootfs.tools.progress import progress_for, size
from hakoniwa.run.prepare import check_real_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec.records import Barn, Container

COMMAND = Command(
    name="archive",
    summary="Pack the rootfs of a container, which is built first where it is missing.",
    options=(
        Option(
            flags=("-d", "--dest"), value="OUT", help="the file to write: OUT.tar.gz, .tar.bz2, .tar.xz, .tar.zst, .tar"
        ),
        Option(flags=("-t", "--type"), value="T", help=f"{' '.join(COMPRESSIONS)} (as the name of OUT has it)"),
        Option(flags=("-n", "--name"), value="NAME", help="which container of the file"),
        Option(flags=("-N", "--no-provision"), help="where it is built first: leave provisioning out"),
        Option(
            flags=("-O", "--tar-options"),
            value="OPTIONS",
            help="more options for tar, with commas or spaces between them",
        ),
        Option(flags=("--exclude",), value="PATTERN", help="leave out what matches, as tar has it", repeated=True),
        Option(flags=("--dry-run",), help="tell the size before compression, and write nothing"),
        Option(flags=("-v", "--verbose"), help="tell each member"),
        QUIET,
    ),
    undone=True,
)


def run(given: Given) -> int:
    """Load the file, build what is missing, pack it."""
    request = _request(given)
    barn = load_given(given, "archive")
    check_real_id(barn)
    log.set_level(barn.log_level)
    container = _meant(barn, given.value("name"))
    quiet = given.flag("quiet")
    progress = progress_for(container.name, quiet=quiet)
    check_target(request.target)
    if given.flag("dry_run"):
        if not is_built(container):
            hint = f"hako create {container.file}"
            raise HakoError(
                f"the rootfs {container.files.rootfs.path} is missing", where=container.files.rootfs.where, hint=hint
            )
        as_root(lambda: _print_size(container, request))
        return 0
    build_missing(
        barn.replace(containers=(container,)), BuildOptions(provision=not given.flag("no_provision"), quiet=quiet)
    )
    as_root(lambda: create_archive(container, request, progress))
    progress.tell(f"packed {request.target} ({size(os.stat(request.target).st_size)})")
    return 0


def _print_size(container: Container, request: ArchiveRequest) -> None:
    count = measure(container, request, progress_for(container.name, quiet=True))
    print(printable(f"{request.target}: {count} bytes before compression ({request.kind})"), flush=True)


def _request(given: Given) -> ArchiveRequest:
    target = given.value("dest")
    if not target:
        raise usage_error("which file?", "archive", "-d OUT.tar.gz")
    kind = given.value("type") or kind_of(target)
    if kind is None:
        hint = f"-t {' | '.join(COMPRESSIONS)}"
        raise usage_error(f"the name {target} tells no type of archive", "archive", hint)
    if kind not in COMPRESSIONS:
        raise usage_error(f"the type {kind!r} is unknown", "-t", nearest(kind, [*COMPRESSIONS]))
    try:
        words = shlex.split(given.value("tar_options") or "")
    except ValueError as error:
        raise usage_error(f"{given.value('tar_options')}: {error}", "-O") from None
    return ArchiveRequest(
        target=os.path.abspath(target),
        kind=kind,
        # haconiwa's users put commas between options: `--exclude=./bin,--verbose` is two.
        options=tuple(option for word in words for option in re.split(r",(?=-)", word)),
        excluded=tuple(given.values("exclude")),
        verbose=given.flag("verbose"),
    )


def _meant(barn: Barn, name: str | None) -> Container:
    if name is None and len(barn.containers) == 1:
        return barn.containers[0]
    names = [container.name for container in barn.containers]
    if name is None:
        raise usage_error("the file has several containers", "archive", f"-n {' | '.join(names)}")
    for container in barn.containers:
        if container.name == name:
            return container
    hint = (
        nearest(name, names)
        if name != barn.file and not name.startswith("-")
        else "-n takes a name; --dry-run is the dry run"
    )
    raise HakoError(f"the file has no container {name!r}", where=barn.file, hint=hint)
