"""Who listens, in another network namespace (/proc/PID/net shows that of the process, `man 5 proc_pid_net`), or has a port of this
one; and who has connected.
"""

from __future__ import annotations

import os
import sys

from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

_LISTEN = "0A"  # TCP_LISTEN, include/net/tcp_states.h
_LONGEST_COMMAND = 200  # characters of it that are told


def listens(pid: int, port: int) -> bool:
    """Whether something listens on a TCP port, over IPv4 or IPv6, in the network namespace of a process."""
    for table in ("tcp", "tcp6"):
        try:
            with open(f"/proc/{pid}/net/{table}") as file:
                for line in file.readlines()[1:]:
                    _, local, _, state = line.split()[:4]
                    if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
                        return True
        except FileNotFoundError:
            continue  # the process has ended, or the kernel has no IPv6
    return False


class Owner(Record):
    """A process that has a port."""

    pid: int
    name: str  # as `ps -o comm` shows it
    command: str


def owner_of_port(port: int, protocol: str, host: bytes = b"") -> Owner | None:
    """A process that has a port ("tcp", "udp") of this network namespace, on the address `host` or on any; None if none is seen."""
    words = [host[at : at + 4] for at in range(0, len(host), 4)]
    wanted = "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
    links = set()
    for table in (protocol, f"{protocol}6"):
        try:
            with open(f"/proc/self/net/{table}") as file:
                lines = [line.split() for line in file.readlines()[1:]]
        except FileNotFoundError:
            continue  # no IPv6
        for line in lines:
            address, _, number = line[1].rpartition(":")
            if int(number, 16) == port and (not wanted or address == wanted or not address.strip("0")):
                links.add(f"socket:[{line[9]}]")
    return _holder(links - {"socket:[0]"}) if links else None


def _holder(links: set[str]) -> Owner | None:
    """A process that has one of these files open."""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        folder = f"/proc/{pid}/fd"
        try:
            if not any(os.readlink(f"{folder}/{entry}") in links for entry in os.listdir(folder)):
                continue
            with open(f"/proc/{pid}/comm", errors="replace") as file:
                name = file.read().strip()
            with open(f"/proc/{pid}/cmdline", errors="replace") as file:
                command = " ".join(file.read(_LONGEST_COMMAND).split("\0")).strip()
        except OSError:
            continue  # it has ended, or is somebody else's
        return Owner(pid=int(pid), name=name, command=command or name)
    return None


def is_ours(connection: _socket.socket) -> bool:
    """Whether the other side is root or this user, as the kernel says. `man 7 unix`, SO_PEERCRED."""
    import _socket

    credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], "little") in (0, os.geteuid())
