"""Bridges: found, or made where a container needs one, and removed with the last that does."""

from __future__ import annotations

from errno import EEXIST, ENODEV

from hakoniwa.errors import HakoError
from hakoniwa.kernel.netlink.messages import Refused
from hakoniwa.kernel.netlink.routes import IPV4, IPV6, address_text
from hakoniwa.network.links.naming import mac_of
from hakoniwa.record import Record
from hakoniwa.spec.subnets import network_of, overlap, split, usual_bridge, written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.kernel.netlink.routes import Address, Link, Links
    from hakoniwa.spec.networks import Interface

OURS, KEPT = "hakoniwa", "hakoniwa, kept"  # aliases: what was made for containers, and by `hako new --bridge`
_USUAL_MTU = 1500


class Bridge(Record):
    """A bridge that is there. Addresses have their masks; "" where it has none."""

    name: str
    index: int
    mtu: int
    ours: bool  # made for containers, and removed with the last
    ip: str = ""
    ip6: str = ""


def subnet(address: str) -> str:
    """The network of an address with its mask, such as 10.0.0.0/24; "" of ""."""
    if not address:
        return ""
    family, first, length = network_of(address)
    return f"{written(family, first)}/{length}"


def subnets_of(links: Links, name: str) -> tuple[list[str], list[str]]:
    """The networks of a bridge that is there, of IPv4 and of IPv6. Raises OSError."""
    link = links.find(name)
    if link is None or link.kind != "bridge":
        return [], []
    found = links.addresses(link.index)
    ours = [[one for one in found if one.family == family] for family in (IPV4, IPV6)]
    four, six = ([subnet(f"{address_text(one.value)}/{one.length}") for one in every] for every in ours)
    return four, six


def ensure(links: Links, wanted: Interface) -> Bridge:
    """The bridge of an interface, which is made if it is missing. Raises HakoError, and OSError.

    One that is there is not changed: if it is not what the file says, that is an error.
    """
    link = links.find(wanted.bridge_name)
    if link is None:
        try:
            return _make(links, wanted)
        except Refused as refused:
            link = links.find(wanted.bridge_name) if refused.errno == EEXIST else None  # somebody was quicker
            if link is None:
                raise
    return _look_at(links, link, wanted)


def make(links: Links, name: str, *, ip: str, ip6: str = "", mtu: int = 0, alias: str = OURS) -> Bridge:
    """Make a bridge with these addresses, masks included. Raises HakoError, and OSError: EEXIST if there is such a link."""
    for address in filter(None, (ip, ip6)):
        _must_be_apart(links, name, address)
    if not mtu:
        uplink = links.uplink()
        mtu = uplink.mtu if uplink is not None else _USUAL_MTU
    own = split(ip or ip6)
    # Of its own: else it would be that of one of its ports, and another one each time that port goes.
    mac = mac_of(own[1].to_bytes(4 if own[0] == IPV4 else 16, "big"))
    links.add_bridge(name, mtu=mtu, mac=mac, alias=alias)
    try:
        link = links.find(name)
        assert link is not None
        for address in filter(None, (ip, ip6)):
            bare, _, length = address.partition("/")
            links.add_address(link.index, bare, int(length))
    except BaseException:
        links.delete(name)
        raise
    return Bridge(name=name, index=link.index, mtu=link.mtu, ours=alias == OURS, ip=ip, ip6=ip6)


def _make(links: Links, wanted: Interface) -> Bridge:
    ip, ip6 = usual_bridge(wanted)
    has6 = wanted.container_ip6 is not None or wanted.bridge_ip6 is not None
    has4 = wanted.container_ip is not None or wanted.bridge_ip is not None or not has6
    return make(links, wanted.bridge_name, ip=ip if has4 else "", ip6=ip6 if has6 else "", mtu=wanted.mtu or 0)


def _must_be_apart(links: Links, name: str, address: str) -> None:
    """A bridge with a network that is somebody else's would cut the host off from that. Raises HakoError."""
    own = network_of(address)
    for route in links.routes(own[0]):
        if route.length == 0:
            continue
        other = (route.family, int.from_bytes(route.destination, "big"), route.length)
        if overlap(own, other):
            through = links.find(route.index)
            shown = f"{address_text(route.destination)}/{route.length}"
            told = f"the network of {address} is in use: {shown} is reached through {through.name if through else 'another link'}"
            word = "bridge_ip6" if own[0] == IPV6 else "bridge_ip"
            raise HakoError(f"cannot make the bridge {name}: {told}", hint=f"give it another one: network.{word}")


def _look_at(links: Links, link: Link, wanted: Interface) -> Bridge:
    """A bridge that is there. Raises HakoError if it is none, or not the one that the file says."""
    name = link.name
    if link.kind != "bridge":
        raise HakoError(f"{name} is no bridge, but {link.kind or 'a device'}", hint="take another network.bridge_name")
    if not link.up:
        raise HakoError(f"the bridge {name} is down", hint=f"ip link set {name} up")
    found = links.addresses(link.index)
    ours = link.alias in (OURS, KEPT)
    ip = _address_of(name, found, IPV4, wanted.bridge_ip, wanted.netmask)
    ip6 = _address_of(name, found, IPV6, wanted.bridge_ip6, None)
    if wanted.container_ip6 is not None and not ip6 and ours:
        # It was made for containers that had none, and nobody has said that it should not.
        ip6 = usual_bridge(wanted)[1]
        _must_be_apart(links, name, ip6)
        links.add_address(link.index, *_parts(ip6))
    for word, address, has in (("", wanted.container_ip, ip), ("6", wanted.container_ip6, ip6)):
        if address is not None and not has:
            kind = "IPv6" if word else "IPv4"
            hint = f"ip address add ADDRESS/MASK dev {name}, or network.container_ip{word} = None"
            raise HakoError(f"the bridge {name} has no {kind} address", hint=hint)
    return Bridge(name=name, index=link.index, mtu=link.mtu, ours=link.alias == OURS, ip=ip, ip6=ip6)


def _parts(address: str) -> tuple[str, int]:
    bare, _, length = address.partition("/")
    return bare, int(length)


def _address_of(name: str, found: list[Address], family: int, wanted: str | None, mask: int | None) -> str:
    """The address of a bridge, the one that is wanted if it has several; "" if it has none. Raises HakoError if it differs."""
    has = [f"{address_text(one.value)}/{one.length}" for one in found if one.family == family]
    if wanted is None:
        return has[0] if has else ""
    if "/" not in wanted and mask is not None:
        wanted = f"{wanted}/{mask}"
    for address in has:
        if wanted in (address, address.partition("/")[0]):
            return address
    told = f"the bridge {name} has {' and '.join(has) or 'no address of that kind'}, and the file says {wanted}"
    hint = "write what it has, or take another network.bridge_name"
    raise HakoError(told, hint=hint)


def remove(links: Links, name: str, *, kept: bool = False) -> bool:
    """Remove a bridge that was made for containers, or to be `kept`; whether it was. The leases' lock is held. Raises OSError."""
    link = links.find(name)
    if link is None or link.kind != "bridge" or link.alias not in (OURS, *([KEPT] if kept else [])):
        return False
    try:
        links.delete(link.index)
    except Refused as refused:
        if refused.errno != ENODEV:
            raise
    return True
