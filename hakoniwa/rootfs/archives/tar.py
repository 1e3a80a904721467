"""GNU tar on a tree that is not trusted: in a root of its own, with few capabilities; its compressor as nobody.

The root has the programs and libraries of the host, read-only, and the tree, on which tar is told to work; nothing else.
"""

from __future__ import annotations

import os
import shutil

import prctl

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem import mount
from hakoniwa.kernel.processes import idmap, process
from hakoniwa.kernel.processes.signals import SIGKILL
from hakoniwa.kernel.security import capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

TARGET = "/rootfs"  # where tar finds the tree
_NAMESPACES = sum(process.NAMESPACES[name] for name in ("mount", "pid", "net", "ipc", "uts"))
_SHOWN = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")  # what programs are made of (`man 7 file-hierarchy`)
_SEARCHED = "/usr/local/bin:/usr/bin:/bin"
_PIPE = 1 << 20
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ


def find(program: str, package: str) -> str:
    """The path of a program of the host. Raises HakoError that names the package."""
    path = shutil.which(program, path=_SEARCHED)
    if path is None:
        raise HakoError(f"{program} is not installed", hint=f"apt-get install {package}")
    return path


def as_nobody(words: list[str]) -> list[str]:
    """A command line that runs `words` without any privilege. Raises HakoError."""
    dropped = ["--bounding-set=-all", "--no-new-privs", "--", *words]
    setpriv = find("setpriv", "util-linux")
    if not idmap.is_host_root():
        return [setpriv, *dropped]  # `nobody` need not be mapped here
    return [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", *dropped]


def enlarge(pipe: int) -> None:
    """Let a pipe hold more."""
    import fcntl

    try:
        fcntl.fcntl(pipe, _SET_PIPE_SIZE, _PIPE)
    except OSError:
        pass  # more than this user may have (`man 7 pipe`)


def start_tar(
    make_words: Callable[[int], list[str]],
    open_tree: Callable[[], int],
    streams: tuple[int, int, int],
    needed: list[str],
) -> int:
    """GNU tar as a child, with these standard streams and at most these capabilities: its pid.

    `open_tree` gives the tree as a detached mount, once the mounts are private; `make_words` gets that.
    """
    pid, pidfd = process.clone(_NAMESPACES)
    if pid == 0:
        _become_tar(make_words, open_tree, streams, needed)
    os.close(pidfd)
    return pid


def _become_tar(
    make_words: Callable[[int], list[str]],
    open_tree: Callable[[], int],
    streams: tuple[int, int, int],
    needed: list[str],
) -> NoReturn:
    """In the child: enter the small root, give up what is not needed, execute tar. Errors go to its stderr."""
    try:
        for number, held in enumerate(streams):
            os.dup2(held, number)
        os.setsid()
        kept = capabilities.mask(needed) & capabilities.held()
        mount.make_all_private()
        tree = open_tree()
        words = make_words(tree)
        _enter_root(tree, words[0])
        process.close_all_but(set())
        capabilities.limit_bounding(kept)
        capabilities.set_sets(kept)
        prctl.set_no_new_privs(1)
        prctl.set_pdeathsig(SIGKILL)
        os.execve(words[0], words, {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
    except HakoError as error:
        os.write(2, error.message.encode())
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(1)


def _enter_root(target: int, program: str) -> None:
    """Make a root of what tar needs, and of the tree; nothing else of the host is mounted any more."""
    root = mount.make("tmpfs", "tar", ["mode=755", "size=64k"], mount.NOSUID | mount.NODEV)
    shown = {*_SHOWN, os.path.realpath(program).split("/")[1]}
    trees = [(name, _shown_tree(f"/{name}")) for name in sorted(shown) if os.path.lexists(f"/{name}")]
    mount.attach(root, os.open("/", os.O_PATH | os.O_CLOEXEC))
    for name, tree in [*trees, (TARGET.strip("/"), target)]:
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
