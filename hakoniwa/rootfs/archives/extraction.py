"""Extraction of an archive that is not trusted: GNU tar in a root of its own, fed through a pipe with checked headers.

The root has the programs and libraries of the host, read-only, and the folder to fill; nothing else. A decompressor runs
as nobody. Owners, modes, extended attributes and hard links are kept; device nodes are left out.
"""

from __future__ import annotations

import os
import signal
import subprocess

from hakoniwa.errors import HakoError
from hakoniwa.host.paths import open_outside
from hakoniwa.kernel.filesystem import mount
from hakoniwa.rootfs.archives import tar
from hakoniwa.rootfs.archives.checksum import HashedStream
from hakoniwa.rootfs.archives.headers import MemberFilter
from hakoniwa.rootfs.tools.environment import environment
from hakoniwa.rootfs.tools.programs import how_it_ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.rootfs.tools.progress import Stage

# First bytes, program, Debian's package.
_COMPRESSIONS = (
    (b"\x1f\x8b", "gzip", "gzip"),
    (b"BZh", "bzip2", "bzip2"),
    (b"\xfd7zXZ\0", "xz", "xz-utils"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd"),
)
# tar gives files owners, modes and file capabilities, and writes to folders of other owners.
_NEEDED = ["cap_chown", "cap_dac_override", "cap_fowner", "cap_fsetid", "cap_setfcap"]


class ContentChanged(HakoError):
    """What was unpacked is not what was asked for."""


def extract(archive: str, folder: str, options: tuple[str, ...], stage: Stage, *, sha256: str | None) -> MemberFilter:
    """Unpack a tar archive (gzip, bzip2, xz, zstd or plain) into a folder. Raises HakoError or OSError.

    `sha256`: what was unpacked must have it. It may have been looked at before; what counts is what has been read now.
    """
    words = [tar.find("tar", "tar"), "--extract", "--file=-", f"--directory={tar.TARGET}", "--numeric-owner"]
    words += ["--same-owner", "--same-permissions", "--acls", "--xattrs", "--xattrs-include=*"]
    words += ["--delay-directory-restore", *options]
    file = open_outside(archive, os.O_RDONLY)
    hashed = HashedStream(file) if sha256 is not None else None
    try:
        members = _extract(words, file, hashed, folder, stage)
    except BaseException:
        if hashed is not None:
            hashed.end(kill=True)
        raise
    finally:
        os.close(file)
    if hashed is not None and (found := hashed.end()) != sha256:
        told = f"it was changed in the meantime: its SHA-256 was {found or 'not to be had'}, and not {sha256}"
        raise ContentChanged(told, hint="try again, once nobody writes to it")
    return members


def _extract(words: list[str], file: int, hashed: HashedStream | None, folder: str, stage: Stage) -> MemberFilter:
    stream, decompressor, program = _open(file, hashed)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    said_reader, said_writer = os.pipe2(os.O_CLOEXEC)
    tar.enlarge(writer)
    streams = (reader, said_writer, said_writer)
    pid = tar.start_tar(lambda _: words, lambda: mount.clone_tree(folder, recursive=False), streams, _NEEDED)
    os.close(reader)
    os.close(said_writer)
    members = MemberFilter(stream, writer, most_bytes=_free_bytes(folder))
    members.on_member = lambda: stage.advance(os.lseek(file, 0, os.SEEK_CUR) - stage.done)
    failure: BaseException | None = None
    try:
        _pass(members)
    except BrokenPipeError:
        pass  # tar has ended, and tells why
    except BaseException as error:  # raised below, once nothing writes into the folder any more
        failure = error
        os.kill(pid, signal.SIGKILL)
    finally:
        os.close(writer)
        os.close(stream)
    said = _read_all(said_reader)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    _end(decompressor, program, failure)
    if failure is not None:
        raise failure
    if status:
        raise HakoError(f"tar failed with {how_it_ended(status)}", hint=said)
    return members


def _pass(members: MemberFilter) -> None:
    """Pass the archive on. A reader that has gone raises an exception, and does not end this process."""
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        members.run()
    finally:
        signal.signal(signal.SIGPIPE, before)


def _open(file: int, hashed: HashedStream | None) -> tuple[int, subprocess.Popen[bytes], str]:
    """The archive as a pipe of plain tar, the process that decompresses it, and its program."""
    first = os.pread(file, 8, 0)
    source = hashed.stream if hashed is not None else file
    words = ["cat"]
    for magic, program, package in _COMPRESSIONS:
        if first.startswith(magic):
            words = [tar.find(program, package), "-dc"]
    child = subprocess.Popen(
        tar.as_nobody(words), stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", env=environment()
    )
    if hashed is not None:
        os.close(hashed.stream)
    assert child.stdout is not None
    stream = os.dup(child.stdout.fileno())
    child.stdout.close()
    tar.enlarge(stream)
    return stream, child, os.path.basename(words[0])


def _end(decompressor: subprocess.Popen[bytes], program: str, failure: BaseException | None) -> None:
    """Reap the decompressor. Raises HakoError if it has failed by itself: a broken pipe is our own stopping early."""
    assert decompressor.stderr is not None
    said = decompressor.stderr.read().decode(errors="replace").strip()
    decompressor.stderr.close()
    status = decompressor.wait()
    if status not in (0, -signal.SIGPIPE) and "roken pipe" not in said:
        raise HakoError(f"the archive is corrupt: {program} failed with {status}", hint=said) from failure


def _free_bytes(folder: str) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _read_all(pipe: int) -> str:
    """What tar has said, its last lines."""
    said = b""
    while more := os.read(pipe, 65536):
        said = (said + more)[-4096:]
    os.close(pipe)
    return "; ".join(said.decode(errors="replace").strip().splitlines()[-3:])
