"""What published ports could open besides themselves: attacks with real packets, each shown to work without what is in its way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hakoniwa.network import firewall, publishing
from hakoniwa.spec.networks import Published
from tests.machines import BRIDGE, SUBNET4, SUBNET6, Machine, Server, Site, ask, is_deaf

WEB = Published(first=8080, inside=80)


@pytest.fixture
def site(places: Path) -> Iterator[Site]:
    made = Site()
    with made.host.inside():
        firewall.prepare(BRIDGE, SUBNET4, SUBNET6, hosts=("",))
        publishing.publish("one", *made.ONE, [WEB, WEB.replace(host="127.0.0.1", first=8081)])
    yield made
    made.close()


def without_rules(machine: Machine, chain: str, *words: str) -> None:
    """Delete the rules of a chain of ours that have all these words."""
    text = machine.run("nft", "-a", "list", "chain", "inet", "hakoniwa", chain)
    handles = [line.split()[-1] for line in text.splitlines() if all(word in line for word in words)]
    assert handles
    for handle in handles:
        machine.run("nft", "delete", "rule", "inet", "hakoniwa", chain, "handle", handle)


def lead_loopback_out(machine: Machine, gateway: str) -> None:
    """Have packets to 127.0.0.1 leave a machine, as its root can."""
    machine.setting("net/ipv4/conf/eth0/route_localnet", "1")
    machine.run("ip", "address", "flush", "dev", "lo")
    machine.run("ip", "route", "add", "127.0.0.0/8", "via", gateway, "dev", "eth0")


def test_a_container_does_not_reach_what_listens_on_127_0_0_1(site: Site) -> None:
    """CVE-2020-8558: route_localnet, without which 127.0.0.1:8080 would lead nowhere, lets packets to 127.0.0.1 in, too."""
    lead_loopback_out(site.two, "10.0.0.1")
    with Server(site.host, 7000, name="for the host alone", host="127.0.0.1"):
        assert is_deaf(site.two, "127.0.0.1", 7000)
        without_rules(site.host, "guard", "daddr")
        assert ask(site.two, "127.0.0.1", 7000) == "for the host alone 10.0.0.3"


def test_what_is_published_on_127_0_0_1_is_not_reached_from_elsewhere(site: Site) -> None:
    """The kernel drops what comes from elsewhere to 127.0.0.1; but a rule that has changed that address is earlier."""
    lead_loopback_out(site.outside, "192.0.2.1")
    with Server(site.one, 80, name="one"):
        assert ask(site.host, "127.0.0.1", 8081) == "one 10.0.0.1"
        assert is_deaf(site.outside, "127.0.0.1", 8081)
        with pytest.raises(ConnectionRefusedError):
            ask(site.outside, "192.0.2.1", 8081)
        without_rules(site.host, "prerouting", "127.0.0.0/8")
        assert ask(site.outside, "127.0.0.1", 8081) == "one 192.0.2.2"


def test_who_knows_the_way_gets_no_further_than_published_ports(site: Site) -> None:
    """A machine of the uplink's network takes the host for a router to the container: the port that is published on 127.0.0.1 alone,
    and those that are not published at all.
    """
    site.outside.run("ip", "route", "add", "10.0.0.0/24", "via", "192.0.2.1")
    with Server(site.one, 80, name="one"):
        with pytest.raises(OSError, match="No route to host"):
            ask(site.outside, "10.0.0.2", 80)
        without_rules(site.host, "inward", "reject")
        assert ask(site.outside, "10.0.0.2", 80) == "one 192.0.2.2"


def test_an_address_that_changes_hands_brings_no_ports_with_it(site: Site) -> None:
    """A killed supervisor has left its ports, and another container is given its address."""
    with Server(site.one, 80, name="another"):
        assert ask(site.outside, "192.0.2.1", 8080) == "another 192.0.2.2"
        with site.host.inside():
            told = publishing.remove_leading_to(site.ONE, "another")
        assert told == ["the published port 127.0.0.1:8081/tcp of one", "the published port 8080/tcp of one"]
        with pytest.raises(ConnectionRefusedError):
            ask(site.outside, "192.0.2.1", 8080)
