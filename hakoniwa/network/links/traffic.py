"""What has passed through the ports of a bridge, and who was seen on it: asked by pyroute2.

The library knows what each message of the kernel means, where ours (kernel/netlink) knows what a start needs. It takes 0.2 s to
load, so that `hako network inspect` alone does. `man 7 rtnetlink`.
"""

from __future__ import annotations

from pyroute2 import IPRoute

from hakoniwa.errors import HakoError
from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# States of a neighbour (NUD_…), linux/neighbour.h
_STATES = {0x01: "incomplete", 0x02: "reachable", 0x04: "stale", 0x08: "delay", 0x10: "probe", 0x20: "failed"}
_STATES |= {0x40: "noarp", 0x80: "permanent"}


class Passed(Record):
    """What has gone one way since the link was made."""

    bytes: int
    packets: int
    dropped: int
    errors: int


class Port(Record):
    """A link that is a port of a bridge, `container` being its alias; seen from what is behind it."""

    name: str
    container: str
    sent: Passed
    received: Passed


class Neighbour(Record):
    """Who the host has looked for on a bridge; `mac` is empty as long as nobody has answered."""

    address: str
    mac: str
    state: str


class Traffic(Record):
    """All of a bridge."""

    ports: tuple[Port, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()


def on(name: str) -> Traffic:
    """What there was on a bridge so far; nothing if it has gone meanwhile. Raises HakoError if the kernel does not tell."""
    try:
        with IPRoute() as kernel:
            links = [*kernel.get_links()]
            bridge = next((link for link in links if link.get_attr("IFLA_IFNAME") == name), None)
            if bridge is None:
                return Traffic()
            ports = [link for link in links if link.get_attr("IFLA_MASTER") == bridge["index"]]
            seen = [*kernel.get_neighbours(ifindex=bridge["index"])]
    except OSError as error:
        raise HakoError(f"what has passed through it cannot be told: {error.strerror or error}", where=name) from None
    return Traffic(
        ports=tuple(
            Port(
                name=link.get_attr("IFLA_IFNAME"),
                container=link.get_attr("IFLA_IFALIAS") or "",
                sent=_passed(link.get_attr("IFLA_STATS64"), "rx"),
                received=_passed(link.get_attr("IFLA_STATS64"), "tx"),
            )
            for link in ports
        ),
        neighbours=tuple(
            Neighbour(
                address=one.get_attr("NDA_DST"),
                mac=one.get_attr("NDA_LLADDR") or "",
                state=_STATES.get(one["state"], "none"),
            )
            for one in seen
            if one.get_attr("NDA_DST")
        ),
    )


def _passed(counted: Mapping[str, int], way: str) -> Passed:
    """One way, by the host's end: what the host receives there, the other end has sent."""
    return Passed(
        bytes=counted[f"{way}_bytes"],
        packets=counted[f"{way}_packets"],
        dropped=counted[f"{way}_dropped"],
        errors=counted[f"{way}_errors"],
    )
