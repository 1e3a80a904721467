"""Bridges as `hako network` and `hako new --bridge` see them: who has made each, who is on it; made to stay, and removed."""

from __future__ import annotations

from errno import EEXIST, EPERM

from hakoniwa.errors import HakoError, nearest
from hakoniwa.kernel.netlink import messages
from hakoniwa.kernel.netlink.messages import Refused
from hakoniwa.kernel.netlink.routes import Links, address_text
from hakoniwa.network import firewall
from hakoniwa.network.links import bridge as bridges
from hakoniwa.network.links import leases
from hakoniwa.record import Record
from hakoniwa.spec.subnets import bits_of, network_of, split, written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.kernel.netlink.routes import Address, Link

_MADE = {bridges.OURS: "containers", bridges.KEPT: "new --bridge"}


class Overview(Record):
    """A bridge that is ours, or that a container of ours is on."""

    name: str
    made: str  # for "containers", by "new --bridge", or by "others"
    addresses: tuple[str, ...]  # with their masks
    mac: str
    mtu: int
    up: bool
    nat: bool | None  # None if no container has been on it yet, or if it cannot be told
    ports: tuple[str, ...]  # the links that are its ports
    on_it: tuple[tuple[str, str], ...]  # names of containers, each with an address; "" for one that has none


def every() -> list[Overview]:
    """All of them. Raises OSError, and HakoError."""
    links = Links(messages.open_socket())
    try:
        found, addresses = links.every(), links.addresses()
    finally:
        links.close()
    told = _told_to_the_firewall()
    listed = []
    for link in found:
        on_it = leases.on(link.name)
        if link.kind == "bridge" and (link.alias in _MADE or on_it):
            listed.append(_overview(link, found, addresses, told.get(link.name), on_it))
    return sorted(listed, key=lambda one: one.name)


def _overview(
    link: Link, links: list[Link], addresses: list[Address], told: str | None, on_it: list[tuple[str, str]]
) -> Overview:
    return Overview(
        name=link.name,
        made=_MADE.get(link.alias, "others"),
        addresses=tuple(f"{address_text(one.value)}/{one.length}" for one in addresses if one.index == link.index),
        mac=link.mac,
        mtu=link.mtu,
        up=link.up,
        nat=None if told is None else told.startswith("nat"),
        ports=tuple(one.name for one in links if one.master == link.index),
        on_it=tuple(on_it),
    )


def _told_to_the_firewall() -> dict[str, str]:
    """What the firewall's table says of each bridge; nothing for an ordinary user, whom the kernel does not tell."""
    with firewall.Firewall() as table:
        try:
            return table.bridges()
        except Refused as refused:
            if refused.errno != EPERM:
                raise
            return {}


def one_of(name: str) -> Overview:
    """One of them. Raises HakoError if there is none of that name, and OSError."""
    known = {one.name: one for one in every()}
    if name in known:
        return known[name]
    links = Links(messages.open_socket())
    try:
        link = links.find(name)
    finally:
        links.close()
    if link is None:
        raise HakoError("there is no such bridge", where=name, hint=nearest(name, [*known]) or "hako network ls")
    what = "a bridge that others have made" if link.kind == "bridge" else f"no bridge, but {link.kind or 'a device'}"
    raise HakoError(f"it is {what}", where=name, hint="hako network ls shows those that are ours")


def keep(name: str, ip: str) -> str:
    """Have a bridge with this address and mask that stays. Returns what was done, in words. Raises HakoError, and OSError."""
    _must_be_of_a_host(name, ip)
    links = Links(messages.open_socket())
    try:
        with leases.Lock():
            if links.find(name) is None:
                try:
                    bridges.make(links, name, ip=ip, alias=bridges.KEPT)
                    return f"the bridge {name} has {ip}"
                except Refused as refused:
                    if refused.errno != EEXIST:
                        raise  # else somebody was quicker
            return _keep_as_it_is(links, name, ip)
    finally:
        links.close()


def _must_be_of_a_host(name: str, ip: str) -> None:
    """Raise HakoError for the address of a whole network, or one that means all that are in it."""
    (family, number, length), first = split(ip), network_of(ip)[1]
    last = first + (1 << (bits_of(family) - length)) - 1
    if number == first or (number == last and ":" not in ip):
        what = "the network itself" if number == first else "all in its network, by broadcast"
        raise HakoError(
            f"{ip} is the address of {what}", where=name, hint=f"such as {written(family, first + 1)}/{length}"
        )


def _keep_as_it_is(links: Links, name: str, ip: str) -> str:
    link = links.find(name)
    if link is None:
        raise HakoError("somebody has removed it", where=name, hint="try again")
    if link.kind != "bridge":
        raise HakoError(
            f"it is no bridge, but {link.kind or 'a device'}", where=name, hint="take another --bridge-name"
        )
    has = [f"{address_text(one.value)}/{one.length}" for one in links.addresses(link.index)]
    if ip not in has:
        told = f"the bridge is there already with {' and '.join(has) or 'no address'}, and not {ip}"
        way = "hako network rm removes it" if link.alias in _MADE else "others have made it"
        raise HakoError(told, where=name, hint=f"{way}; or take another --bridge-name")
    if link.alias == bridges.OURS:
        links.set(link.index, alias=bridges.KEPT)
        return f"the bridge {name} is there already with {ip}, and stays from now on"
    return f"the bridge {name} is there already with {ip}"


def remove(name: str) -> None:
    """Remove a bridge of ours that no container is on. Raises HakoError, and OSError."""
    with leases.Lock():
        found = one_of(name)
        if found.made == "others":
            raise HakoError("others have made it", where=name, hint=f"ip link delete {name} removes it all the same")
        if found.on_it:
            who = sorted({container for container, _ in found.on_it})
            told = f"the bridge is in use by {', '.join(who)}"
            raise HakoError(told, where=name, hint="; ".join(f"hako kill -n {one}" for one in who))
        if found.ports:
            told = f"the bridge is in use: {', '.join(found.ports)} {'is a port' if len(found.ports) == 1 else 'are ports'} of it"
            raise HakoError(told, where=name, hint=f"ip link set {found.ports[0]} nomaster")
        for address in leases.left_on(name):
            leases.release(name, address)
        firewall.forget(name)
        links = Links(messages.open_socket())
        try:
            bridges.remove(links, name, kept=True)
        finally:
            links.close()
