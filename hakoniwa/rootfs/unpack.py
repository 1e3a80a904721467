"""Unpack an archive that is not trusted: GNU tar in a root of its own, fed through a pipe with checked headers.

The root has the programs and libraries of the host, read-only, and the folder to fill; nothing else. A decompressor runs
as nobody. Owners, modes, extended attributes and hard links are kept; device nodes are left out.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

from hakoniwa.errors import HakoError
from hakoniwa.kernel import capabilities, idmap, mount, prctl, process
from hakoniwa.rootfs.headers import Passing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# First bytes, program, Debian's package.
_COMPRESSIONS = (
    (b"\x1f\x8b", "gzip", "gzip"),
    (b"BZh", "bzip2", "bzip2"),
    (b"\xfd7zXZ\0", "xz", "xz-utils"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd"),
)
_SHOWN = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")  # what programs are made of (`man 7 file-hierarchy`)
_TARGET = "rootfs"
# tar gives files owners, modes and file capabilities, and writes to folders of other owners.
_NEEDED = ["cap_chown", "cap_dac_override", "cap_fowner", "cap_fsetid", "cap_setfcap"]
_PIPE = 1 << 20
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ


def unpack(archive: str, folder: str, options: tuple[str, ...]) -> Passing:
    """Unpack a tar archive (gzip, bzip2, xz, zstd or plain) into a folder. Raises HakoError or OSError."""
    tar = _find("tar", "tar")
    stream, decompressor, program = _open(archive)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    said_reader, said_writer = os.pipe2(os.O_CLOEXEC)
    _enlarge(writer)
    words = [tar, "--extract", "--file=-", f"--directory=/{_TARGET}", "--numeric-owner", "--same-owner"]
    words += ["--same-permissions", "--xattrs", "--xattrs-include=*", "--delay-directory-restore", *options]
    pid, pidfd = process.clone(sum(process.NAMESPACES[name] for name in ("mount", "pid", "net", "ipc", "uts")))
    if pid == 0:
        _become_tar(words, folder, reader, said_writer)
    for descriptor in (reader, said_writer, pidfd):
        os.close(descriptor)
    passing = Passing(stream, writer, most_bytes=_free_bytes(folder))
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


def _find(program: str, package: str) -> str:
    path = shutil.which(program, path="/usr/local/bin:/usr/bin:/bin")
    if path is None:
        raise HakoError(f"{program} is not installed", hint=f"apt-get install {package}")
    return path


def _open(archive: str) -> tuple[int, subprocess.Popen[bytes], str]:
    """The archive as a pipe of plain tar, the process that decompresses it, and its program."""
    file = os.open(archive, os.O_RDONLY | os.O_CLOEXEC)
    first = os.pread(file, 8, 0)
    words = ["cat"]
    for magic, program, package in _COMPRESSIONS:
        if first.startswith(magic):
            words = [_find(program, package), "-dc"]
    prefix = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all",
        "--no-new-privs",
        "--",
    ]
    if not idmap.is_host_root():
        prefix = ["setpriv", "--bounding-set=-all", "--no-new-privs", "--"]  # nobody may not be mapped
    try:
        child = subprocess.Popen([*prefix, *words], stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/")
    except FileNotFoundError:
        raise HakoError("setpriv is not installed", hint="apt-get install util-linux") from None
    finally:
        os.close(file)
    assert child.stdout is not None
    stream = os.dup(child.stdout.fileno())
    child.stdout.close()
    _enlarge(stream)
    return stream, child, os.path.basename(words[0])


def _end(decompressor: subprocess.Popen[bytes], program: str, failure: BaseException | None) -> None:
    """Reap the decompressor. Raises HakoError where it is what has failed: a broken pipe is our own stopping early."""
    assert decompressor.stderr is not None
    said = decompressor.stderr.read().decode(errors="replace").strip()
    decompressor.stderr.close()
    status = decompressor.wait()
    if status not in (0, -signal.SIGPIPE) and "roken pipe" not in said:
        raise HakoError(f"the archive is corrupt: {program} failed with {status}", hint=said) from failure


def _enlarge(pipe: int) -> None:
    import fcntl

    try:
        fcntl.fcntl(pipe, _SET_PIPE_SIZE, _PIPE)
    except OSError:
        pass  # above what this user may have (`man 7 pipe`)


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


def _become_tar(words: list[str], folder: str, archive: int, said: int) -> NoReturn:
    """In the child: enter the small root, give up what is not needed, execute tar."""
    try:
        os.dup2(archive, 0)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.setsid()
        kept = capabilities.mask(_NEEDED) & capabilities.held()
        _enter_root(folder, words[0])
        process.close_all_but(set())
        capabilities.limit_bounding(kept)
        capabilities.set_sets(kept)
        prctl.forbid_new_privileges()
        prctl.die_with_parent()
        os.execve(words[0], words, {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(1)


def _enter_root(folder: str, program: str) -> None:
    """Make a root of what tar needs, and of the folder; nothing else of the host is mounted any more."""
    mount.make_all_private()
    target = mount.clone_tree(folder, recursive=False)
    root = mount.make("tmpfs", "unpack", ["mode=755", "size=64k"], mount.NOSUID | mount.NODEV)
    shown = {*_SHOWN, os.path.realpath(program).split("/")[1]}
    trees = [(name, _shown_tree(f"/{name}")) for name in sorted(shown) if os.path.lexists(f"/{name}")]
    mount.attach(root, os.open("/", os.O_PATH | os.O_CLOEXEC))
    for name, tree in [*trees, (_TARGET, target)]:
        if isinstance(tree, str):
            os.symlink(tree, name, dir_fd=root)
            continue
        os.mkdir(name, 0o755, dir_fd=root)
        mount.attach(tree, os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=root))
    os.fchdir(root)
    mount.set_attributes(root, mount.RDONLY, recursive=False)
    mount.pivot_root_here()
    os.chdir("/")


def _shown_tree(path: str) -> int | str:
    """A folder of the host as a read-only tree, or where a symlink leads."""
    if os.path.islink(path):
        return os.readlink(path)
    tree = mount.clone_tree(path)
    mount.set_attributes(tree, mount.RDONLY | mount.NOSUID | mount.NODEV)
    return tree
