"""Links, addresses and routes by netlink, in network namespaces of the tests' own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakoniwa.kernel.netlink import messages, routes
from hakoniwa.kernel.netlink.routes import Links, Veth


class Namespace(Links):
    """The links of a namespace, and a descriptor of it."""

    number = -1


def _namespace() -> Iterator[Namespace]:
    with subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec cat"], stdin=-1, stdout=-1) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.read(1)
        number = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        found = Namespace(messages.open_socket(number))
        found.number = number
        yield found
        found.close()
        os.close(number)
        holder.stdin.close()


ours = pytest.fixture(name="ours")(_namespace)
theirs = pytest.fixture(name="theirs")(_namespace)


def test_a_pair_joins_a_namespace_to_a_bridge(ours: Namespace, theirs: Namespace) -> None:
    before = Path("/proc/self/ns/net").readlink()
    messages.open_socket(ours.number).close()
    assert Path("/proc/self/ns/net").readlink() == before
    ours.add_bridge("br0", mtu=1400, alias="of a test")
    bridge = ours.find("br0")
    assert bridge is not None
    assert (bridge.kind, bridge.mtu, bridge.alias, bridge.up) == ("bridge", 1400, "of a test", True)
    ours.add_address(bridge.index, "10.0.0.1", 24)
    ours.add_address(bridge.index, "fd00::1", 64)
    told = {(routes.address_text(one.value), one.length) for one in ours.addresses(bridge.index)}
    assert told == {("10.0.0.1", 24), ("fd00::1", 64)}

    pair = Veth(
        name="hk0", master=bridge.index, peer="eth0", namespace=theirs.number, mtu=1300, mac="02:00:00:00:00:07"
    )
    ours.add_veth(pair.replace(alias="me", isolated=True))
    port, guest = ours.find("hk0"), theirs.find("eth0")
    assert port is not None
    assert guest is not None
    assert (port.master, port.alias, port.kind) == (bridge.index, "me", "veth")
    assert (guest.mac, guest.mtu, guest.up) == ("02:00:00:00:00:07", 1300, False)
    theirs.set("lo", up=True)
    theirs.set(guest.index, up=True)
    theirs.add_address(guest.index, "10.0.0.7", 24)
    theirs.add_route(guest.index, "10.0.0.1")
    (default,) = [route for route in theirs.routes(routes.IPV4) if route.length == 0]
    assert routes.address_text(default.gateway) == "10.0.0.1"
    assert theirs.uplink() == theirs.find("eth0")
    assert {link.name for link in ours.every()} >= {"lo", "br0", "hk0"}
    ours.delete("hk0")
    assert ours.find("hk0") is None
    assert theirs.find("eth0") is None


def test_what_is_refused_says_why_and_leaves_nothing(ours: Namespace, theirs: Namespace) -> None:
    ours.add_bridge("br0")
    with pytest.raises(messages.Refused, match="File exists"):
        ours.add_bridge("br0", alias="another's")
    there = ours.find("br0")
    assert there is not None
    assert there.alias == "", "what is there is not changed"
    lo = theirs.find("lo")
    assert lo is not None
    theirs.set(lo.index, up=True)
    with pytest.raises(OSError, match="Network is unreachable: Nexthop has invalid gateway"):
        theirs.add_route(lo.index, "10.9.0.1")
    # A pair whose second message is refused: what is to be an isolated port is none of a bridge's.
    with pytest.raises(messages.Refused, match="not supported"):
        ours.add_veth(Veth(name="hk0", master=lo.index, peer="eth0", namespace=theirs.number))
    assert ours.find("hk0") is None
    assert theirs.find("eth0") is None
    assert ours.find("br0") is not None, "the socket goes on"


def test_a_list_of_many_comes_whole(ours: Namespace) -> None:
    for number in range(150):
        ours.add_bridge(f"br{number}")
    assert len(ours.every()) == 151
