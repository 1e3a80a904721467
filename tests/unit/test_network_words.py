"""What a file says of its network, and what must hold between that."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa import recordreader
from hakoniwa.errors import Problems
from hakoniwa.haco.loader import load
from hakoniwa.known import statefile
from hakoniwa.network.facts import InterfaceFacts, NetworkFacts
from hakoniwa.network.links.naming import haconiwa_s, link_name, mac_of
from hakoniwa.record import plain
from hakoniwa.spec.networks import Allowed, Interface, Network, Policy, Published, publish_text
from hakoniwa.spec.records import Container

Writer = Callable[..., Path]


def read(path: Path) -> Container:
    (container,) = load(str(path), "check").containers
    return container


def network_of(path: Path) -> Network:
    network = read(path).network
    assert network is not None
    return network


def problems(path: Path) -> list[str]:
    with pytest.raises(Problems) as caught:
        load(str(path), "check")
    return [line.partition(".haco.py")[2] for line in caught.value.lines()]


@pytest.mark.parametrize(
    "lines", ["", "config.network", "with config.network as n:\n    pass", "assert not config.network.enabled"]
)
def test_without_a_word_there_is_none(write_file: Writer, lines: str) -> None:
    container = read(write_file(lines))
    assert container.network is None
    assert "net" not in container.namespaces.own


@pytest.mark.parametrize(
    "line",
    ['config.network.publish("8080:80")', 'config.network.container_ip = "auto"', 'config.network.namespace = "x"'],
)
def test_one_word_is_enough(write_file: Writer, line: str) -> None:
    container = read(write_file(f"{line}\nassert config.network.enabled"))
    assert container.network is not None
    (one,) = container.network.interfaces
    assert (one.kind, one.bridge_name, one.container_ip, one.nat) == ("bridge", "haconiwa0", "auto", True)
    assert container.namespaces.own[-1] == "net"


def test_nobody_can_be_reached_without_an_interface(write_file: Writer) -> None:
    container = read(write_file('config.network.policy = "none"'))
    assert container.network is not None
    assert container.network.interfaces == ()
    assert "net" in container.namespaces.own


def test_haconiwa_s_own_words(write_file: Writer) -> None:
    network = network_of(
        write_file("""
config.network.namespace = "web01"
config.network.container_ip = "10.0.0.10"
config.network.bridge_name = "haconiwa0"
config.network.bridge_ip = "10.0.0.1"
config.network.netmask = "255.255.0.0"
config.network.veth_guest = "veth0"
config.network.cleanup = False
assert config.network.container_ip_with_netmask == "10.0.0.10/16"
""")
    )
    (one,) = network.interfaces
    assert (one.bridge_ip, one.netmask, one.guest, one.host) == ("10.0.0.1", 16, "veth0", haconiwa_s("web01"))
    assert (network.namespace, network.cleanup) == ("web01", False)


def test_further_interfaces(write_file: Writer) -> None:
    network = network_of(
        write_file("""
config.network.container_ip = "auto"
config.network.add(bridge_name="back0", container_ip="10.1.0.7", bridge_ip="10.1.0.1/24", mac="02-00-00-00-00-07")
config.network.add("macvlan", parent="eth1", container_ip="192.0.2.7/24", gateway="192.0.2.1")
config.network.cni("dbnet", IP="10.22.0.5")
""")
    )
    first, back, macvlan, cni = network.interfaces
    assert first.container_ip == "auto"
    assert (back.bridge_name, back.container_ip, back.mac) == ("back0", "10.1.0.7", "02:00:00:00:00:07")
    assert (macvlan.kind, macvlan.parent, macvlan.container_ip) == ("macvlan", "eth1", "192.0.2.7/24")
    assert (cni.kind, cni.cni, cni.cni_arguments, cni.container_ip) == ("cni", "dbnet", {"IP": "10.22.0.5"}, None)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("8080:80", Published(first=8080, inside=80)),
        ("53:5353/udp", Published(first=53, inside=5353, protocol="udp")),
        ("127.0.0.1:8080:80/tcp", Published(host="127.0.0.1", first=8080, inside=80)),
        ("[FD00::0001]:8080:80", Published(host="fd00::1", first=8080, inside=80)),
        ("8000-8009:80", Published(first=8000, count=10, inside=80)),
        ("8000-8009:9000-9009", Published(first=8000, count=10, inside=9000)),
    ],
)
def test_what_is_published(write_file: Writer, text: str, wanted: Published) -> None:
    lines = f'config.network.container_ip6 = "auto"\nconfig.network.publish({text!r})'
    (found,) = network_of(write_file(lines)).published
    assert found.replace(where="") == wanted
    assert publish_text(found) == text.replace("/tcp", "").replace("FD00::0001", "fd00::1").replace("9000-9009", "9000")


def test_a_policy(write_file: Writer) -> None:
    policy = network_of(
        write_file(
            'config.network.policy = ["10.0.0.0/24", "192.0.2.7:443/tcp", "[fd00::7]:53/udp", "fd00::/64", "dns"]'
        )
    ).policy
    assert policy is not None
    assert policy.replace(where="") == Policy(
        default="list",
        allowed=(
            Allowed(network="10.0.0.0/24"),
            Allowed(network="192.0.2.7/32", port=443, protocol="tcp"),
            Allowed(network="fd00::7/128", port=53, protocol="udp"),
            Allowed(network="fd00::/64"),
            Allowed(dns=True),
        ),
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('network.container_ip = "10.0.0.300"', "must be an IPv4 address"),
        ('network.container_ip = "fd00::1"', "(write it in container_ip6)"),
        ('network.container_ip = "10.0.0.7/24"', "(the mask is the bridge's: write it in bridge_ip)"),
        ('network.bridge_ip = "10.0.0.1/31"', "a mask of 1 to 30 bits"),
        ('network.netmask = "255.0.255.0"', "must be a mask of 1 to 30 bits"),
        (
            'network.veth_host = "a-name-of-16-byt"',
            "must be a name of 15 bytes at most, not 'a-name-of-16-byt' (it has 16)",
        ),
        ('network.veth_guest = "a/b"', "must be the name of an interface"),
        ('network.mac = "01:00:00:00:00:00"', "(the first byte is even, such as 02)"),
        ("network.mtu = 20", "from 68 to 65535"),
        ('network.rate = "fast"', "bytes a second"),
        ('network.namespace = "../x"', "must be a name for ip netns"),
        ('network.publish("8080")', "(such as 8080:8080)"),
        ('network.publish("localhost:8080:80")', "'localhost' is no address of the host: 127.0.0.1"),
        ('network.publish("[::1]:8080:80")', "the kernel leads nothing from ::1 elsewhere"),
        ('network.publish("0:80")', "ports go from 1 to 65535"),
        ('network.publish("1-3:65534")', "3 ports from 65534 on go beyond 65535"),
        ('network.publish("1-3:5-6")', "both ranges have as many ports"),
        ('network.publish("80:80/sctp")', "the protocol is tcp or udp"),
        ("network.publish()", "names no port"),
        ('network.policy = "dns"', '(["dns"] lets the resolvers through alone)'),
        ('network.policy = ["10.0.0.7/24"]', "write 10.0.0.0/24"),
        ('network.policy = ["example.org:443"]', "'example.org' is no address: a name may have another one"),
        ('network.hosts["a b"] = "10.0.0.7"', "must be set by a host name"),
        ('network.hosts["db"] = "tenten"', "must be an address"),
        ('network.dns(servers=["ns.example.org"])', "must be a list of addresses"),
        ('network.add("ipvlan")', "is no kind of interface"),
        ("network.add()", "names no bridge"),
        ('network.bridge = "br0"', "config.network.bridge is unknown (did you mean 'bridge_ip'?)"),
        ('network.add(bridge_nam="br0")', "(did you mean 'bridge_name'?)"),
    ],
)
def test_a_wrong_value_is_told_at_its_line(write_file: Writer, line: str, told: str) -> None:
    (problem,) = problems(write_file(f"pass\nconfig.{line}"))
    assert problem.startswith(":5: ")
    assert told in problem


BRIDGE = 'config.network.bridge_ip = "10.0.0.1/24"'


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([BRIDGE, 'config.network.container_ip = "10.0.1.7"'], "is outside of the bridge's network, 10.0.0.0/24"),
        ([BRIDGE, 'config.network.container_ip = "10.0.0.1"'], "is the bridge's own address"),
        ([BRIDGE, 'config.network.container_ip = "10.0.0.0"'], "is the address of the network 10.0.0.0/24 itself"),
        ([BRIDGE, 'config.network.container_ip = "10.0.0.255"'], "is the broadcast address"),
        ([BRIDGE, "config.network.netmask = 16"], "the bridge has 24 bits of mask, and netmask has 16"),
        (["config.network.container_ip6 = 'auto'", "config.network.mtu = 1000"], "below the 1280 that IPv6 takes"),
        (["pass", "config.network.cleanup = False"], "which needs a name (set network.namespace)"),
        (["pass", 'config.network.veth_guest = "lo"'], "lo is the loopback"),
        (
            ["config.network.publish('80:80')", "config.network.publish('1-90:1')"],
            "port 80/tcp of the host is published twice",
        ),
        (
            ["pass", "config.network.publish('[2001:db8::1]:80:80')"],
            '[2001:db8::1]:80 leads nowhere: the container has no IPv6 address (network.container_ip6 = "auto")',
        ),
        (
            ["config.network.container_ip = None", "config.network.publish('80:80')"],
            "80 leads nowhere: the container has no address",
        ),
        (
            ["config.capabilities.allow('cap_net_admin')", "config.network.policy = 'none'"],
            "can lift the policy from inside",
        ),
        (["config.capabilities.allow('all')", "config.network.policy = ['dns']"], "can lift the policy from inside"),
        (
            ["config.capabilities.allow('net_raw')", "config.network.policy = 'none'"],
            "it makes frames that no rule sees",
        ),
        (["config.namespace.use_netns('x')", "config.network.container_ip = 'auto'"], "exclude each other"),
        (["config.flavour = 'fly'", "config.network.container_ip = 'auto'"], "a fly container has the host's network"),
        (
            ["config.network.container_ip = 'auto'", "config.network.add(bridge_name='b', veth_guest='eth0')"],
            "are called eth0",
        ),
        (["pass", "config.network.add('macvlan', container_ip='192.0.2.7/24')"], "a macvlan needs a parent"),
        (
            ["pass", "config.network.add('macvlan', parent='eth1', container_ip='192.0.2.7')"],
            "has no mask (192.0.2.7/24)",
        ),
    ],
)
def test_what_does_not_go_together_is_told_at_its_line(write_file: Writer, lines: list[str], told: str) -> None:
    (problem,) = problems(write_file("\n".join(lines)))
    assert problem.startswith(":5: "), problem
    assert told in problem


def test_a_policy_stands_beside_cap_net_admin_if_the_file_insists(write_file: Writer) -> None:
    lines = 'config.capabilities.allow("cap_net_admin")\nconfig.network.policy = "none"\n'
    policy = network_of(write_file(f"{lines}config.network.policy_can_be_lifted = True")).policy
    assert policy is not None
    assert policy.insist
    assert network_of(write_file(f'{lines}config.capabilities.drop("cap_net_admin")')).policy


def test_who_shares_a_network_that_has_a_policy_cannot_lift_it_either(write_file: Writer) -> None:
    lines = """
with config.define() as c:
    c.name = "a"
    c.network.policy = "none"
with config.define() as c:
    c.name = "b"
    c.network.share_with("a")
    c.capabilities.allow("cap_net_admin")
"""
    (problem,) = problems(write_file(lines))
    assert "a has a policy, and cap_net_admin can lift the policy from inside (drop cap_net_admin, or" in problem
    assert load(str(write_file(lines.replace('c.network.policy = "none"', 'c.network.policy = "any"'))), "check")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('container_ip = "10.0.0.7"', "containers 'a' and 'b' have one container_ip, 10.0.0.7 (give each its own)"),
        ('namespace = "x"', "containers 'a' and 'b' have one network.namespace, x"),
        ('veth_host = "x"', "containers 'a' and 'b' have one veth_host, x"),
        ('publish("8080:80")', "containers 'a' and 'b' publish the port 8080/tcp"),
    ],
)
def test_what_two_containers_of_a_barn_cannot_share(write_file: Writer, line: str, told: str) -> None:
    text = "".join(f'with config.define() as c:\n    c.name = "{name}"\n    c.network.{line}\n' for name in "ab")
    (problem,) = problems(write_file(text))
    assert problem.startswith(":9: ")
    assert told in problem


def test_ports_of_several_addresses_do_not_collide(write_file: Writer) -> None:
    text = 'config.network.publish("127.0.0.1:80:80", "127.0.0.2:80:80", "[fd00::1]:80:80", "80:80/udp")'
    assert len(network_of(write_file(f'config.network.container_ip6 = "auto"\n{text}')).published) == 4


def test_names_of_links_fit_and_differ() -> None:
    names = {
        link_name("x" * length, number, attempt) for length in range(64) for number in (0, 12) for attempt in (0, 1)
    }
    assert len(names) == 256
    assert all(len(name) <= 15 for name in names)
    assert mac_of(bytes([10, 0, 0, 7])) == "0a:68:0a:00:00:07"
    assert haconiwa_s("web01") == "7f1f9680_h"


def test_a_state_of_before_networks_is_read_and_one_with_a_network_comes_back(places: Path, write_file: Writer) -> None:
    container = read(write_file(""))
    made = statefile.Made.of(container)
    facts = NetworkFacts(
        interfaces=(InterfaceFacts(name="eth0", address="10.0.0.7/24", mac="0a:68:0a:00:00:07"),),
        published=(Published(first=8080, inside=80),),
    )
    running = statefile.State(
        **{
            name: getattr(made, name)
            for name in ("file", "name", "barn", "rootfs", "created_at", "metadata", "definition")
        },
        status="running",
        boot_id="a",
        pid=1,
        started=1,
        supervisor_pid=1,
        supervisor_started=1,
        capabilities=0,
        user_namespace=False,
        cgroups=(),
        filters=(),
        pid_file=None,
        log=None,
        network=facts,
    )
    value = json.loads(json.dumps(plain(running)))
    found = recordreader.read(statefile.State, value)
    assert found.network == facts
    assert facts.addresses == ["10.0.0.7"]
    del value["network"]
    for who, before in (("init", ""), ("supervisor", "supervisor_")):  # as it was written then
        value[who] = {field: value.pop(before + field) for field in ("pid", "started")}
    value["definition"]["metadata"] = value.pop("metadata")
    path = places / "old.json"
    path.write_text(json.dumps({"schema": 3, **value}))
    path.chmod(0o600)
    old = statefile.read_known(statefile.State, container.name, str(path))
    assert old is not None
    assert old.network is None


def test_an_interface_is_as_it_is_without_a_word() -> None:
    assert Interface() == Interface(kind="bridge", bridge_name="haconiwa0", container_ip="auto", container_ip6=None)
