"""Addresses and networks as numbers, by `inet_pton`: `ipaddress` takes longer to load than a start has."""

from __future__ import annotations

import _socket

from hakoniwa.spec.networks import AUTO, BRIDGE_IP, BRIDGE_IP6

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec.networks import Interface

_BITS = {_socket.AF_INET: 32, _socket.AF_INET6: 128}


def parse(word: str) -> tuple[int, int] | None:
    """The family of an address, and the address as a number; None if it is none."""
    family = _socket.AF_INET6 if ":" in word else _socket.AF_INET
    try:
        return family, int.from_bytes(_socket.inet_pton(family, word), "big")
    except (OSError, ValueError):
        return None


def bits_of(family: int) -> int:
    """How many bits an address of a family has."""
    return _BITS[family]


def written(family: int, number: int) -> str:
    """An address in words."""
    return _socket.inet_ntop(family, number.to_bytes(_BITS[family] // 8, "big"))


def split(word: str) -> tuple[int, int, int]:
    """The family, the number and the bits of the network of an address that was checked; all bits without a mask."""
    address, _, mask = word.partition("/")
    found = parse(address)
    assert found is not None
    return *found, int(mask) if mask else _BITS[found[0]]


def network_of(word: str) -> tuple[int, int, int]:
    """The family, first number and bits of the network that an address with its mask is in."""
    family, number, length = split(word)
    beyond = _BITS[family] - length
    return family, number >> beyond << beyond, length


def overlap(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    """Whether two networks have an address in common."""
    beyond = _BITS[one[0]] - min(one[2], other[2])
    return one[0] == other[0] and one[1] >> beyond == other[1] >> beyond


def does_not_fit(address: str, bridge: str) -> tuple[str, str]:
    """Why an address cannot be that of a container on a bridge, and the way out; "" if it can."""
    family, first, length = network_of(bridge)
    _, number, _ = split(address)
    bits = bits_of(family)
    last = first + (1 << (bits - length)) - 1
    shown = f"{written(family, first)}/{length}"
    free = written(family, min(first + 7, last - 1))
    if not first <= number <= last:
        return f"{address} is outside of the bridge's network, {shown}", f"such as {free}"
    if number == split(bridge)[1]:
        return f"{address} is the bridge's own address", f"such as {free}"
    if number == first:
        return f"{address} is the address of the network {shown} itself", f"such as {free}"
    if number == last and bits == 32:
        return f"{address} is the broadcast address of the network {shown}", f"such as {free}"
    return "", ""


def usual_bridge(one: Interface) -> tuple[str, str]:
    """The addresses that a bridge is made with, where the file names none."""
    bridge = one.bridge_ip or _network_around(one)
    return (bridge if "/" in bridge else f"{bridge}/{one.netmask or 24}"), one.bridge_ip6 or BRIDGE_IP6


def _network_around(one: Interface) -> str:
    """The usual network; or, if the container's address is not of that, one that it is of, with the bridge at its beginning."""
    address = one.container_ip
    if address in (None, AUTO) or overlap(network_of(BRIDGE_IP), split(str(address))):
        return BRIDGE_IP
    family, number, _ = split(str(address))
    length = one.netmask or 24
    first = number >> (32 - length) << (32 - length)
    return f"{written(family, first + 1 if number != first + 1 else first + 2)}/{length}"
