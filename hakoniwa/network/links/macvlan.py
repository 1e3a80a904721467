"""Interfaces that share a device of the host, each with a hardware address of its own: macvlan. `man 8 ip-link`."""

from __future__ import annotations

import os
from errno import EADDRNOTAVAIL, EBUSY, EEXIST, EINVAL, ENETDOWN, EOPNOTSUPP

from hakoniwa.errors import HakoError
from hakoniwa.kernel.netlink.messages import Refused
from hakoniwa.network.facts import InterfaceFacts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.kernel.netlink.routes import Link, Links
    from hakoniwa.spec.networks import Interface

_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}  # MACVLAN_MODE_…, linux/if_link.h


def parent_of(links: Links, interface: Interface) -> Link:
    """The parent of a macvlan, which can be one. Raises HakoError, and OSError."""
    name = interface.parent
    link = links.find(name)
    if link is None:
        raise HakoError(f"there is no interface {name} on the host", hint="ip link shows those that there are")
    if os.path.exists(f"/sys/class/net/{name}/phy80211"):
        told = f"{name} is a wireless interface, which sends with no other hardware address than its own"
        raise HakoError(told, hint="take a bridge: network.add(bridge_name=)")
    if not link.up:
        raise HakoError(f"the interface {name} is down", hint=f"ip link set {name} up")
    return link


def add(outside: Links, inside: Links, namespace: int, interface: Interface, name: str) -> InterfaceFacts:
    """Make the macvlan inside, and set it up. Returns what is known of it then. Raises HakoError, and OSError."""
    parent = parent_of(outside, interface)
    try:
        outside.add_macvlan(
            name, parent.index, _MODES[interface.mode], namespace, mtu=interface.mtu or 0, mac=interface.mac or ""
        )
    except Refused as refused:
        raise _explained(refused, interface, name) from None
    made = inside.find(name)
    if made is None:
        raise HakoError(f"the interface {name} is gone from inside", hint="somebody has removed it: try again")
    addresses = [address for address in (interface.container_ip, interface.container_ip6) if address]
    gateways = [interface.gateway] if interface.gateway else []
    try:
        inside.set_up(made.index, [_parts(address) for address in addresses], gateways)
    except Refused as refused:
        raise _explained(refused, interface, name) from None
    return InterfaceFacts(
        name=name,
        address=interface.container_ip or "",
        address6=interface.container_ip6 or "",
        gateway=interface.gateway if ":" not in interface.gateway else "",
        gateway6=interface.gateway if ":" in interface.gateway else "",
        mac=made.mac,
        mtu=made.mtu,
        nat=False,
        index=made.index,
    )


def _parts(address: str) -> tuple[str, int]:
    bare, _, length = address.partition("/")
    return bare, int(length)


def _explained(refused: Refused, interface: Interface, name: str) -> HakoError:
    parent = interface.parent
    hints = {
        EEXIST: f"there is another {name} inside: veth_guest names it otherwise",
        EBUSY: f"{parent} is in use: as a port of a bridge, or whole by another macvlan (passthru)",
        EINVAL: f"{parent} cannot have a macvlan, or none in this mode beside those that it has",
        EADDRNOTAVAIL: "a hardware address has an even first byte, such as 02:00:00:00:00:07",
        ENETDOWN: f"ip link set {parent} up",
        EOPNOTSUPP: "does the kernel have macvlan?",
    }
    told = f"cannot make the macvlan {name} of {parent}: {refused.strerror}"
    return HakoError(told, hint=hints.get(refused.errno or 0, ""))
