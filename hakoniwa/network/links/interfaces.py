"""The interface of a container on a bridge: a pair of links, one end of which is made inside from the first."""

from __future__ import annotations

import os
from errno import EEXIST, ENODEV

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.kernel.netlink import messages
from hakoniwa.kernel.netlink.messages import Refused
from hakoniwa.kernel.netlink.routes import Links, Veth
from hakoniwa.network.links.naming import link_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hakoniwa.kernel.netlink.routes import Link
    from hakoniwa.network.facts import InterfaceFacts
    from hakoniwa.spec.networks import Interface

_ATTEMPTS = 8  # to find a name that nobody has


def connect(
    outside: Links,
    inside: Links,
    namespace: int,
    interface: Interface,
    facts: InterfaceFacts,
    *,
    container: str,
    number: int,
    lives: Callable[[str], bool],
) -> InterfaceFacts:
    """Make the pair, and set up its inner end. Returns what is known of it then.

    `namespace` is a descriptor of the container's network namespace, which `inside` belongs to; `lives` tells of the name of a
    container whether it runs. Raises HakoError, and OSError.
    """
    bridge = outside.find(facts.bridge)
    if bridge is None:
        raise HakoError(f"the bridge {facts.bridge} is gone", hint="somebody has removed it: try again")
    pair = Veth(
        name=interface.host,
        master=bridge.index,
        peer=facts.name,
        namespace=namespace,
        mtu=facts.mtu,
        mac=facts.mac,
        alias=container,
        isolated=interface.isolated,
    )
    host = _make(outside, pair, number, lives)
    inner = inside.find(facts.name)
    if inner is None:
        raise HakoError(f"the interface {facts.name} is gone from inside", hint="somebody has removed it: try again")
    addresses = [_parts(address) for address in (facts.address, facts.address6) if address]
    inside.set_up(inner.index, addresses, [gateway for gateway in (facts.gateway, facts.gateway6) if gateway])
    return facts.replace(host=host, index=inner.index, mac=inner.mac, mtu=inner.mtu)


def _parts(address: str) -> tuple[str, int]:
    bare, _, length = address.partition("/")
    return bare, int(length)


def _make(links: Links, pair: Veth, number: int, lives: Callable[[str], bool]) -> str:
    """Make the pair, under a name of its own unless it has one already. Returns the name."""
    for attempt in range(_ATTEMPTS):
        name = pair.name or link_name(pair.alias, number, attempt)
        try:
            links.add_veth(pair.replace(name=name))
            return name
        except Refused as refused:
            if refused.errno != EEXIST:
                raise HakoError(f"cannot make the interface {name}: {refused.strerror}") from None
        if not pair.name:
            continue  # that of an earlier run of ours may be on its way out, which takes longer than another name
        owner = links.find(name)
        if owner is not None and not _is_left(owner, pair, lives):
            whose = f"the container {owner.alias!r}" if lives(owner.alias) else "another link"
            raise HakoError(f"{whose} has the name {name}", hint="take another network.veth_host")
        _remove(links, name)
    raise HakoError("cannot find a name for the interface: all that were tried are taken")


def _is_left(owner: Link, pair: Veth, lives: Callable[[str], bool]) -> bool:
    """Whether a link is what a container has left on our bridge that does not live. An alias alone, anybody may have set."""
    ours = owner.kind == "veth" and owner.master == pair.master and bool(owner.alias)
    return ours and (owner.alias == pair.alias or not lives(owner.alias))


def _remove(links: Links, name: str) -> None:
    try:
        links.delete(name)
    except Refused as refused:
        if refused.errno != ENODEV:
            raise


def remove_of(links: Links, container: str) -> list[str]:
    """Remove the pairs of a container that a namespace has kept. Returns their names."""
    found = [link.name for link in links.every() if link.alias == container and link.kind == "veth" and link.master]
    for name in found:
        _remove(links, name)
    return found


def open_namespace(pid: int) -> int:
    """The network namespace of a process, as a descriptor."""
    return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def enter(namespace: int) -> Links:
    """The links of a container's network namespace, which is new. Raises OSError.

    A neighbour is no router (CVE-2020-13401), and nobody is asked whether an address is taken that a lease says is not.
    """
    with messages.Visit(namespace):
        channel = messages.open_socket()
        for setting in ("accept_ra", "accept_dad"):
            try:
                file = os.open(f"/proc/sys/net/ipv6/conf/default/{setting}", os.O_WRONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                break  # a kernel without IPv6
            except OSError as error:
                # It is a hardening: a host that lets nothing be set has containers all the same.
                log.write(f"net.ipv6.conf.default.{setting} cannot be set inside: {error.strerror}", "warning")
                break
            os.write(file, b"0")
            os.close(file)
    return Links(channel)
