"""Network namespaces with a name: what `ip netns` shows and executes in. `man 8 ip-netns`."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem import mount
from hakoniwa.kernel.processes import process

FOLDER = "/run/netns"


def path_of(name: str) -> str:
    """Where a network namespace of that name is kept."""
    return os.path.join(FOLDER, name)


def is_there(path: str) -> bool:
    """Whether a network namespace is kept at a path."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return process.kind_of(file) == "net"
    finally:
        os.close(file)


def keep(path: str, namespace: int, where: str = "") -> None:
    """Keep a network namespace, by a descriptor, at a path where nothing is. Raises HakoError, and then nothing is there."""
    try:
        _make_folder()
        file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o444)
    except FileExistsError:
        raise _is_somebody_s(path, where) from None
    except OSError as error:
        raise HakoError(f"cannot keep the network namespace {path}: {error.strerror}", where=where) from None
    try:
        mount.bind_file(f"/proc/self/fd/{namespace}", file)
    except OSError as error:
        os.unlink(path)
        raise HakoError(f"cannot keep the network namespace {path}: {error.strerror}", where=where) from None
    finally:
        os.close(file)


def must_be_free(path: str, where: str) -> None:
    """Raise HakoError if something is at a path: a namespace that somebody else has made is never used as it is."""
    if os.path.lexists(path):
        raise _is_somebody_s(path, where)


def _is_somebody_s(path: str, where: str) -> HakoError:
    name = os.path.basename(path)
    if not is_there(path):
        return HakoError(f"{path} is there already, and is no network namespace", where=where, hint=f"remove {path}")
    hint = f'ip netns delete {name} removes it; config.namespace.use_netns("{name}") enters it as it is'
    return HakoError(f"the network namespace {name!r} is there already", where=where, hint=hint)


def release(path: str) -> bool:
    """Let go of a network namespace; whether there was one. An empty file that was to have one goes, too. Raises OSError."""
    kept = is_there(path)
    if kept:
        mount.detach(path)
    try:
        if kept or os.lstat(path).st_size == 0:
            os.unlink(path)
    except FileNotFoundError:
        pass
    return kept


def _make_folder() -> None:
    """The folder, as `ip netns` makes it: a mount of its own that others see what is mounted in."""
    try:
        os.mkdir(FOLDER, 0o755)
    except FileExistsError:
        pass
    if not mount.share(FOLDER):
        tree = mount.clone_tree(FOLDER)
        folder = os.open(FOLDER, os.O_PATH | os.O_CLOEXEC)
        mount.attach(tree, folder)
        os.close(tree)
        os.close(folder)
        mount.share(FOLDER)
