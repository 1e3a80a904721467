"""Published ports: elements of the firewall's maps, each with the name of its container as a comment, and the reservation of the ports.

A port is reserved by a socket of the supervisor's, which nothing can reach: so a process of the host cannot take it meanwhile, and of two
containers that want it at the same moment one gets it. Hence an element that is in the way of a reserved port is nobody's any more.
"""

from __future__ import annotations

from errno import EEXIST, ENOENT

from hakoniwa.kernel.netlink import elements
from hakoniwa.kernel.netlink.elements import Element
from hakoniwa.kernel.netlink.messages import Refused
from hakoniwa.kernel.netlink.routes import IPV4, IPV6, address_bytes, address_text
from hakoniwa.network.firewall import PUBLISHED, TABLE, Firewall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hakoniwa.kernel.netlink.elements import Message
    from hakoniwa.spec.networks import Published

    Elements = dict[int, list[Element]]  # by the version of IP

TCP, UDP = 6, 17
PROTOCOLS = {"tcp": TCP, "udp": UDP}
_ANY = {4: "0.0.0.0", 6: "::"}
_FAMILIES = {4: IPV4, 6: IPV6}


def publish(name: str, address4: str, address6: str, published: Sequence[Published], where: str = "") -> None:
    """Have reserved ports lead to a container with these addresses ("10.0.0.7"; "": none). Raises HakoError."""
    wanted = _elements(name, address4, address6, published)
    with Firewall(where) as firewall:
        try:
            firewall.commit(_add(wanted))
        except Refused as refused:
            if refused.errno != EEXIST:
                raise
            _settle(firewall, name, wanted)
        _forget_flows(firewall, wanted)


def withdraw(name: str, address4: str, address6: str, published: Sequence[Published]) -> None:
    """Have what `publish` was given lead nowhere any more. Raises HakoError. `firewall.let_go` goes last."""
    gone = _elements(name, address4, address6, published)
    with Firewall() as firewall:
        try:
            firewall.commit(_delete(gone), deleting=True)
        except Refused as refused:
            if refused.errno != ENOENT:  # some are gone, or all, or the table: somebody has flushed it
                raise
            _settle(firewall, name, {4: [], 6: []})
        _forget_flows(firewall, gone)


def settle(name: str, address4: str, address6: str, published: Sequence[Published], where: str = "") -> list[str]:
    """Have these and no others lead to a container, whatever did until now. Returns what was removed, in words. Raises HakoError."""
    wanted = _elements(name, address4, address6, published)
    with Firewall(where) as firewall:
        gone, new = _settle(firewall, name, wanted)
        _forget_flows(firewall, gone)
        _forget_flows(firewall, new)
    return sorted({_words(one) for found in gone.values() for one in found if one.comment == name})


def _settle(firewall: Firewall, name: str, wanted: Elements) -> tuple[Elements, Elements]:
    """The same. Returns the elements that were removed, and those that were added.

    What overlaps with `wanted` and is another's goes as well: its owner has not the ports.
    """
    gone: Elements = {}
    new: Elements = {}
    for version, found in wanted.items():
        there = firewall.members(PUBLISHED[version])
        kept = {_told(one) for one in there if one.comment == name} & {*map(_told, found)}
        in_the_way = [one for one in there if one.comment == name or _overlaps(one, found)]
        gone[version] = [one for one in in_the_way if _told(one) not in kept]
        new[version] = [one for one in found if _told(one) not in kept]
    firewall.commit(_delete(gone) + _add(new), deleting=any(gone.values()))
    return gone, new


def _told(element: Element) -> tuple[bytes, bytes, bytes]:
    return element.key, element.last, element.value


def remove(is_gone: Callable[[str], bool]) -> list[str]:
    """Remove what leads to containers that are gone. Returns the words for each. Raises HakoError."""
    with Firewall() as firewall:
        names = {one.comment for version in PUBLISHED for one in firewall.members(PUBLISHED[version])}
    told = []
    for name in sorted(names):
        if is_gone(name):
            told += [f"the published port {words} of {name}" for words in settle(name, "", "", ())]
    return told


def remove_leading_to(addresses: Iterable[str], name: str) -> list[str]:
    """Remove what leads to addresses that were another container's, and are now `name`'s. Returns the words for each."""
    values = {address_bytes(address)[1] for address in addresses}
    with Firewall() as firewall:
        found = {
            version: [
                one
                for one in firewall.members(PUBLISHED[version])
                if one.comment != name and one.value[: 4 if version == 4 else 16] in values
            ]
            for version in PUBLISHED
        }
        firewall.commit(_delete(found), deleting=True)
        _forget_flows(firewall, found)
    return sorted({f"the published port {_words(one)} of {one.comment}" for gone in found.values() for one in gone})


def owner_of(port: int, protocol: str) -> str:
    """A container that has published a port of whatever address, "" if none has."""
    with Firewall() as firewall:
        for version in PUBLISHED:
            for one in firewall.members(PUBLISHED[version]):
                _, number, found = _parts(one.key)
                if (number, found) == (PROTOCOLS[protocol], port):
                    return one.comment
    return ""


# Elements: the key is address, protocol and port, and the value address and port, each padded to four bytes


def _elements(name: str, address4: str, address6: str, published: Sequence[Published]) -> Elements:
    """What publishes these, an element for each port and version of IP."""
    found: Elements = {4: [], 6: []}
    for version, address in ((4, address4), (6, address6)):
        if not address:
            continue
        _, inside = address_bytes(address)
        for one in published:
            first, last = hosts_of(one, version)
            if not first:
                continue
            protocol = PROTOCOLS[one.protocol]
            for number in range(one.count):
                port = _port(one.first + number)
                rest = bytes([protocol, 0, 0, 0]) + port
                found[version].append(Element(first + rest, last + rest, inside + _port(one.inside + number), name))
    return found


def hosts_of(published: Published, version: int) -> tuple[bytes, bytes]:
    """The first and the last address of the host that ports are published on; b"" if that is none of this version."""
    length = 4 if version == 4 else 16
    if published.host in ("", _ANY[version]):
        return bytes(length), b"\xff" * length
    _, host = address_bytes(published.host)
    return (host, host) if len(host) == length else (b"", b"")


def _port(number: int) -> bytes:
    return number.to_bytes(2, "big") + b"\0\0"


def _parts(key: bytes) -> tuple[bytes, int, int]:
    """Address, protocol and port."""
    return key[:-8], key[-8], int.from_bytes(key[-4:-2], "big")


def _overlaps(one: Element, others: Iterable[Element]) -> bool:
    host, protocol, port = _parts(one.key)
    last, _, _ = _parts(one.last or one.key)
    return any(
        (protocol, port) == _parts(other.key)[1:] and host <= _parts(other.last)[0] and _parts(other.key)[0] <= last
        for other in others
    )


def _words(element: Element) -> str:
    host, protocol, port = _parts(element.key)
    address = "" if element.last and element.last != element.key else address_text(host)
    at = f"[{address}]:" if ":" in address else f"{address}:" if address else ""
    return f"{at}{port}/{'tcp' if protocol == TCP else 'udp'}"


def _add(found: Elements) -> list[Message]:
    return [one for version in found for one in elements.add(TABLE, PUBLISHED[version], found[version], exclusive=True)]


def _delete(found: Elements) -> list[Message]:
    return [one for version in found for one in elements.delete(TABLE, PUBLISHED[version], found[version])]


def _forget_flows(firewall: Firewall, changed: Elements) -> None:
    """Have datagrams to these ports go by the rules of now. A connection ends by itself."""
    for version, found in changed.items():
        ports = {port for _, protocol, port in (_parts(one.key) for one in found) if protocol == UDP}
        if ports:
            from hakoniwa.kernel.netlink import conntrack

            conntrack.forget_flows(firewall.channel, _FAMILIES[version], UDP, sorted(ports))
