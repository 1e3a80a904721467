"""Checks of addresses, networks, ports and names of links. By `inet_pton` and numbers: `ipaddress` takes longer than a start has."""

from __future__ import annotations

import _socket

from hakoniwa.spec.networks import AUTO, PROTOCOLS, Allowed, Policy, Published
from hakoniwa.spec.rules.checks import LONGEST_NAME, Wrong, duration, flag, text, text_list
from hakoniwa.spec.subnets import bits_of, parse, written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_LINK = 15  # IFNAMSIZ, with the NUL
_MOST_PORTS = 65535
_LONGEST_HOST = 253


def _address(value: object, family: int, what: str) -> str:
    word = text(value)
    found = parse(word)
    if found is None or found[0] != family:
        hint = ""
        if "/" in word and parse(word.partition("/")[0]):
            hint = "the mask is the bridge's: write it in bridge_ip"
        elif found is not None:
            hint = "write it in container_ip6" if found[0] == _socket.AF_INET6 else "write it in container_ip"
        raise Wrong(what, hint)
    return written(*found)


def container_ip(value: object) -> str | None:
    """An IPv4 address of the bridge's network, "auto", or None for no address."""
    if value is None or value == AUTO:
        return AUTO if value else None
    return _address(value, _socket.AF_INET, f'an IPv4 address such as "10.0.0.7", "{AUTO}", or None')


def container_ip6(value: object) -> str | None:
    """The same for IPv6."""
    if value is None or value == AUTO:
        return AUTO if value else None
    return _address(value, _socket.AF_INET6, f'an IPv6 address such as "fd00::7", "{AUTO}", or None')


def _has_mask(value: object) -> bool:
    return isinstance(value, str) and "/" in value and parse(value.partition("/")[0]) is not None


def interface_ip(value: object) -> str | None:
    """As `container_ip`, or with a mask, which an interface has that is on no bridge."""
    if _has_mask(value):
        return _with_mask(value, _socket.AF_INET, '"192.0.2.7/24"', 30)
    return container_ip(value)


def interface_ip6(value: object) -> str | None:
    """The same for IPv6."""
    if _has_mask(value):
        return _with_mask(value, _socket.AF_INET6, '"2001:db8::7/64"', 126)
    return container_ip6(value)


def network_name(value: object) -> str:
    """The name of a network of CNI's."""
    word = text(value)
    if not 1 <= len(word) <= 200 or not all(c.isascii() and (c.isalnum() or c in "_.-") for c in word):
        raise Wrong("the name of a network: 1 to 200 of A-Z a-z 0-9 _ . -")
    return word


def any_address(value: object) -> str:
    """An address of either family."""
    found = parse(text(value))
    if found is None:
        raise Wrong('an address such as "10.0.0.7"')
    return written(*found)


def netmask(value: object) -> int:
    """A mask by its bits, or as four numbers: 24, "24", "255.255.255.0"."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 4:
        value = int(value)
    if isinstance(value, str) and (found := parse(value)) and found[0] == _socket.AF_INET:
        ones = bin(found[1])[2:].rstrip("0")
        if "0" not in ones and (found[1] >> 31 or not found[1]):
            value = len(ones)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 30:
        raise Wrong('a mask of 1 to 30 bits, such as "24" or "255.255.255.0"')
    return value


def _with_mask(value: object, family: int, example: str, most: int) -> str:
    word = text(value)
    address, slash, mask = word.partition("/")
    found = parse(address)
    if found is None or found[0] != family:
        raise Wrong(f"an address with its mask, such as {example}")
    if not slash:
        return written(*found)
    if not (mask.isascii() and mask.isdecimal() and len(mask) < 4 and 1 <= int(mask) <= most):
        raise Wrong(f"an address with a mask of 1 to {most} bits, such as {example}")
    return f"{written(*found)}/{int(mask)}"


def bridge_ip(value: object) -> str:
    """The address of a bridge. Its mask may be missing: it is `netmask`, or 24 bits."""
    return _with_mask(value, _socket.AF_INET, '"10.0.0.1/24"', 30)


def bridge_ip6(value: object) -> str:
    """The IPv6 address of a bridge, of 64 bits unless it says others."""
    word = _with_mask(value, _socket.AF_INET6, '"fd00::1/64"', 126)
    return word if "/" in word else f"{word}/64"


def bridge_address(value: object) -> str:
    """The address of a bridge of either family with its mask: 24 bits, or 64, unless it says others."""
    word = bridge_ip6(value) if isinstance(value, str) and ":" in value else bridge_ip(value)
    return word if "/" in word else f"{word}/24"


def link_name(value: object) -> str:
    """The name of an interface, as the kernel takes it (dev_valid_name in net/core/dev.c); what patterns stand for is none."""
    word = text(value)
    if len(word.encode()) > _LONGEST_LINK:
        raise Wrong(f"a name of {_LONGEST_LINK} bytes at most", f"it has {len(word.encode())}")
    allowed = all(c.isascii() and c.isprintable() and c not in "/: %\"'\\*" for c in word)
    if not word or word in (".", "..") or word.startswith("-") or not allowed:
        raise Wrong("the name of an interface: 1 to 15 of A-Z a-z 0-9 _ . - @")
    return word


def namespace_name(value: object) -> str:
    """A name of `ip netns`: a file below /run/netns."""
    word = text(value)
    allowed = all(c.isascii() and (c.isalnum() or c in "_.-@+") for c in word)
    if not 1 <= len(word) <= 200 or word in (".", "..") or word.startswith("-") or not allowed:
        raise Wrong("a name for ip netns: 1 to 200 of A-Z a-z 0-9 _ . - @ +")
    return word


def mac(value: object) -> str:
    """A hardware address that one interface can have."""
    word = text(value).lower().replace("-", ":")
    parts = word.split(":")
    digits = "0123456789abcdef"
    if len(parts) != 6 or not all(len(part) == 2 and part[0] in digits and part[1] in digits for part in parts):
        raise Wrong('a hardware address such as "02:00:00:00:00:07"')
    if int(parts[0], 16) & 1 or word == "00:00:00:00:00:00":
        raise Wrong("the hardware address of one interface", "the first byte is even, such as 02")
    return word


def mtu(value: object) -> int:
    """The largest packet of a link."""
    if isinstance(value, bool) or not isinstance(value, int) or not 68 <= value <= 65535:
        raise Wrong("a number of bytes from 68 to 65535")
    return value


_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


def rate(value: object) -> int:
    """Bytes a second: a number, or a string such as "10M" (powers of 1024)."""
    if isinstance(value, str):
        word = value.upper().removesuffix("/S").removesuffix("B").removesuffix("I")
        number, unit = (word[:-1], word[-1]) if word[-1:] in _UNITS and word else (word, "")
        if number.isascii() and number.isdecimal() and len(number) < 12:
            value = int(number) * _UNITS[unit]
    if isinstance(value, bool) or not isinstance(value, int) or not 1024 <= value < 2**40:
        raise Wrong('a number of bytes a second from 1024 on, or a string such as "10M"')
    return value


def host_name(value: object) -> str:
    """A name that /etc/hosts can have."""
    word = text(value)
    labels = word.split(".")
    known = all(c.isascii() and (c.isalnum() or c in "_-") for label in labels for c in label)
    if not 1 <= len(word) <= _LONGEST_HOST or not known or not all(1 <= len(one) <= LONGEST_NAME for one in labels):
        raise Wrong("a host name: parts of A-Z a-z 0-9 _ - with dots between")
    return word


def hosts_item(key: object, value: object) -> tuple[str, ...]:
    """A host name, and its address or a list of them."""
    try:
        host_name(key)
    except Wrong as wrong:
        raise Wrong(f"set by {wrong}") from None
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, (list, tuple)) or not found:
        raise Wrong('an address such as "10.0.0.7", or a list of them')
    return tuple(map(any_address, found))


def servers(value: object) -> tuple[str, ...]:
    """Addresses of resolvers."""
    found = text_list(value)
    try:
        return tuple(map(any_address, found))
    except Wrong:
        raise Wrong('a list of addresses such as ["192.0.2.53"]') from None


def search(value: object) -> tuple[str, ...]:
    """Domains to look names up in."""
    found = text_list(value)
    for word in found:
        try:
            host_name(word.rstrip("."))
        except Wrong:
            raise Wrong('a list of domains such as ["example.org"]') from None
    return found


def resolver_options(value: object) -> tuple[str, ...]:
    """Options of a resolver, `man 5 resolv.conf`."""
    found = text_list(value)
    for word in found:
        if not word or not all(c.isascii() and (c.isalnum() or c in "_-:.") for c in word):
            raise Wrong('a list of options such as ["ndots:2", "timeout:1"]')
    return found


_PUBLISH = 'ports such as "8080:80", "127.0.0.1:8080-8090:80" or "53:53/udp"'


def published(value: object, wake: object = False, idle: object = 0.0, where: str = "") -> Published:
    """`[HOST:]PORT[-PORT]:PORT[/tcp|udp]`. A range leads to as many ports inside, from the one that is named on."""
    word = text(value)
    ports, slash, protocol = word.partition("/")
    if slash and protocol not in PROTOCOLS:
        raise Wrong(_PUBLISH, "the protocol is tcp or udp")
    host, inside = "", ""
    if ports.startswith("["):
        host, closed, ports = ports[1:].partition("]:")
        found = parse(host) if closed else None
    elif ports.count(":") > 2:
        raise Wrong(_PUBLISH, "write an IPv6 address in brackets: [::]:8080:80")
    elif ports.count(":") == 2:
        host, _, ports = ports.partition(":")
        found = parse(host)
    else:
        found = (0, 0)
    if found is None:
        raise Wrong(_PUBLISH, f"{host!r} is no address of the host" + (": 127.0.0.1" if host == "localhost" else ""))
    host = written(*found) if host else ""
    if host == "::1":
        raise Wrong(_PUBLISH, "the kernel leads nothing from ::1 elsewhere: write 127.0.0.1")
    outside, colon, inside = ports.partition(":")
    first, last = _ports(outside)
    low, high = _ports(inside) if colon else (0, 0)
    if not first or not low:
        raise Wrong(_PUBLISH, "ports go from 1 to 65535" if colon else f"such as {outside}:{outside}")
    if inside.count("-") and high - low != last - first:
        raise Wrong(_PUBLISH, "both ranges have as many ports")
    if low + last - first > _MOST_PORTS:
        raise Wrong(_PUBLISH, f"{last - first + 1} ports from {low} on go beyond {_MOST_PORTS}")
    return Published(
        host=host,
        first=first,
        count=last - first + 1,
        inside=low,
        protocol=protocol or "tcp",
        wake=flag(wake),
        idle=duration(idle),
        where=where,
    )


def _ports(word: str) -> tuple[int, int]:
    """The first and the last port of `8080` or `8080-8090`; (0, 0) if it is neither."""
    first, dash, last = word.partition("-")
    last = last if dash else first
    if not all(one.isascii() and one.isdecimal() and len(one) < 6 for one in (first, last)):
        return 0, 0
    low, high = int(first), int(last)
    return (low, high) if 1 <= low <= high <= _MOST_PORTS else (0, 0)


_POLICY = '"any", "none", or a list such as ["10.0.0.0/24", "192.0.2.7:443/tcp", "dns"]'


def policy(value: object) -> Policy:
    """What a container may reach."""
    if value in ("any", "none"):
        return Policy(default=str(value))
    if not isinstance(value, (list, tuple)):
        raise Wrong(_POLICY, '["dns"] lets the resolvers through alone' if value == "dns" else "")
    return Policy(default="list", allowed=tuple(map(allowed, value)))


def allowed(value: object) -> Allowed:
    """One item of a policy: `NETWORK[:PORT][/tcp|udp]`, or `dns`."""
    word = text(value)
    if word == "dns":
        return Allowed(dns=True)
    rest, protocol = word, ""
    for known in PROTOCOLS:
        if word.endswith(f"/{known}"):
            rest, protocol = word.removesuffix(f"/{known}"), known
    port = ""
    if rest.startswith("["):
        rest, closed, after = rest[1:].partition("]")
        port = after.removeprefix(":") if closed and after.startswith(":") else "" if closed and not after else "?"
    elif rest.count(":") == 1:
        rest, _, port = rest.partition(":")
    number = _ports(port)[0] if port else 0
    if port and (not number or "-" in port):
        raise Wrong(_POLICY, f"{word!r} has no port from 1 to 65535")
    return Allowed(network=network(rest), port=number, protocol=protocol)


def network(value: object) -> str:
    """A network, or one address, with its mask."""
    word = text(value)
    address, slash, mask = word.partition("/")
    found = parse(address)
    if found is None:
        hint = f"{word!r} is no address"
        if any(c.isalpha() for c in word) and ":" not in word:
            hint += ": a name may have another one by the time that it is asked for"
        raise Wrong(_POLICY, hint)
    bits = bits_of(found[0])
    length = int(mask) if mask.isascii() and mask.isdecimal() and len(mask) < 4 else (-1 if slash else bits)
    if not 0 <= length <= bits:
        raise Wrong(_POLICY, f"{word!r} has no mask of 0 to {bits} bits")
    first = found[1] >> (bits - length) << (bits - length)
    if first != found[1]:
        raise Wrong(_POLICY, f"{word!r} is no network: write {written(found[0], first)}/{length}")
    return f"{written(*found)}/{length}"


def maybe(check: Callable[[object], object]) -> Callable[[object], object]:
    """A check that lets None pass."""
    return lambda value: None if value is None else check(value)
