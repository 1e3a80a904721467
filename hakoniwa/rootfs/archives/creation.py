"""Pack a rootfs into an archive that strategy `tarball` makes the same tree of again.

Sorted, with numeric owners, extended attributes, hard links and holes; no times but those of modification, which
SOURCE_DATE_EPOCH clamps (https://reproducible-builds.org/specs/source-date-epoch/): the same tree gives the same bytes.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem import mount
from hakoniwa.known import marks
from hakoniwa.record import Record
from hakoniwa.rootfs.archives import tar
from hakoniwa.rootfs.store.locks import hold_rootfs
from hakoniwa.rootfs.store.roots import root_of
from hakoniwa.rootfs.tools.environment import environment
from hakoniwa.rootfs.tools.output import follow, quoted
from hakoniwa.rootfs.tools.programs import how_it_ended
from hakoniwa.rootfs.tools.tmpfile import UnnamedFile
from hakoniwa.run.start.hostside import must_be_provisioned
from hakoniwa.steps.step import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.rootfs.tools.progress import Progress
    from hakoniwa.spec.records import Container

# Filters that compress, the first that is installed; xz and zstd use every core, pigz and lbzip2 stand in for what cannot.
# On one core, xz would otherwise write another format: a single block (`man 1 xz`, --threads).
_CORES = max(2, os.cpu_count() or 1)
COMPRESSIONS: dict[str, tuple[list[str], ...]] = {
    "gzip": (["pigz", "-c", "-n"], ["gzip", "-c", "-n"]),
    "bzip2": (["lbzip2", "-c"], ["bzip2", "-c"]),
    "xz": (["xz", "-c", f"-T{_CORES}"],),
    "zstd": (["zstd", "-c", "-q", f"-T{_CORES}"],),
    "none": (),
}
_PACKAGES = {"xz": "xz-utils"}
_ENDINGS = {
    (".tar.gz", ".tgz"): "gzip",
    (".tar.bz2", ".tbz2", ".tbz"): "bzip2",
    (".tar.xz", ".txz"): "xz",
    (".tar.zst", ".tzst", ".tar.zstd"): "zstd",
    (".tar",): "none",
}
_NEEDED = ["cap_dac_override", "cap_dac_read_search"]


class ArchiveRequest(Record):
    """What is asked of one archive."""

    target: str
    kind: str
    options: tuple[str, ...]  # of tar
    excluded: tuple[str, ...]
    verbose: bool


def kind_of(target: str) -> str | None:
    """The compression that the end of a name stands for."""
    return next((kind for endings, kind in _ENDINGS.items() if target.endswith(endings)), None)


def check_target(target: str) -> None:
    """Raise HakoError if no archive can be written there."""
    folder = os.path.dirname(target) or "."
    if os.path.isdir(target):
        raise HakoError(f"{target} is a folder", where="archive", hint="name the file to write with -d")
    if not os.path.isdir(folder):
        raise HakoError(f"the folder {folder} is not there", where="archive", hint=f"mkdir -p {folder}")
    if not os.access(folder, os.W_OK):
        raise HakoError(f"the folder {folder} is not writable", where="archive")


def create_archive(container: Container, request: ArchiveRequest, progress: Progress) -> None:
    """Write the archive beside its place, and put it there when it is complete. Raises HakoError; then none is left."""
    path = container.files.rootfs.path
    check_target(request.target)
    if os.path.realpath(request.target).startswith(os.path.realpath(path) + "/"):
        raise HakoError(f"{request.target} lies in the rootfs that is to be packed", where="archive")
    compressor = _compressor(request.kind)
    lock = _hold(container)
    try:
        with UnnamedFile(request.target) as file:
            _pack(container, request, compressor, file.descriptor, progress)
            file.give_name()
    except OSError as error:
        raise HakoError(f"cannot write {request.target}: {error.strerror}", where="archive") from error
    finally:
        os.close(lock)


def measure(container: Container, request: ArchiveRequest, progress: Progress) -> int:
    """How many bytes the archive has before it is compressed; no file is read for that."""
    lock = _hold(container)
    null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
    try:
        said = _run_tar(container, request.replace(verbose=False), null, ["--totals"], progress)
    finally:
        os.close(null)
        os.close(lock)
    for line in said:
        if found := re.match(r"Total bytes written: (\d+)", line):
            return int(found[1])
    raise HakoError(f"tar did not tell the size: {quoted(said)}", where="archive")


def _hold(container: Container) -> int:
    """The lock of the rootfs. Raises HakoError if it is not complete, or in use."""
    mark = marks.read(container.files.rootfs.path)
    if mark is not None:
        must_be_provisioned(container, mark)
    return hold_rootfs(container.files.rootfs.path, container.files.rootfs.where)


def _compressor(kind: str) -> list[str]:
    if not COMPRESSIONS[kind]:
        return []
    for words in COMPRESSIONS[kind]:
        if shutil.which(words[0], path="/usr/local/bin:/usr/bin:/bin"):
            return [tar.find(words[0], ""), *words[1:]]
    program = COMPRESSIONS[kind][-1][0]
    raise HakoError(
        f"{program} is not installed", where="archive", hint=f"apt-get install {_PACKAGES.get(program, program)}"
    )


def _pack(container: Container, request: ArchiveRequest, compressor: list[str], file: int, progress: Progress) -> None:
    if not compressor:
        _run_tar(container, request, file, [], progress)
        return
    reader, writer = os.pipe2(os.O_CLOEXEC)
    tar.enlarge(writer)
    child = subprocess.Popen(
        tar.as_nobody(compressor), stdin=reader, stdout=file, stderr=subprocess.PIPE, cwd="/", env=environment()
    )
    os.close(reader)
    assert child.stderr is not None
    failure: HakoError | None = None
    try:
        _run_tar(container, request, writer, [], progress)
    except HakoError as error:
        failure = error  # the compressor may have failed: then it tells why
    except BaseException:
        child.kill()
        raise
    finally:
        os.close(writer)  # or the compressor would wait for more
        said = child.stderr.read().decode(errors="replace").strip()
        child.stderr.close()
        status = child.wait()
    program = os.path.basename(compressor[0])
    if status:
        raise HakoError(f"{program} failed with {how_it_ended(status)}", where="archive", hint=said)
    if failure is not None:
        raise failure


def _run_tar(
    container: Container, request: ArchiveRequest, output: int, more: list[str], progress: Progress
) -> list[str]:
    """Pack to a descriptor. Returns the last lines of what tar has said. Raises HakoError."""
    program = tar.find("tar", "tar")
    # Of the host's files, tar can read those that everybody may read (steps/files/root.py), and goes on.
    partly = container.files.rootfs.layered
    passing_over = ["--ignore-failed-read", "--warning=no-failed-read"] if partly else []
    words = [program, *_words(request), *passing_over, *more]
    reader, writer = os.pipe2(os.O_CLOEXEC)

    def make_words(tree: int) -> list[str]:
        devices = [f"--exclude={name}" for name in _devices(tree, partly)]
        return [*words, "--anchored", "--no-wildcards", *devices, "--", "."]

    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    pid = tar.start_tar(make_words, lambda: _open_tree(container), (null, output, writer), _NEEDED)
    os.close(null)
    os.close(writer)
    try:
        with progress.stage(f"packing {container.files.rootfs.path}") as stage:
            last = follow(reader, "tar", progress, stage)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(reader)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise HakoError(f"tar failed with {how_it_ended(status)}", where="archive", hint=quoted(last))
    return last


def _words(request: ArchiveRequest) -> list[str]:
    words = ["--create", "--file=-", f"--directory={tar.TARGET}", "--numeric-owner", "--sort=name", "--sparse"]
    words += ["--format=posix", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"]
    words += ["--acls", "--xattrs", "--xattrs-include=*"]
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is not None:
        if not epoch.isdecimal():
            raise HakoError(f"SOURCE_DATE_EPOCH must be a number of seconds, not {epoch!r}", where="archive")
        words += [f"--mtime=@{epoch}", "--clamp-mtime"]
    words += ["--verbose"] if request.verbose else []
    return [*words, *(f"--exclude={pattern}" for pattern in request.excluded), *request.options]


def _open_tree(container: Container) -> int:
    """What a container would see as its root, read-only, as a detached mount."""
    context = Context(supervisor=-1, status=-1, environ={})
    mark = marks.read(container.files.rootfs.path)
    root_of(container, container.files.rootfs.path, mark.layers if mark is not None else ()).apply(context)
    tree = mount.clone_tree("", at=context.root)
    mount.set_attributes(tree, mount.RDONLY)
    return tree


def _devices(tree: int, partly: bool) -> list[str]:
    """The device nodes of a tree: they have no effect in a rootfs, and extraction leaves them out.

    `partly`: some folders of it cannot be read, nor will tar.
    """
    words = ["find", ".", "-xdev", "(", "-type", "b", "-o", "-type", "c", ")", "-print0"]
    os.fchdir(tree)
    errors = subprocess.DEVNULL if partly else None
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environment(), check=not partly
    )
    os.chdir("/")
    found = [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]
    if found:
        os.write(2, f"left out {len(found)} device nodes\n".encode())
    return found
