"""Links, addresses and routes of a network namespace, by rtnetlink. `man 7 rtnetlink`."""

from __future__ import annotations

import _socket
from _struct import pack, unpack_from

from hakoniwa.kernel.netlink import messages
from hakoniwa.kernel.netlink.messages import ACK, CREATE, EXCLUSIVE, Refused, attribute, nested, number, text
from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Wanted = tuple[int, int, bytes]

IPV4, IPV6 = _socket.AF_INET, _socket.AF_INET6
HAIRPIN, ISOLATED = 4, 33  # IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED, linux/if_link.h

_NEW_LINK, _DELETE_LINK, _GET_LINK = 16, 17, 18
_NEW_ADDRESS, _DELETE_ADDRESS, _GET_ADDRESS = 20, 21, 22
_NEW_ROUTE, _GET_ROUTE = 24, 26
_UP = 0x1  # IFF_UP
# Attributes of a link (IFLA_…), linux/if_link.h
_MAC, _NAME, _MTU, _MASTER, _LINK_INFO, _ALIAS, _EXTENDED, _PEER_NAMESPACE = 1, 3, 4, 10, 18, 20, 29, 28
_KIND, _DATA, _PORT_KIND, _PORT_DATA = 1, 2, 4, 5
_VETH_PEER = 1
_FORWARD_DELAY, _STP = 1, 5  # of a bridge
_PARENT, _MACVLAN_MODE = 5, 1
# Attributes of an address (IFA_…) and of a route (RTA_…)
_ADDRESS, _LOCAL, _BROADCAST, _FLAGS, _NO_DAD = 1, 2, 4, 8, 0x2
_DESTINATION, _OUT, _GATEWAY, _PRIORITY = 1, 4, 5, 6
_MAIN, _BOOT, _UNICAST, _LINK_SCOPE = 254, 3, 1, 253


class Link(Record):
    """An interface as the kernel tells it."""

    index: int
    name: str
    kind: str = ""  # "bridge", "veth" …; "" of a device
    master: int = 0  # the index of the bridge that it is a port of
    mtu: int = 0
    mac: str = ""
    alias: str = ""
    up: bool = False


class Address(Record):
    """An address of an interface."""

    index: int
    family: int
    value: bytes  # as inet_pton has it
    length: int  # of the network's prefix, in bits


class Route(Record):
    """A route; one with `length` 0 is the default."""

    family: int
    destination: bytes
    length: int
    index: int
    gateway: bytes
    table: int
    priority: int


class Veth(Record):
    """A pair of interfaces, one end of which lies in another network namespace from its first moment."""

    name: str
    master: int = 0
    peer: str
    namespace: int  # a descriptor of the peer's namespace
    mtu: int = 0  # 0: as the kernel has it
    mac: str = ""  # of the peer
    alias: str = ""  # of our end
    isolated: bool = False


class Links:
    """The links of the namespace that a socket belongs to. What the kernel refuses is raised as Refused, an OSError."""

    def __init__(self, channel: _socket.socket) -> None:
        self.channel = channel

    def close(self) -> None:
        """Let go of the socket."""
        self.channel.close()

    # Links

    def add_bridge(self, name: str, *, mtu: int = 0, mac: str = "", alias: str = "") -> None:
        """Make a bridge that is up and forwards at once. EEXIST if there is a link of that name."""
        data = nested(_DATA, number(_STP, 0), number(_FORWARD_DELAY, 0))
        parts = [text(_NAME, name), nested(_LINK_INFO, attribute(_KIND, b"bridge"), data)]
        parts += [number(_MTU, mtu)] if mtu else []
        parts += [attribute(_MAC, mac_bytes(mac))] if mac else []
        self._make_link(_link(up=True) + b"".join(parts), name, alias, b"")

    def add_veth(self, pair: Veth) -> None:
        """Make a pair, our end of which is up and a port of the bridge `master`. EEXIST if there is a link of that name.

        The peer is still down, since it cannot be up before it has a peer itself.
        """
        peer = [_link(), text(_NAME, pair.peer), number(_PEER_NAMESPACE, pair.namespace)]
        peer += [attribute(_MAC, mac_bytes(pair.mac))] if pair.mac else []
        parts = [text(_NAME, pair.name)]
        if pair.mtu:
            peer.append(number(_MTU, pair.mtu))
            parts.append(number(_MTU, pair.mtu))
        data = nested(_DATA, nested(_VETH_PEER, *peer))
        parts.append(nested(_LINK_INFO, attribute(_KIND, b"veth"), data))
        port = b""
        if pair.master:
            parts.append(number(_MASTER, pair.master))
            # A frame may leave by the port that it came from: so a container reaches its own published ports.
            flags = [attribute(HAIRPIN, b"\1"), *([attribute(ISOLATED, b"\1")] if pair.isolated else [])]
            port = nested(_LINK_INFO, attribute(_PORT_KIND, b"bridge"), nested(_PORT_DATA, *flags))
        self._make_link(_link(up=True) + b"".join(parts), pair.name, pair.alias, port)

    def add_macvlan(self, name: str, parent: int, mode: int, namespace: int, *, mtu: int = 0, mac: str = "") -> None:
        """Make a macvlan of one of our links, by its index, in the namespace of a descriptor. EEXIST if there is a link of that name."""
        data = nested(_DATA, number(_MACVLAN_MODE, mode))
        parts = [text(_NAME, name), number(_PARENT, parent), number(_PEER_NAMESPACE, namespace)]
        parts += [number(_MTU, mtu)] if mtu else []
        parts += [attribute(_MAC, mac_bytes(mac))] if mac else []
        parts.append(nested(_LINK_INFO, attribute(_KIND, b"macvlan"), data))
        messages.request(self.channel, _NEW_LINK, CREATE | EXCLUSIVE, _link() + b"".join(parts))

    def _make_link(self, body: bytes, name: str, alias: str, more: bytes) -> None:
        """Make a link, and give it what cannot be given at once. If that fails, the link is gone again.

        Not in one datagram: the second message would be done, to the link of somebody else's, if that has the name already.
        """
        messages.request(self.channel, _NEW_LINK, CREATE | EXCLUSIVE, body)
        if not alias and not more:
            return
        try:
            said = text(_ALIAS, alias[:255]) if alias else b""
            messages.request(self.channel, _NEW_LINK, 0, _link() + text(_NAME, name) + said + more)
        except Refused:
            self.delete(name)
            raise

    def set(
        self,
        link: str | int,
        *,
        up: bool | None = None,
        mtu: int = 0,
        mac: str = "",
        master: int | None = None,
        name: str = "",
        alias: str | None = None,
        namespace: int = -1,
    ) -> None:
        """Change a link, by its name or index. A `name` needs the index, and a link that is down."""
        parts = [text(_NAME, link)] if isinstance(link, str) else [text(_NAME, name)] if name else []
        parts += [number(_MTU, mtu)] if mtu else []
        parts += [attribute(_MAC, mac_bytes(mac))] if mac else []
        parts += [number(_MASTER, master)] if master is not None else []
        parts += [text(_ALIAS, alias[:255])] if alias is not None else []
        parts += [number(_PEER_NAMESPACE, namespace)] if namespace != -1 else []
        index = link if isinstance(link, int) else 0
        flags, mask = (_UP if up else 0), (0 if up is None else _UP)
        messages.request(self.channel, _NEW_LINK, 0, pack("BxHiII", 0, 0, index, flags, mask) + b"".join(parts))

    def find(self, link: str | int) -> Link | None:
        """A link by its name or index, None if there is none."""
        index = link if isinstance(link, int) else 0
        named = text(_NAME, link) if isinstance(link, str) else b""
        try:
            # Without the counters of virtual functions and the like: RTEXT_FILTER_SKIP_STATS
            answer = messages.get(self.channel, _GET_LINK, _link(index) + named + number(_EXTENDED, 8))
        except Refused as refused:
            if refused.errno in (19, 2):  # ENODEV, ENOENT
                return None
            raise
        return _read_link(answer)

    def every(self) -> list[Link]:
        """All links."""
        return [_read_link(body) for body in messages.dump(self.channel, _GET_LINK, _link() + number(_EXTENDED, 8))]

    def delete(self, link: str | int) -> None:
        """Remove a link; of a pair, both. ENODEV if there is none."""
        index = link if isinstance(link, int) else 0
        named = text(_NAME, link) if isinstance(link, str) else b""
        messages.request(self.channel, _DELETE_LINK, 0, _link(index) + named)

    # Addresses and routes

    def set_up(self, index: int, addresses: Sequence[tuple[str, int]], gateways: Sequence[str]) -> None:
        """Bring a link up with these addresses, each with the bits of its network, and default routes through it."""
        body = _link(index, up=True)
        wanted = [(_NEW_LINK, ACK, body), *(_new_address(index, address, length) for address, length in addresses)]
        messages.transact(self.channel, [*wanted, *(_new_route(index, gateway) for gateway in gateways)])

    def add_address(self, index: int, address: str, length: int) -> None:
        """Give a link an address. One of IPv6 is usable at once: nobody is asked whether it is taken (`nodad`)."""
        messages.transact(self.channel, [_new_address(index, address, length)])

    def addresses(self, index: int = 0, *, family: int = 0) -> list[Address]:
        """The addresses of a link, or of all; without those that each link of IPv6 has by itself."""
        found = []
        for body in messages.dump(self.channel, _GET_ADDRESS, pack("BBBBI", family, 0, 0, 0, index)):
            kin, length, _, scope, owner = unpack_from("BBBBI", body)
            said = messages.attributes(body, 8)
            value = said.get(_LOCAL) or said.get(_ADDRESS)
            if value is not None and scope != _LINK_SCOPE and (not index or owner == index):
                found.append(Address(index=owner, family=kin, value=value, length=length))
        return found

    def add_route(self, index: int, gateway: str, *, destination: str = "", length: int = 0, priority: int = 0) -> None:
        """A route through a gateway: the default route unless there is a destination."""
        messages.transact(self.channel, [_new_route(index, gateway, destination, length, priority)])

    def routes(self, family: int = 0) -> list[Route]:
        """The routes of the main table that lead through an interface."""
        found = []
        for body in messages.dump(self.channel, _GET_ROUTE, pack("BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)):
            kin, length, _, _, table, _, _, kind, _ = unpack_from("BBBBBBBBI", body)
            said = messages.attributes(body, 12)
            if table != _MAIN or kind != _UNICAST or _OUT not in said:
                continue
            found.append(
                Route(
                    family=kin,
                    destination=said.get(_DESTINATION, b""),
                    length=length,
                    index=unpack_from("I", said[_OUT])[0],
                    gateway=said.get(_GATEWAY, b""),
                    table=table,
                    priority=unpack_from("I", said.get(_PRIORITY, b"\0\0\0\0"))[0],
                )
            )
        return found

    def uplink(self) -> Link | None:
        """The link of the default route, the one of least metric; that of IPv4 before that of IPv6."""
        for family in (IPV4, IPV6):
            ways = [route for route in self.routes(family) if route.length == 0]
            if ways:
                return self.find(min(ways, key=lambda route: route.priority).index)
        return None


def _new_address(index: int, address: str, length: int) -> Wanted:
    family, value = address_bytes(address)
    flags = _NO_DAD if family == IPV6 else 0
    parts = attribute(_LOCAL, value) + attribute(_ADDRESS, value) + number(_FLAGS, flags)
    if family == IPV4 and length < 31:
        host = (1 << (32 - length)) - 1
        parts += attribute(_BROADCAST, (int.from_bytes(value, "big") | host).to_bytes(4, "big"))
    return _NEW_ADDRESS, ACK | CREATE | EXCLUSIVE, pack("BBBBI", family, length, flags, 0, index) + parts


def _new_route(index: int, gateway: str, destination: str = "", length: int = 0, priority: int = 0) -> Wanted:
    family, value = address_bytes(gateway)
    parts = attribute(_GATEWAY, value) + number(_OUT, index)
    parts += attribute(_DESTINATION, address_bytes(destination)[1]) if destination else b""
    parts += number(_PRIORITY, priority) if priority else b""
    body = pack("BBBBBBBBI", family, length, 0, 0, _MAIN, _BOOT, 0, _UNICAST, 0) + parts
    return _NEW_ROUTE, ACK | CREATE | EXCLUSIVE, body


def _link(index: int = 0, *, up: bool = False) -> bytes:
    """struct ifinfomsg"""
    return pack("BxHiII", 0, 0, index, _UP if up else 0, _UP if up else 0)


def _read_link(body: bytes) -> Link:
    _, _, index, flags, _ = unpack_from("BxHiII", body)
    said = messages.attributes(body, 16)
    about = messages.attributes(said.get(_LINK_INFO, b""))
    return Link(
        index=index,
        name=_text(said.get(_NAME)),
        kind=_text(about.get(_KIND)),
        master=_number(said.get(_MASTER)),
        mtu=_number(said.get(_MTU)),
        mac=":".join(f"{byte:02x}" for byte in said.get(_MAC, b"")),
        alias=_text(said.get(_ALIAS)),
        up=bool(flags & _UP),
    )


def _text(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode(errors="replace")


def _number(value: bytes | None) -> int:
    found: int = unpack_from("I", value)[0] if value else 0
    return found


def mac_bytes(mac: str) -> bytes:
    """A hardware address as the kernel has it."""
    return bytes.fromhex(mac.replace(":", ""))


def address_bytes(address: str) -> tuple[int, bytes]:
    """The family of an address, and the address as the kernel has it. Raises OSError if it is none."""
    family = IPV6 if ":" in address else IPV4
    return family, _socket.inet_pton(family, address)


def address_text(value: bytes) -> str:
    """An address in words."""
    return _socket.inet_ntop(IPV6 if len(value) == 16 else IPV4, value)
