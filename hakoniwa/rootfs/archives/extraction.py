"""Unpack an archive that is not trusted: GNU tar in a root of its own, fed through a pipe with checked headers.

The root has the programs and libraries of the host, read-only, and the folder to fill; nothing else. A decompressor runs
as nobody. Owners, modes, extended attributes and hard links are kept; device nodes are left out.
"""

from __future__ import annotations

import os
import signal
import subprocess

from hakoniwa.errors import HakoError
from hakoniwa.hostpaths import open_outside
from hakoniwa.kernel import mount, process
from hakoniwa.rootfs.archives import tar
from hakoniwa.rootfs.archives.checksum import Passed
from hakoniwa.rootfs.archives.headers import Passing
from hakoniwa.rootfs.tools.environment import environment

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


class Changed(HakoError):
    """What was unpacked is not what was asked for."""


def unpack(archive: str, folder: str, options: tuple[str, ...], stage: Stage, *, sha256: str | None) -> Passing:
    """Unpack a tar archive (gzip, bzip2, xz, zstd or plain) into a folder. Raises HakoError or OSError.

    `sha256`: what was unpacked must have it. It may have been looked at before; what counts is what has been read now.
    """
    words = [tar.find("tar", "tar"), "--extract", "--file=-", f"--directory={tar.TARGET}", "--numeric-owner"]
    words += ["--same-owner", "--same-permissions", "--acls", "--xattrs", "--xattrs-include=*"]
    words += ["--delay-directory-restore", *options]
    file = open_outside(archive, os.O_RDONLY)
    passed = Passed(file) if sha256 is not None else None
    try:
        passing = _unpack(words, file, passed, folder, stage)
    except BaseException:
        if passed is not None:
            passed.end(kill=True)
        raise
    finally:
        os.close(file)
    if passed is not None and (found := passed.end()) != sha256:
        told = f"it was changed in the meantime: its SHA-256 was {found or 'not to be had'}, and not {sha256}"
        raise Changed(told, hint="try again, once nobody writes to it")
    return passing


def _unpack(words: list[str], file: int, passed: Passed | None, folder: str, stage: Stage) -> Passing:
    stream, decompressor, program = _open(file, passed)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    said_reader, said_writer = os.pipe2(os.O_CLOEXEC)
    tar.enlarge(writer)
    pid, pidfd = process.clone(tar.NAMESPACES)
    if pid == 0:
        streams = (reader, said_writer, said_writer)
        tar.become_tar(lambda _: words, lambda: mount.clone_tree(folder, recursive=False), streams, _NEEDED)
    for descriptor in (reader, said_writer, pidfd):
        os.close(descriptor)
    passing = Passing(stream, writer, most_bytes=_free_bytes(folder))
    passing.on_member = lambda: stage.advance(os.lseek(file, 0, os.SEEK_CUR) - stage.done)
    failure: BaseException | None = None
    try:
        _pass(passing)
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
        raise HakoError(f"tar failed with {f'exit status {status}' if status > 0 else f'signal {-status}'}", hint=said)
    return passing


def _pass(passing: Passing) -> None:
    """Pass the archive on; a reader that has gone is an exception and not our end."""
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        passing.run()
    finally:
        signal.signal(signal.SIGPIPE, before)


def _open(file: int, passed: Passed | None) -> tuple[int, subprocess.Popen[bytes], str]:
    """The archive as a pipe of plain tar, the process that decompresses it, and its program."""
    first = os.pread(file, 8, 0)
    source = passed.stream if passed is not None else file
    words = ["cat"]
    for magic, program, package in _COMPRESSIONS:
        if first.startswith(magic):
            words = [tar.find(program, package), "-dc"]
    child = subprocess.Popen(
        tar.as_nobody(words), stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", env=environment()
    )
    if passed is not None:
        os.close(passed.stream)
    assert child.stdout is not None
    stream = os.dup(child.stdout.fileno())
    child.stdout.close()
    tar.enlarge(stream)
    return stream, child, os.path.basename(words[0])


def _end(decompressor: subprocess.Popen[bytes], program: str, failure: BaseException | None) -> None:
    """Reap the decompressor. Raises HakoError where it is what has failed: a broken pipe is our own stopping early."""
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
