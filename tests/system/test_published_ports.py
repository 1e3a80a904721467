"""Published ports and NAT with real packets: a host, another machine and two containers, each a network namespace."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes.pidfd import wait_end
from hakoniwa.network import firewall, publishing, sysctls
from hakoniwa.network.reservation import Reservation
from hakoniwa.spec.networks import Published
from tests.conftest import HAKO, Hako
from tests.machines import BRIDGE, SUBNET4, SUBNET6, Inside, Machine, Server, Site, ask, is_deaf
from tests.networks import HOST, OUTSIDE, Host, facts_of, host

__all__ = ["host"]

Writer = Callable[..., Path]

TCP = Published(first=8080, inside=80)
UDP = Published(first=5353, inside=53, protocol="udp")


@pytest.fixture
def site(places: Path) -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


def publish(site: Site, *published: Published, name: str = "one", nat: bool = True) -> None:
    """As a start does it for the first container."""
    addresses = site.ONE if name == "one" else site.TWO
    with site.host.inside():
        firewall.prepare(BRIDGE, SUBNET4, SUBNET6, nat=nat, hosts={one.host for one in published})
        publishing.publish(name, *addresses, published)


def ruleset(machine: Machine) -> str:
    return machine.run("nft", "list", "ruleset")


@pytest.mark.parametrize("bridge_netfilter", ["0", "1"])
@pytest.mark.parametrize("published", [TCP, UDP], ids=["tcp", "udp"])
def test_from_everywhere(site: Site, published: Published, bridge_netfilter: str) -> None:
    for word in ("iptables", "ip6tables"):
        site.host.setting(f"net/bridge/bridge-nf-call-{word}", bridge_netfilter)
    publish(site, published)
    kind, port = published.protocol, published.first
    host4, host6 = site.HOST
    with Server(site.one, published.inside, kind, "one"):
        # Another machine: its own address is seen.
        assert ask(site.outside, host4, port, kind) == "one 192.0.2.2"
        assert ask(site.outside, host6, port, kind) == "one 2001:db8::2"
        # The host, by each of its addresses.
        assert ask(site.host, host4, port, kind) == "one 192.0.2.1"
        assert ask(site.host, host6, port, kind).startswith("one ")
        assert ask(site.host, "10.0.0.1", port, kind) == "one 10.0.0.1"
        assert ask(site.host, "127.0.0.1", port, kind) == "one 10.0.0.1"
        assert ask(site.host, "127.1.2.3", port, kind) == "one 10.0.0.1"
        # A neighbour, and the container itself.
        for machine in (site.two, site.one):
            for address in (host4, "10.0.0.1"):
                assert ask(machine, address, port, kind) == "one 10.0.0.1"
            for address in (host6, "fd00:1::1"):
                assert ask(machine, address, port, kind) == "one fd00:1::1"
        # Neighbours reach each other as ever.
        assert ask(site.two, "10.0.0.2", published.inside, kind) == "one 10.0.0.3"
        with pytest.raises(ConnectionRefusedError):
            ask(site.host, "::1", port, kind)


def test_what_leaves_goes_as_the_host_and_nothing_comes_in_that_is_not_published(site: Site) -> None:
    publish(site, TCP)
    with Server(site.outside, 7, name="far"), Server(site.one, 80, name="one"), Server(site.one, 81, name="one"):
        assert ask(site.one, "192.0.2.2", 7) == "far 192.0.2.1"
        assert ask(site.one, "2001:db8::2", 7) == "far 2001:db8::1"
        site.outside.run("ip", "route", "add", "10.0.0.0/24", "via", "192.0.2.1")
        site.outside.run("ip", "route", "add", "fd00:1::/64", "via", "2001:db8::1")
        for address in site.ONE:
            for port in (80, 81):
                with pytest.raises(OSError, match=r"No route to host|Permission denied"):
                    ask(site.outside, address, port)
        assert ask(site.host, "10.0.0.2", 81) == "one 10.0.0.1"


def test_without_nat_packets_are_routed_as_they_are(site: Site) -> None:
    publish(site, TCP, nat=False)
    site.outside.run("ip", "route", "add", "10.0.0.0/24", "via", "192.0.2.1")
    with Server(site.outside, 7, name="far"), Server(site.one, 81, name="one"), Server(site.one, 80, name="one"):
        assert ask(site.one, "192.0.2.2", 7) == "far 10.0.0.2"
        assert ask(site.outside, "10.0.0.2", 81) == "one 192.0.2.2"
        assert ask(site.two, "192.0.2.1", 8080) == "one 10.0.0.1"


def test_ranges_and_one_address_of_the_host(site: Site) -> None:
    publish(
        site,
        Published(first=9000, count=3, inside=100),
        Published(host="192.0.2.1", first=8081, inside=80),
        Published(host="127.0.0.1", first=8082, inside=80),
        Published(host="2001:db8::1", first=8083, inside=80),
        Published(host="0.0.0.0", first=8084, inside=80),
    )
    with Server(site.one, 80, name="one"), Server(site.one, 102, name="hundred and two"):
        assert ask(site.outside, "192.0.2.1", 9002) == "hundred and two 192.0.2.2"
        with pytest.raises(ConnectionRefusedError):
            ask(site.outside, "192.0.2.1", 9001)
        assert ask(site.outside, "192.0.2.1", 8081) == "one 192.0.2.2"
        assert ask(site.host, "192.0.2.1", 8081) == "one 192.0.2.1"
        assert ask(site.host, "127.0.0.1", 8082) == "one 10.0.0.1"
        assert ask(site.outside, "2001:db8::1", 8083) == "one 2001:db8::2"
        assert ask(site.outside, "192.0.2.1", 8084) == "one 192.0.2.2"
        for address, port in (("10.0.0.1", 8081), ("127.0.0.1", 8081), ("192.0.2.1", 8082), ("192.0.2.1", 8083)):
            with pytest.raises(ConnectionRefusedError):
                ask(site.host, address, port)
        with pytest.raises(ConnectionRefusedError):
            ask(site.outside, "2001:db8::1", 8084)


def test_a_hundred_megabytes_each_way(site: Site) -> None:
    publish(site, TCP)
    content = os.urandom(1 << 20) * 100
    listener = site.one.listen(80)

    def send_back() -> None:
        connection, _ = listener.accept()
        with connection:
            heard = hashlib.sha256()
            while part := connection.recv(1 << 20):
                heard.update(part)
            connection.sendall(heard.digest() + content)

    thread = threading.Thread(target=send_back)
    thread.start()
    with listener, site.outside.connect("192.0.2.1", 8080) as asking:
        asking.sendall(content)
        asking.shutdown(socket.SHUT_WR)
        parts = []
        while part := asking.recv(1 << 20):
            parts.append(part)
    thread.join()
    answer = b"".join(parts)
    assert answer[:32] == hashlib.sha256(content).digest()
    assert answer[32:] == content


def test_a_datagram_follows_the_port_to_its_next_owner(site: Site) -> None:
    """The client keeps its own port, as resolvers may: so its flow is still known to the kernel."""
    with Server(site.one, 53, "udp", "one"), Server(site.two, 53, "udp", "two"):
        publish(site, UDP)
        assert ask(site.outside, "192.0.2.1", 5353, "udp", source=4000) == "one 192.0.2.2"
        with site.host.inside():
            publishing.withdraw("one", *site.ONE, [UDP])
        with pytest.raises(ConnectionRefusedError):
            ask(site.outside, "192.0.2.1", 5353, "udp", source=4000)
        publish(site, UDP, name="two")
        assert ask(site.outside, "192.0.2.1", 5353, "udp", source=4000) == "two 192.0.2.2"


def test_changed_while_it_runs(site: Site) -> None:
    other = Published(first=8090, inside=80)
    publish(site, TCP, UDP)
    with Server(site.one, 80, name="one"), site.outside.connect("192.0.2.1", 8080) as kept:
        with site.host.inside():
            publishing.settle("one", *site.ONE, [other, UDP])
        assert ask(site.outside, "192.0.2.1", 8090) == "one 192.0.2.2"
        with pytest.raises(ConnectionRefusedError):
            ask(site.outside, "192.0.2.1", 8080)
        assert kept.recv(100) == b"one 192.0.2.2"
        with site.host.inside():
            assert publishing.settle("one", "", "", []) == ["5353/udp", "8090/tcp"]
            assert publishing.settle("one", "", "", []) == []


# The table


def test_the_table_comes_with_the_first_bridge_and_goes_with_the_last(site: Site) -> None:
    site.host.links.add_bridge("br1")
    before = {name: site.host.setting(f"net/ipv4/conf/{name}/forwarding") for name in ("up0", BRIDGE, "all")}
    assert set(before.values()) == {"0"}
    with site.host.inside():
        assert firewall.prepare(BRIDGE, SUBNET4, SUBNET6, hosts=("",)) is True
        assert firewall.prepare(BRIDGE, SUBNET4, SUBNET6, hosts=("",)) is False
        assert firewall.prepare("br1", "10.0.1.0/24", nat=True) is False
    assert [site.host.setting(f"net/ipv4/conf/{name}/forwarding") for name in before] == ["1", "1", "0"]
    assert site.host.setting(f"net/ipv4/conf/{BRIDGE}/route_localnet") == "1"
    assert site.host.setting("net/ipv4/conf/br1/route_localnet") == "0"
    assert site.host.setting("net/ipv4/conf/all/route_localnet") == "0"
    with site.host.inside():
        firewall.forget(BRIDGE)
    assert BRIDGE not in ruleset(site.host)
    assert "br1" in ruleset(site.host)
    assert site.host.setting("net/ipv4/conf/up0/forwarding") == "1"
    with site.host.inside():
        firewall.forget("br1")
    assert ruleset(site.host) == ""
    assert {name: site.host.setting(f"net/ipv4/conf/{name}/forwarding") for name in before} == before
    assert site.host.setting(f"net/ipv4/conf/{BRIDGE}/route_localnet") == "0"
    with site.host.inside():
        firewall.forget("br1")


def test_what_somebody_has_set_before_stays(site: Site) -> None:
    site.host.setting("net/ipv4/ip_forward", "1")
    publish(site, TCP)
    with site.host.inside():
        firewall.forget(BRIDGE)
    assert site.host.setting("net/ipv4/conf/up0/forwarding") == "1"


@pytest.mark.parametrize("by_interface", [True, False])
def test_forwarding_of_ipv6(site: Site, by_interface: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Router advertisements are still taken, and all is put back."""
    if not by_interface:
        monkeypatch.setattr(sysctls, "_FORCED", "no_such_setting")  # as before Linux 6.17
    elif not Path("/proc/sys/net/ipv6/conf/all/force_forwarding").exists():
        pytest.skip("this kernel has no force_forwarding")
    site.host.setting("net/ipv6/conf/up0/accept_ra", "1")
    names = [
        f"net/ipv6/conf/{name}" for name in ("all/forwarding", "up0/forwarding", "up0/accept_ra", "default/forwarding")
    ]
    before = [site.host.setting(name) for name in names]
    publish(site, TCP)
    with Server(site.one, 80, name="one"), Server(site.outside, 7, name="far"):
        assert ask(site.outside, "2001:db8::1", 8080) == "one 2001:db8::2"
        assert ask(site.one, "2001:db8::2", 7) == "far 2001:db8::1"
    assert [site.host.setting(name) for name in names] == (before if by_interface else ["1", "1", "2", "1"])
    with site.host.inside():
        firewall.forget(BRIDGE)
    assert [site.host.setting(name) for name in names] == before


READ_ONLY = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys"
NO_NFT = "mount --bind /dev/null /usr/sbin/nft"


def prepare_after(site: Site, mount: str) -> str:
    """What `prepare` says on a host where something is mounted before."""
    code = """
from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes.pidfd import wait_end
from hakoniwa.network import firewall
try:
    print(firewall.prepare("br0", "10.0.0.0/24", "fd00:1::/64", hosts=("",), where="dev.haco.py:3"))
except HakoError as error:
    print(error)
"""
    return site.host.run("unshare", "-m", "sh", "-c", f'{mount}; exec "$@"', "sh", *_PYTHON, code).strip()


def test_settings_that_cannot_be_changed_have_to_be_right(site: Site) -> None:
    told = prepare_after(site, READ_ONLY)
    assert told.startswith(
        f"dev.haco.py:3: cannot set net.ipv4.conf.{BRIDGE}.forwarding to 1, which networks need (it is 0)"
    )
    assert "Read-only file system" in told
    for name in (f"{BRIDGE}/forwarding", "up0/forwarding", f"{BRIDGE}/route_localnet"):
        site.host.setting(f"net/ipv4/conf/{name}", "1")
    site.host.setting("net/ipv6/conf/all/forwarding", "1")
    assert prepare_after(site, READ_ONLY) == "False"
    with site.host.inside():
        firewall.forget(BRIDGE)
    # They were right before, or could not be changed: nothing is put back.
    assert site.host.setting("net/ipv4/conf/up0/forwarding") == "1"


def test_without_nft(site: Site) -> None:
    told = prepare_after(site, NO_NFT)
    assert told.startswith("dev.haco.py:3: cannot make the nftables table inet hakoniwa: nft is not installed")
    assert told.endswith("(apt-get install nftables)")
    publish(site, TCP)
    assert prepare_after(site, NO_NFT) == "False"  # with the table there, nobody needs it


def test_the_host_is_no_router_for_others(site: Site) -> None:
    """Forwarding on the uplink lets its network in to the bridges, and to nothing else that the host can reach."""
    behind = Machine()
    try:
        site.host.join("lan0", behind, "eth0")
        site.host.address("lan0", "198.51.100.1/24")
        behind.address("eth0", "198.51.100.2/24")
        behind.route("eth0", "198.51.100.1")
        site.outside.run("ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.1")
        publish(site, TCP)
        with Server(behind, 7, name="behind"), Server(site.one, 80, name="one"):
            assert is_deaf(site.outside, "198.51.100.2", 7)
            assert ask(site.one, "198.51.100.2", 7) == "behind 198.51.100.1"
            assert ask(behind, "192.0.2.1", 8080) == "one 198.51.100.2"
            # With the rule gone it would be: what the test shows is not for want of a route.
            chain = site.host.run("nft", "-a", "list", "chain", "inet", "hakoniwa", "forward")
            (handle,) = [line.split()[-1] for line in chain.splitlines() if "lent4" in line]
            site.host.run("nft", "delete", "rule", "inet", "hakoniwa", "forward", "handle", handle)
            assert ask(site.outside, "198.51.100.2", 7) == "behind 192.0.2.2"
    finally:
        behind.close()


def test_a_flushed_ruleset_is_made_again(site: Site) -> None:
    publish(site, TCP)
    with Server(site.one, 80, name="one"):
        site.host.run("nft", "flush", "ruleset")
        with pytest.raises(ConnectionRefusedError):
            ask(site.outside, "192.0.2.1", 8080)
        with site.host.inside():
            publishing.withdraw("two", *site.TWO, [UDP])  # the end of another container
            assert firewall.prepare(BRIDGE, SUBNET4, SUBNET6, hosts=("",)) is True
            publishing.settle("one", *site.ONE, [TCP])
        assert ask(site.outside, "192.0.2.1", 8080) == "one 192.0.2.2"


def test_many_at_once_make_one_table(site: Site) -> None:
    code = """
import sys
from hakoniwa.network import firewall, publishing, sysctls
from hakoniwa.spec.networks import Published
number = int(sys.argv[1])
firewall.prepare("br0", "10.0.0.0/24", "fd00:1::/64", hosts=("",))
publishing.publish(f"box{number}", f"10.0.0.{number}", f"fd00:1::{number}", [Published(first=9000 + number, inside=80)])
"""
    with site.host.inside():
        running = [subprocess.Popen([*_PYTHON, code, str(number)]) for number in range(2, 22)]
    assert [one.wait(60) for one in running] == [0] * 20
    text = ruleset(site.host)
    assert text.count("jump publish") == 2
    assert text.count(": 10.0.0.") == 20
    with Server(site.one, 80, name="one"):
        assert ask(site.outside, "192.0.2.1", 9002) == "one 192.0.2.2"


def test_a_table_of_another_version_is_told(site: Site) -> None:
    site.host.run("nft", 'add table inet hakoniwa { comment "layout 0"; }')
    with site.host.inside(), pytest.raises(HakoError, match=r"'layout 0'.*nft delete table inet hakoniwa"):
        firewall.prepare(BRIDGE, SUBNET4)
    with site.host.inside():
        firewall.forget(BRIDGE)
    assert "layout 0" in ruleset(site.host)


def test_one_bridge_cannot_have_nat_and_none(site: Site) -> None:
    publish(site, TCP)
    with site.host.inside(), pytest.raises(HakoError, match=r"with NAT, for other containers.*without NAT"):
        firewall.prepare(BRIDGE, SUBNET4, SUBNET6, nat=False, hosts=("",))


def test_a_bridge_gets_more_networks(site: Site) -> None:
    """As it does when a container is the first on it that wants IPv6."""
    with site.host.inside():
        firewall.prepare(BRIDGE, SUBNET4, hosts=("",))
        publishing.publish("one", site.ONE[0], "", [TCP])
    with Server(site.one, 80, name="one"), Server(site.outside, 7, name="far"):
        assert ask(site.outside, "192.0.2.1", 8080) == "one 192.0.2.2"
        with site.host.inside():
            assert firewall.prepare(BRIDGE, SUBNET4, SUBNET6, hosts=("",)) is False
            assert firewall.prepare(BRIDGE, SUBNET4, hosts=("",)) is False
            publishing.settle("one", *site.ONE, [TCP])
        assert ask(site.outside, "2001:db8::1", 8080) == "one 2001:db8::2"
        assert ask(site.one, "2001:db8::2", 7) == "far 2001:db8::1"
    with site.host.inside():
        firewall.forget(BRIDGE)
    assert ruleset(site.host) == ""


def test_a_host_that_drops_what_it_does_not_know(site: Site) -> None:
    """No rule of ours can let through what another table drops: the host has to, as the guide says."""
    site.host.run(
        *("nft", "-f", "-"),
        input="""table inet filter {
            chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; }
        }""",
    )
    publish(site, TCP)
    with Server(site.one, 80, name="one"):
        assert is_deaf(site.outside, "192.0.2.1", 8080)
        assert ask(site.host, "192.0.2.1", 8080) == "one 192.0.2.1"
        site.host.run("nft", f"add rule inet filter forward oifname {BRIDGE} ct status dnat accept")
        site.host.run("nft", f"add rule inet filter forward iifname {BRIDGE} accept")
        assert ask(site.outside, "192.0.2.1", 8080) == "one 192.0.2.2"


# The ports of the host

_PYTHON = [os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(__file__))), ".venv", "bin", "python"), "-c"]


def test_a_reserved_port_is_nobody_else_s_and_refuses_at_once(site: Site) -> None:
    reservation = Reservation()
    with site.host.inside():
        reservation.take([TCP, UDP])
    for kind, port in (("tcp", 8080), ("udp", 5353)):
        for address in ("::", "0.0.0.0", "127.0.0.1", "192.0.2.1", "::1"):
            with pytest.raises(OSError, match="Address already in use"):
                site.host.listen(port, kind, address)
        for address in ("127.0.0.1", "::1", "192.0.2.1"):
            with pytest.raises(ConnectionRefusedError):
                ask(site.host, address, port, kind)
    reservation.close()
    site.host.listen(8080).close()


@pytest.mark.parametrize("published", [TCP, UDP, TCP.replace(host="192.0.2.1")], ids=["tcp", "udp", "host"])
def test_a_port_that_a_process_has_names_it(site: Site, published: Published) -> None:
    reservation = Reservation()
    with site.host.listen(published.first, published.protocol), site.host.inside():
        with pytest.raises(
            HakoError, match=rf"{published.first}/{published.protocol} .*process {os.getpid()}: .*pytest"
        ):
            reservation.take([Published(first=7000, inside=1), published])
        reservation.take([Published(first=7000, inside=1)])  # it was let go of
    reservation.close()


def test_an_address_that_the_host_has_not(site: Site) -> None:
    with site.host.inside(), pytest.raises(HakoError, match=r"no interface of the host has the address 192\.0\.2\.77"):
        Reservation().take([TCP.replace(host="192.0.2.77")])


def test_closed_connections_are_in_nobody_s_way(site: Site) -> None:
    with site.host.listen(8080) as listener, site.host.connect("127.0.0.1", 8080) as asking:
        connection, _ = listener.accept()
        connection.close()  # this side waits for a minute then
        assert asking.recv(1) == b""
    with site.host.inside():
        with open("/proc/thread-self/net/tcp6") as file:
            assert " 06 " in file.read()  # TCP_TIME_WAIT
        reservation = Reservation()
        reservation.take([TCP])
        reservation.close()


def test_of_two_that_want_a_port_one_gets_it(site: Site) -> None:
    code = """
import sys
from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes.pidfd import wait_end
from hakoniwa.network.reservation import Reservation
from hakoniwa.spec.networks import Published
sys.stdin.read(1)
try:
    (kept := Reservation()).take([Published(first=8080, inside=80, protocol=sys.argv[1])])
    print("got it", flush=True)
except HakoError as error:
    print(error, flush=True)
sys.stdin.read()
"""
    for kind in ("tcp", "udp"):
        with site.host.inside():
            running = [subprocess.Popen([*_PYTHON, code, kind], stdin=-1, stdout=-1, text=True) for _ in range(6)]
        for one in running:
            assert one.stdin is not None
            one.stdin.write("x")
            one.stdin.flush()
        told = [one.stdout.readline() for one in running if one.stdout is not None]
        for one in running:
            one.communicate()
        assert told.count("got it\n") == 1
        assert sum("is taken by process" in line for line in told) == 5


def test_what_a_killed_supervisor_has_left_gives_way(site: Site) -> None:
    publish(site, TCP, UDP)
    with Server(site.two, 80, name="two"):
        publish(site, TCP, name="two")
        assert ask(site.outside, "192.0.2.1", 8080) == "two 192.0.2.2"
    with site.host.inside():
        assert publishing.remove(lambda name: name == "one") == ["the published port 5353/udp of one"]
        assert publishing.remove(lambda name: name == "one") == []
        assert publishing.owner_of(8080, "tcp") == "two"
        told = publishing.remove_leading_to([site.TWO[0]], "three")
    assert told == ["the published port 8080/tcp of two"]


# Whole containers

SLEEP = ("--", "sleep", "1000")
READONLY = "config.rootfs.readonly = True\n"  # so that several can run on one


def started(hako: Hako, path: Path) -> Inside:
    """The network of a container that is started in the background."""
    return Inside(int(hako("start", "-D", path, *SLEEP).stdout.split()[1]))


def supervisor(hako: Hako, name: str) -> int:
    known = json.loads(hako("ps", "--json").stdout)["containers"]
    (found,) = [one["supervisor_pid"] for one in known if one["name"] == name]
    return int(found)


def test_reload_publishes_and_withdraws(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    path = box('config.network.publish("8080:80")')
    with started(hako, path) as inside, Server(inside, 80, name="box"):
        assert ask(host.outside, HOST, 8080) == f"box {OUTSIDE}"
        assert hako("reload", path).stdout == "box: nothing has changed\n"
        box('config.network.publish("8090:80")\nconfig.network.publish("127.0.0.1:8091:80")')
        assert hako("reload", path).stdout == "box: network.published: 8090:80 127.0.0.1:8091:80: applied\n"
        assert ask(host.outside, HOST, 8090) == f"box {OUTSIDE}"
        assert ask(host, "127.0.0.1", 8091) == "box 10.0.0.1"
        with pytest.raises(ConnectionRefusedError):
            ask(host.outside, HOST, 8080)
        host.listen(8080).close()  # it is free
        with pytest.raises(OSError, match="Address already in use"):
            host.listen(8090)
        assert {one["first"] for one in facts_of(places)["published"]} == {8090, 8091}


def test_reload_refuses_a_port_that_is_taken_and_changes_nothing(hako: Hako, box: Writer, host: Host) -> None:
    path = box('config.network.publish("8080:80")')
    with started(hako, path) as inside, Server(inside, 80, name="box"):
        box('config.network.publish("8090-8092:80")')
        with host.listen(8091):
            told = hako("reload", path, status=125).stdout
            assert f"the port 8091/tcp of the host is taken by process {os.getpid()}" in told
        assert ask(host.outside, HOST, 8080) == f"box {OUTSIDE}"
        for port in (8090, 8091):
            host.listen(port).close()
        assert "network.published: 8090-8092:80: applied" in hako("reload", path).stdout
        assert ask(host.outside, HOST, 8090) == f"box {OUTSIDE}"


def test_reload_gives_ports_to_a_container_that_had_none_and_repairs(hako: Hako, box: Writer, host: Host) -> None:
    path = box('config.network.container_ip = "auto"')
    with started(hako, path) as inside, Server(inside, 80, name="box"):
        box('config.network.publish("8080:80")')
        assert "network.published: 8080:80: applied" in hako("reload", path).stdout
        host.run("nft", "flush", "ruleset")
        assert hako("reload", path).stdout == "box: the firewall, which had lost its table: applied\n"
        assert ask(host.outside, HOST, 8080) == f"box {OUTSIDE}"
    hako("kill", path)
    host.listen(8080).close()


def test_containers_with_and_without_ipv6_on_one_bridge(hako: Hako, box: Writer, host: Host) -> None:
    first = box(READONLY + 'config.network.publish("8080:80")', name="first")
    second = box(READONLY + 'config.network.publish("8081:80")\nconfig.network.container_ip6 = "auto"', name="second")
    one, two = started(hako, first), started(hako, second)
    with one, two, Server(one, 80, name="first"), Server(two, 80, name="second"):
        host.run("nft", "flush", "ruleset")
        hako("reload", first)
        assert ask(host.outside, HOST, 8080) == f"first {OUTSIDE}"
        assert ask(host.outside, HOST, 8081) == f"second {OUTSIDE}"
        assert ask(host.outside, "2001:db8::1", 8081) == "second 2001:db8::2"
    hako("kill", second)
    hako("start", second, "--", "true")


def test_the_end_of_one_whose_table_was_flushed(hako: Hako, box: Writer, host: Host) -> None:
    path = box('config.network.publish("8080:80")')
    started(hako, path).close()
    host.run("nft", "flush", "ruleset")
    hako("kill", path)
    log = hako("logs", path).stdout
    assert "cannot" not in log


def test_datagrams_reach_a_container_that_was_started_anew(hako: Hako, box: Writer, host: Host) -> None:
    """The client keeps its port, and asks while the container is away, too."""
    path = box('config.network.publish("5353:53/udp")')
    with started(hako, path) as inside, Server(inside, 53, "udp", "first"):
        assert ask(host.outside, HOST, 5353, "udp", source=4000) == f"first {OUTSIDE}"
    hako("kill", path)
    with pytest.raises(ConnectionRefusedError):
        ask(host.outside, HOST, 5353, "udp", source=4000)
    box('config.network.publish("5353:53/udp")\nconfig.network.container_ip = "10.0.0.99"')
    with started(hako, path) as inside, Server(inside, 53, "udp", "second"):
        assert ask(host.outside, HOST, 5353, "udp", source=4000) == f"second {OUTSIDE}"


def test_the_port_of_one_whose_supervisor_was_killed(hako: Hako, box: Writer, host: Host) -> None:
    first, second = (box(READONLY + 'config.network.publish("8080:80")', name=name) for name in ("first", "second"))
    with started(hako, first) as inside:
        pidfd = os.pidfd_open(supervisor(hako, "first"))
        os.kill(supervisor(hako, "first"), signal.SIGKILL)
        assert wait_end(pidfd, 10)
        os.close(pidfd)
        assert ruleset(host).count(" . 8080 ") == 1
    with started(hako, second) as inside, Server(inside, 80, name="second"):
        assert ask(host.outside, HOST, 8080) == f"second {OUTSIDE}"
        hako("gc")
        assert ask(host.outside, HOST, 8080) == f"second {OUTSIDE}"
        assert 'comment "first"' not in ruleset(host)


def test_gc_removes_what_a_killed_one_has_published(hako: Hako, box: Writer, host: Host) -> None:
    path = box('config.network.publish("8080:80")')
    started(hako, path).close()
    pidfd = os.pidfd_open(supervisor(hako, "box"))
    os.kill(supervisor(hako, "box"), signal.SIGKILL)
    assert wait_end(pidfd, 10)
    os.close(pidfd)
    hako("gc")
    assert ruleset(host) == ""


def test_containers_of_a_barn_have_each_their_ports(hako: Hako, write_file: Writer, rootfs: Path, host: Host) -> None:
    """Their ports are reserved in the barn's process, which hands them on."""
    body = f"""
config.name = "barn"
config.init_command = ["/bin/sleep", "1000"]
config.chroot_to({str(rootfs)!r})
config.rootfs.readonly = True
for number in range(3):
    with config.define() as container:
        container.name = f"box{{number}}"
        container.network.publish(f"{{8080 + number}}:80")
"""
    path = write_file(body)
    hako("start", "-D", path)
    for number in range(3):
        pid = supervisor(hako, f"box{number}")
        child = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        with Inside(child) as inside, Server(inside, 80, name=f"box{number}"):
            assert ask(host.outside, HOST, 8080 + number) == f"box{number} {OUTSIDE}"
        with pytest.raises(OSError, match="Address already in use"):
            host.listen(8080 + number)
    hako("kill", "-n", "box1")
    host.listen(8081).close()
    for number in (0, 2):
        with pytest.raises(OSError, match="Address already in use"):
            host.listen(8080 + number)
    hako("kill", path)


def test_two_files_that_publish_a_port_at_the_same_moment(hako: Hako, box: Writer, host: Host) -> None:
    names = [f"box{number}" for number in range(4)]
    paths = [box(READONLY + 'config.network.publish("8080:80")', name=name) for name in names]
    running = [hako.background("start", "-D", path, *SLEEP) for path in paths]
    ended = [(one, *one.communicate(timeout=60)) for one in running]
    assert sorted(one.returncode for one, _, _ in ended) == [0, 125, 125, 125]
    (winner,) = [name for name, (one, _, _) in zip(names, ended, strict=True) if one.returncode == 0]
    for one, _, err in ended:
        assert not one.returncode or f"is published by the container '{winner}'".encode() in err, err
    (pid,) = [int(out.split()[1]) for one, out, _ in ended if one.returncode == 0]
    with Inside(pid) as inside, Server(inside, 80, name=winner):
        assert ask(host.outside, HOST, 8080) == f"{winner} {OUTSIDE}"


def test_fifty_at_once_are_all_reached(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    names = [f"box{number}" for number in range(50)]
    lines = READONLY + 'config.network.publish(f"{9000 + %d}:80")'
    paths = [box(lines % number, name=name) for number, name in enumerate(names)]
    running = [hako.background("start", "-D", path, *SLEEP) for path in paths]
    pids = []
    for one in running:
        out, err = one.communicate(timeout=120)
        assert one.returncode == 0, err
        pids.append(int(out.split()[1]))
    for number, pid in enumerate(pids):
        with Inside(pid) as inside, Server(inside, 80, name=f"box{number}"):
            assert ask(host.outside, HOST, 9000 + number) == f"box{number} {OUTSIDE}"
    ending = [hako.background("kill", path) for path in paths]
    assert [one.communicate(timeout=60)[1] for one in ending] == [b""] * 50
    assert ruleset(host) == ""


def test_what_cannot_be_published_refuses_the_start(hako: Hako, box: Writer, host: Host) -> None:
    path = box('config.network.publish("198.51.100.7:8080:80")')
    told = hako("start", path, "--", "true", status=125).stderr
    assert told.endswith(
        "cannot publish 198.51.100.7:8080/tcp: no interface of the host has the address 198.51.100.7\n"
    )
    assert told.startswith(f"hako: {path}:")
    path = box('config.network.publish("8080:80")')
    command = ["unshare", "-m", "sh", "-c", f'{NO_NFT}; exec "$@"', "sh", str(HAKO), "start", str(path), "--", "true"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 125
    assert "nft is not installed (apt-get install nftables)" in done.stderr
    assert ruleset(host) == ""
