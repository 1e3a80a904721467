"""Ports of the host that a supervisor keeps for its container, and who has one that is taken."""

from __future__ import annotations

import _socket
import os
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EMFILE

from hakoniwa.errors import HakoError
from hakoniwa.kernel.netlink.routes import address_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hakoniwa.spec.networks import Published

    Key = tuple[str, int, str]  # address, port, protocol

_SO_BINDTOIFINDEX, _NO_INTERFACE = 62, 0x7FFFFFFF
_ANY = ("", "0.0.0.0", "::")
_SUPERVISOR = "hako:"  # begins the name of the process (run/supervisor.py)


class Reservation:
    """A socket for each port: its descriptor, which a barn's process hands on to a supervisor and closes."""

    def __init__(self) -> None:
        self._held: dict[Key, int] = {}

    def take(self, published: Sequence[Published]) -> list[Key]:
        """Reserve what is not held yet, and tell which that is. Raises HakoError, and then nothing is reserved that was not before."""
        new: list[Key] = []
        try:
            for one in published:
                for port in range(one.first, one.first + one.count):
                    key = (one.host, port, one.protocol)
                    if key not in self._held:
                        self._held[key] = _reserve(*key, one.where)
                        new.append(key)
        except BaseException:
            self.drop(new)
            raise
        return new

    def drop(self, keys: Sequence[Key]) -> None:
        """Let go of some."""
        for key in keys:
            os.close(self._held.pop(key))

    def keep(self, published: Sequence[Published]) -> None:
        """Let go of all others."""
        kept = {(one.host, one.first + n, one.protocol) for one in published for n in range(one.count)}
        self.drop([key for key in self._held if key not in kept])

    def descriptors(self) -> list[int]:
        """Those of the sockets."""
        return [*self._held.values()]

    def close(self) -> None:
        """Let go of all."""
        self.drop([*self._held])


def _reserve(host: str, port: int, protocol: str, where: str) -> int:
    """A descriptor that has a port of the host to itself, on one address or on all ("": of IPv4 and IPv6). Raises HakoError."""
    told = f"cannot publish {words(host, port, protocol)}"
    try:
        return _bound(host, port, protocol).detach()
    except OSError as error:
        if error.errno == EADDRINUSE:
            raise _taken(host, port, protocol, where) from None
        if error.errno == EADDRNOTAVAIL:
            raise HakoError(f"{told}: no interface of the host has the address {host}", where=where) from None
        hint = "there are too many for the limit of open files: ulimit -n" if error.errno == EMFILE else ""
        if error.errno == EACCES:
            hint = "ports below net.ipv4.ip_unprivileged_port_start, 1024 unless set, take root"
        raise HakoError(f"{told}: {error.strerror}", where=where, hint=hint) from None


def _bound(host: str, port: int, protocol: str) -> _socket.socket:
    kind = _socket.SOCK_STREAM if protocol == "tcp" else _socket.SOCK_DGRAM
    family = _socket.AF_INET6 if not host or ":" in host else _socket.AF_INET
    try:
        found = _socket.socket(family, kind | _socket.SOCK_CLOEXEC)
    except OSError as error:
        if host or error.errno != EAFNOSUPPORT:
            raise
        host, found = "0.0.0.0", _socket.socket(_socket.AF_INET, kind | _socket.SOCK_CLOEXEC)  # a kernel without IPv6
    try:
        if found.family == _socket.AF_INET6:
            found.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1 if host else 0)
        if protocol == "tcp":
            # As servers do: what remains for a minute of closed connections (TIME_WAIT) is in nobody's way. Then only a socket that
            # listens has the port to itself (inet_csk_bind_conflict in net/ipv4/inet_connection_sock.c).
            found.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        found.bind((host or "::", port))
        if protocol == "tcp":
            found.listen(0)
        # Of an interface that is not there nothing arrives: what reaches the port in spite of the firewall, by ::1, is refused.
        found.setsockopt(_socket.SOL_SOCKET, _SO_BINDTOIFINDEX, _NO_INTERFACE)
    except BaseException:
        found.close()
        raise
    return found


def words(host: str, port: int, protocol: str) -> str:
    """A port in words."""
    at = f"[{host}]:" if ":" in host else f"{host}:" if host else ""
    return f"{at}{port}/{protocol}"


def _taken(host: str, port: int, protocol: str, where: str) -> HakoError:
    """Who has a port."""
    from hakoniwa.kernel import sockets
    from hakoniwa.network.publishing import owner_of

    told = f"the port {words(host, port, protocol)} of the host"
    owner = sockets.owner_of_port(port, protocol, b"" if host in _ANY else address_bytes(host)[1])
    if owner is None:
        hint = "end it, or publish another port"
        return HakoError(f"{told} is taken by a process that cannot be seen from here", where=where, hint=hint)
    if owner.name.startswith(_SUPERVISOR):
        container = owner_of(port, protocol) or owner.name.removeprefix(_SUPERVISOR)
        hint = f"hako kill -n {container}, or publish another port"
        return HakoError(f"{told} is published by the container {container!r}", where=where, hint=hint)
    hint = f"kill {owner.pid} ends it; or publish another port"
    return HakoError(f"{told} is taken by process {owner.pid}: {owner.command}", where=where, hint=hint)
