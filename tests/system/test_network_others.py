"""Interfaces that are on no bridge, and networks that are another container's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Hako
from tests.machines import Server
from tests.networks import HOST, OUTSIDE, TOKEN, UPLINK, Host, address_of, facts_of, host

__all__ = ["host"]

Writer = Callable[..., Path]
READONLY = "config.rootfs.readonly = True\n"
AUTO = 'config.network.container_ip = "auto"\n'
SLEEP = ("--", "sleep", "1000")


def macvlan(**words: str) -> str:
    given = "".join(f", {name}={value!r}" for name, value in words.items())
    return f'config.network.add("macvlan"{given})\n'


# macvlan


def test_a_macvlan_is_a_machine_of_its_own_beside_the_host(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    path = box(macvlan(parent=UPLINK, container_ip="192.0.2.7/24", gateway=OUTSIDE, mac="02:00:00:00:00:07"))
    with Server(host.outside, 7000, name="outside"):
        assert hako("start", path, "--", "nc", OUTSIDE, "7000").stdout == "outside 192.0.2.7"
    (found,) = facts_of(places)["interfaces"]
    assert (found["name"], found["address"], found["gateway"]) == ("eth0", "192.0.2.7/24", OUTSIDE)
    assert found["mac"] == "02:00:00:00:00:07"
    assert host.run("ip", "-o", "link").count("macvlan") == 0


def test_a_macvlan_beside_a_bridge(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    path = box(AUTO + macvlan(parent=UPLINK, container_ip="192.0.2.7/24", veth_guest="lan0", mode="private"))
    said = hako("start", path, "--", "sh", "-c", "ip -4 -o address; ip route").stdout
    assert "eth0    inet 10.0.0." in said
    assert "lan0    inet 192.0.2.7/24" in said
    assert "default via 10.0.0.1 dev eth0" in said
    assert [one["name"] for one in facts_of(places)["interfaces"]] == ["eth0", "lan0"]
    hako("start", path, "--", "true")


def test_a_macvlan_with_the_default_route_beside_a_bridge(hako: Hako, box: Writer, host: Host) -> None:
    path = box(AUTO + macvlan(parent=UPLINK, container_ip="192.0.2.7/24", gateway=OUTSIDE))
    said = hako("start", path, "--", "ip", "route").stdout
    assert said.count("default") == 1
    assert f"default via {OUTSIDE} dev eth1" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"parent": "none0"}, "there is no interface none0 on the host"),
        ({"parent": "lo"}, "lo cannot have a macvlan"),
        ({"parent": UPLINK, "rate": "1M"}, "the rate of a macvlan is not limited"),
        ({"parent": UPLINK, "container_ip": "auto"}, "nobody gives a macvlan an address by itself"),
    ],
)
def test_a_macvlan_that_cannot_be_is_refused(
    hako: Hako, box: Writer, host: Host, words: dict[str, str], told: str
) -> None:
    path = box(macvlan(**words))
    refused = hako("start", path, "--", "true", status=125).stderr
    assert told in refused
    assert f"{path}:" in refused


def test_a_parent_that_is_down_is_told(hako: Hako, box: Writer, host: Host) -> None:
    host.links.set(UPLINK, up=False)
    refused = hako("start", box(macvlan(parent=UPLINK)), "--", "true", status=125).stderr
    assert f"the interface {UPLINK} is down (ip link set {UPLINK} up)" in refused
    host.links.set(UPLINK, up=True)
    host.route(UPLINK, OUTSIDE)
    host.address(UPLINK, "2001:db8::1/64")
    host.route(UPLINK, "2001:db8::2")


def test_a_parent_that_another_has_whole(hako: Hako, box: Writer, host: Host) -> None:
    hako("start", "-D", box(READONLY + macvlan(parent=UPLINK, mode="passthru"), name="one"), *SLEEP)
    refused = hako("start", box(READONLY + macvlan(parent=UPLINK), name="two"), "--", "true", status=125).stderr
    assert f"cannot make the macvlan eth0 of {UPLINK}" in refused
    assert "passthru" in refused or "none in this mode" in refused


# Names that haconiwa has


def test_a_namespace_with_a_name_is_known_to_ip_netns(hako: Hako, box: Writer, host: Host) -> None:
    name = f"web{TOKEN}"
    path = box(f"""
config.network.namespace = "{name}"
config.network.container_ip = "10.0.0.5"
config.network.veth_host = "web0_h"
config.network.veth_guest = "web0"
""")
    hako("start", "-D", path, *SLEEP)
    assert "inet 10.0.0.5/24" in host.run("ip", "netns", "exec", name, "ip", "-4", "-o", "address", "show", "web0")
    assert "web0_h" in host.names()
    hako("kill", path)
    assert not os.path.exists(f"/run/netns/{name}")


# share_with


def test_one_of_a_barn_has_the_network_of_another(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    path = box("""
config.rootfs.readonly = True
with config.define() as c:
    c.name = "side"
    c.network.share_with("app")
    c.init_command = ["/bin/sleep", "1000"]
with config.define() as c:
    c.name = "app"
    c.network.publish("8080:80")
    c.init_command = ["nc", "-ll", "-p", "80", "-e", "hostname"]
""")
    hako("start", "-D", path)
    app, side = (hako("attach", "-n", name, "--", "readlink", "/proc/self/ns/net").stdout for name in ("app", "side"))
    assert app == side
    said = hako("attach", "-n", "side", "--", "sh", "-c", "until nc 127.0.0.1 80; do :; done").stdout
    assert said == "app\n"
    address = address_of(places, "app")
    assert address_of(places, "side") == address
    hosts = hako("attach", "-n", "side", "--", "cat", "/etc/hosts").stdout
    assert f"{address} side" in hosts
    listed = {one["name"]: one for one in json.loads(hako("ps", "--json").stdout)["containers"]}
    assert listed["side"]["network"]["published"] == []
    hako("kill", path)


def test_the_network_of_one_that_runs(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    app = box(READONLY + AUTO, name="app")
    side = box(READONLY + 'config.network.share_with("app")', name="side")
    refused = hako("start", side, "--", "true", status=125).stderr
    assert f"{side}:" in refused
    assert "network.share_with: the container 'app' does not run" in refused
    hako("start", "-D", app, *SLEEP)
    said = hako("start", side, "--", "ip", "-4", "-o", "address").stdout
    assert f"inet {address_of(places, 'app')}/24" in said
    hako("kill", app)


def test_one_that_has_the_host_s_network_has_none_to_share(hako: Hako, box: Writer, host: Host) -> None:
    hako("start", "-D", box(READONLY, name="app"), *SLEEP)
    side = box(READONLY + 'config.network.share_with("app")', name="side")
    refused = hako("start", side, "--", "true", status=125).stderr
    assert "the container 'app' has the host's network (leave config.network out" in refused
    hako("kill", "-n", "app")


def test_one_of_a_barn_that_does_not_come_up_is_not_waited_for_for_long(hako: Hako, box: Writer, host: Host) -> None:
    path = box(
        """
config.rootfs.readonly = True
with config.define() as c:
    c.name = "app"
    c.network.container_ip = "10.7.0.1"
    c.network.bridge_ip = "10.7.0.1/24"
    c.network.bridge_name = "none0"
    c.init_command = ["/nothing/is/here"]
with config.define() as c:
    c.name = "side"
    c.network.share_with("app")
""".replace('"10.7.0.1"\n', '"10.7.0.2"\n')
    )
    refused = hako("start", "-D", path, status=None).stderr
    assert "the container 'app' does not run: it was not started, or has ended already" in refused


def test_who_shares_a_network_does_not_lift_its_policy(hako: Hako, box: Writer, host: Host) -> None:
    hako("start", "-D", box(f'{READONLY}{AUTO}config.network.policy = "none"', name="app"), *SLEEP)
    lines = 'config.network.share_with("app")\nconfig.capabilities.allow("cap_net_admin")'
    refused = hako("start", box(READONLY + lines, name="side"), "--", "true", status=125).stderr
    assert "the container 'app' has a policy, and cap_net_admin can lift" in refused
    side = box(READONLY + 'config.network.share_with("app")', name="side")
    with Server(host, 7000, name="the host"):
        hako("start", side, "--", "nc", "-w", "1", HOST, "7000", status=1)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            'config.network.publish("80:80")',
            "published and share_with exclude each other: the network is app's (set it in app",
        ),
        ('config.namespace.unshare("net")', "a net namespace of its own and share_with exclude each other"),
        ('config.namespace.use_netns("x")', "exclude each other"),
    ],
)
def test_what_does_not_go_with_another_s_network(hako: Hako, box: Writer, lines: str, told: str) -> None:
    path = box(f'config.network.share_with("app")\n{lines}')
    refused = hako("check", path, status=125).stderr
    assert told in refused
    assert f"{path}:" in refused


def test_a_network_of_its_own_and_one_that_is_entered(hako: Hako, box: Writer) -> None:
    for line in ('config.namespace.use_netns("x")', 'config.namespace.enter("net", via="/run/netns/x")'):
        refused = hako("check", box(AUTO + line), status=125).stderr
        assert (
            "a network of its own, and a net namespace that is entered, exclude each other (remove one of the two"
            in refused
        )
