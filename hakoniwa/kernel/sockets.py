"""Who listens, in another network namespace (/proc/PID/net shows that of the process, `man 5 proc_pid_net`); and who has connected."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

_LISTEN = "0A"  # TCP_LISTEN, include/net/tcp_states.h


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


def is_ours(connection: _socket.socket) -> bool:
    """Whether the other side is root or this user, as the kernel says. `man 7 unix`, SO_PEERCRED."""
    import _socket

    credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], "little") in (0, os.geteuid())
