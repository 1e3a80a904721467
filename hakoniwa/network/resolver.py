"""/etc/resolv.conf of a container: the host's, as far as it means something inside, or what the file says instead.

It is made when the container starts, and again when it is reloaded: what the host's file says later, a container that runs does
not follow by itself. `man 5 resolv.conf`.
"""

from __future__ import annotations

import os
import stat
from _socket import AF_INET, AF_INET6, inet_pton

from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

HOST_S = "/etc/resolv.conf"
# What is behind a resolver that listens on the host's loopback alone: of systemd-resolved, of NetworkManager's dnsmasq, and of
# dnsmasq with resolvconf.
BEHIND = (
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/no-stub-resolv.conf",
    "/run/dnsmasq/resolv.conf",
)
_LARGEST = 1 << 16  # bytes of a file, of which more is not read
_MOST_SERVERS = 3  # MAXNS, the C library asks no others
_MOST_WORDS = 32  # of a line


class Resolver(Record):
    """What a resolv.conf says. `lacks` tells why it names no server, if it names none."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    lacks: str = ""

    def text(self) -> str:
        """The file."""
        lines = [f"nameserver {address}" for address in self.servers]
        lines += [f"search {' '.join(self.search)}"] if self.search else []
        lines += [f"options {' '.join(self.options)}"] if self.options else []
        return "".join(f"{line}\n" for line in ("# made by hakoniwa", *lines))


def resolver_of(
    servers: Sequence[str],
    search: Sequence[str],
    options: Sequence[str],
    host_file: str = HOST_S,
    behind: Sequence[str] = BEHIND,
) -> Resolver:
    """What is given, and of the host's for the rest. Whoever names servers takes none of the host's options, which are about others."""
    host = Resolver() if servers and search and options else _host_s(host_file, behind)
    return Resolver(
        servers=tuple(servers) or host.servers,
        search=tuple(search) or host.search,
        options=tuple(options) or (() if servers else host.options),
        lacks="" if servers else host.lacks,
    )


def _host_s(path: str, behind: Sequence[str]) -> Resolver:
    """The host's resolver as it can be reached from another network namespace."""
    host = _read(path)
    if host is None:
        return Resolver(lacks=f"{path} is not there, or no regular file")
    reached = _reachable(host.servers)
    if reached != host.servers:  # the loopback's comes first, and knows what the others do not
        for other in behind:
            found = _read(other)
            if found is not None and (servers := _reachable(found.servers)):
                search = found.search or host.search
                return found.replace(servers=servers, search=search)
    if reached:
        return host.replace(servers=reached)
    if not host.servers:
        return host.replace(lacks=f"{path} names no server")
    told = (
        f"{path} names {host.servers[0]} alone, which the container cannot reach, and no file tells what is behind it"
    )
    return host.replace(servers=(), lacks=told)


def _reachable(servers: Sequence[str]) -> tuple[str, ...]:
    return tuple(address for address in servers if not _is_of_the_host_alone(address))


def _is_of_the_host_alone(address: str) -> bool:
    """Whether an address means something else in another network namespace: loopback, "this host", of one link."""
    if ":" not in address:
        return address.startswith(("127.", "0."))
    packed = inet_pton(AF_INET6, address)
    in_ipv4 = packed[:12] == bytes(10) + b"\xff\xff"
    of_a_link = packed[0] == 0xFE and packed[1] & 0xC0 == 0x80
    return of_a_link or (packed[:15] == bytes(15) and packed[15] <= 1) or (in_ipv4 and packed[12] in (0, 127))


def _read(path: str) -> Resolver | None:
    """What a file says; None if there is no such file. Lines that are not understood are passed over, as the C library does."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        content = os.read(file, _LARGEST)
    except OSError:
        return None
    finally:
        os.close(file)
    return parse(content.decode(errors="replace"))


def parse(text: str) -> Resolver:
    """What the text of a resolv.conf says."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.split("\n"):
        if line[:1] in ("#", ";"):
            continue
        key, *words = line.split()[:_MOST_WORDS] or [""]
        if key == "nameserver" and words and len(servers) < _MOST_SERVERS and is_address(words[0].partition("%")[0]):
            servers.append(words[0].partition("%")[0])  # what is of one link goes by its address anyway
        elif key == "search":
            search = tuple(word for word in words if is_plain(word))
        elif key == "domain":
            search = tuple(word for word in words[:1] if is_plain(word))
        elif key == "options":
            options += [word for word in words if is_plain(word)][: _MOST_WORDS - len(options)]
    return Resolver(servers=tuple(servers), search=search, options=tuple(options))


def is_address(word: str) -> bool:
    """Whether it is an address of IPv4 or IPv6 in its usual form."""
    try:
        inet_pton(AF_INET6 if ":" in word else AF_INET, word)
    except (OSError, ValueError):
        return False
    return True


def is_plain(word: str) -> bool:
    """Whether a word of the file is made of what domains and options are made of."""
    return all(c.isascii() and (c.isalnum() or c in "._-:~") for c in word) and len(word) <= 255
