"""The program that writes rules of nftables: `nft -f`, in one transaction, in any network namespace. `man 8 nft`."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes import process

# Where distributions have it. Not $PATH: what is executed here has the rights of whoever starts the container.
_PLACES = ("/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft", "/usr/bin/nft")
_ENVIRON = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_MOST = 4000  # bytes that are told of what it says


def run(rules: str, namespace: int = -1, *, what: str, where: str = "") -> None:
    """Have nft carry out `rules`, all or nothing, in the network namespace that a descriptor refers to (-1: in our own).

    Nothing is forked, so that it can be called beside threads: this thread alone enters the namespace, and the program that
    it spawns is born there. Raises HakoError, in which `what` completes "cannot ...".
    """
    program = must_be_there(what, where)
    given, said = os.memfd_create("rules", os.MFD_CLOEXEC), os.memfd_create("said", os.MFD_CLOEXEC)
    try:
        with open(given, "wb", closefd=False) as file:
            file.write(rules.encode())
        os.lseek(given, 0, 0)  # SEEK_SET, which posix does not name
        actions = [(os.POSIX_SPAWN_DUP2, given, 0), *((os.POSIX_SPAWN_DUP2, said, number) for number in (1, 2))]
        try:
            pid = _spawn_in(namespace, program, ["nft", "-f", "-"], actions)
        except OSError as error:
            raise HakoError(f"cannot {what}: {program}: {error.strerror}", where=where) from None
        _, status = os.waitpid(pid, 0)
        if status:
            told = os.pread(said, _MOST, 0).decode(errors="replace")
            raise _refused(what, where, os.waitstatus_to_exitcode(status), told)
    finally:
        os.close(given)
        os.close(said)


def must_be_there(what: str, where: str = "") -> str:
    """Where nft is. Raises HakoError if it is not installed."""
    for path in _PLACES:
        if os.access(path, os.X_OK):
            return path
    raise HakoError(f"cannot {what}: nft is not installed", where=where, hint="apt-get install nftables")


def _spawn_in(namespace: int, program: str, argv: list[str], actions: list[tuple[int, int, int]]) -> int:
    """The pid of a program that is born in a network namespace. This thread is in its own again when this returns."""
    if namespace == -1:
        return os.posix_spawn(program, argv, _ENVIRON, file_actions=actions)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        process.join(namespace, process.NAMESPACES["net"])
        try:
            return os.posix_spawn(program, argv, _ENVIRON, file_actions=actions)
        finally:
            process.join(own, process.NAMESPACES["net"])
    finally:
        os.close(own)


def _refused(what: str, where: str, status: int, told: str) -> HakoError:
    """Why nft has failed: the first line that it has written, which is followed by what it was given."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    reason = lines[0] if lines else f"nft ended with {status}"
    hint = ""
    if "Operation not supported" in told or "Protocol not supported" in told:
        hint = "this kernel lacks nftables, or a part of it: CONFIG_NF_TABLES, CONFIG_NFT_CT, CONFIG_NFT_FIB"
    elif "Operation not permitted" in told:
        hint = "that takes cap_net_admin"
    return HakoError(f"cannot {what}: {reason}", where=where, hint=hint)
