"""Containers on bridges: addresses, what they reach, names of namespaces, hooks, and what goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.kernel.processes.pidfd import wait_end
from tests.barns import Barns, barns, document
from tests.conftest import HAKO, Hako
from tests.machines import Machine, Server
from tests.networks import HOST, OUTSIDE, TOKEN, Host, address_of, facts_of, host
from tests.system.stepping import children, stopped_at_step

__all__ = ["barns", "host"]

Writer = Callable[..., Path]

AUTO = 'config.network.container_ip = "auto"\n'
SERVE = ("--", "nc", "-ll", "-p", "80", "-e", "hostname")
SLEEP = ("--", "sleep", "1000")
HARNESS = Path(__file__).with_name("harness.py")
READONLY = "config.rootfs.readonly = True\n"  # so that several can run on one


def told(host: Machine, address: str, port: int = 80) -> str:
    """What a server of `SERVE` says."""
    with host.connect(address, port) as asking:
        return asking.recv(100).decode().strip()


def wait_until_it_listens(hako: Hako, name: str = "box", port: int = 80) -> None:
    wanted = f":{port:04X} "
    hako("attach", "-n", name, "--", "sh", "-c", f"until grep -q {wanted!r} /proc/net/tcp /proc/net/tcp6; do :; done")


# What they reach


def test_host_container_and_neighbour_reach_each_other(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    one, two = (box(READONLY + AUTO, name=name) for name in ("one", "two"))
    for path in (one, two):
        hako("start", "-D", path, *SERVE)
        wait_until_it_listens(hako, path.name.partition(".")[0])
    assert told(host, address_of(places, "one")) == "one"
    assert told(host, address_of(places, "two")) == "two"
    assert hako("attach", "-n", "one", "--", "nc", address_of(places, "two"), "80").stdout == "two\n"
    with Server(host, 7000, name="the host"):
        said = hako("attach", "-n", "one", "--", "nc", "10.0.0.1", "7000").stdout
        assert said == f"the host {address_of(places, 'one')}"
    with Server(host.outside, 7000, name="another machine"):
        assert hako("attach", "-n", "one", "--", "nc", OUTSIDE, "7000").stdout == f"another machine {HOST}"


def test_a_published_port_leads_inside_from_another_machine_and_from_the_host(
    hako: Hako, box: Writer, host: Host
) -> None:
    path = box('config.network.publish("8080:80")')
    hako("start", "-D", path, *SERVE)
    wait_until_it_listens(hako)
    assert told(host.outside, HOST, 8080) == "box"
    for address in (HOST, "127.0.0.1", "10.0.0.1"):
        assert told(host, address, 8080) == "box"
    other = box(READONLY + 'config.network.publish("8080:81")', name="other")
    refused = hako("start", other, "--", "true", status=125)
    assert "the port 8080/tcp of the host is published by the container 'box'" in refused.stderr
    assert f"{other}:" in refused.stderr
    hako("kill", path)
    with pytest.raises(ConnectionRefusedError):
        host.connect("127.0.0.1", 8080)


def test_what_the_firewall_has_lost_is_there_again_with_the_next_start(hako: Hako, box: Writer, host: Host) -> None:
    path = box(READONLY + 'config.network.publish("8080:80")')
    hako("start", "-D", path, *SERVE)
    wait_until_it_listens(hako)
    host.run("nft", "flush", "ruleset")
    done = hako("start", box(READONLY + AUTO, name="other"), "--", "true")
    assert "box: the firewall had lost what it publishes, and has it again" in done.stderr
    assert told(host.outside, HOST, 8080) == "box"


def test_ipv6_is_there_at_once(hako: Hako, box: Writer, host: Host) -> None:
    path = box('config.network.container_ip6 = "auto"')
    with Server(host, 7000, name="the host"):
        done = hako("start", path, "--", "nc", "fd68:616b:6f::1", "7000")
        assert done.stdout.startswith("the host fd68:616b:6f::")
    with Server(host.outside, 7000, name="outside"):
        assert hako("start", path, "--", "nc", "2001:db8::2", "7000").stdout == "outside 2001:db8::1"


def test_without_an_address_of_ipv4(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    path = box(
        'config.network.container_ip = None\nconfig.network.container_ip6 = "fd07::7"\n'
        'config.network.bridge_name = "six0"\nconfig.network.bridge_ip6 = "fd07::1"'
    )
    assert "fd07::7/64" in hako("start", path, "--", "ip", "address").stdout
    (found,) = facts_of(places)["interfaces"]
    assert (found["address"], found["address6"], found["gateway6"]) == ("", "fd07::7/64", "fd07::1")


def test_what_an_interface_is_asked_to_be(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    path = box("""
config.network.container_ip = "10.0.0.77"
config.network.mtu = 1400
config.network.mac = "02:00:00:00:00:07"
config.network.veth_host = "of-the-box"
config.network.veth_guest = "lan0"
""")
    pid = int(hako("start", "-D", path, *SLEEP).stdout.split()[1])
    inside = hako("attach", path, "--", "sh", "-c", "ip -o link show lan0; ip -4 -o address show lan0; ip route").stdout
    assert "mtu 1400" in inside
    assert "02:00:00:00:00:07" in inside
    assert "inet 10.0.0.77/24" in inside
    assert "default via 10.0.0.1 dev lan0" in inside
    end = host.links.find("of-the-box")
    assert end is not None
    assert (end.alias, end.mtu, end.kind) == ("box", 1400, "veth")
    assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")


def test_several_interfaces(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    path = box(f"""
{AUTO}
config.network.add(bridge_name="back0", bridge_ip="10.7.0.1/16", container_ip="10.7.8.9")
""")
    said = hako("start", path, "--", "sh", "-c", "ip -4 -o address; ip route").stdout
    assert "eth0    inet 10.0.0." in said
    assert "eth1    inet 10.7.8.9/16" in said
    assert said.count("default") == 1
    assert [one["bridge"] for one in facts_of(places)["interfaces"]] == ["haconiwa0", "back0"]


def test_neighbours_do_not_see_one_that_is_isolated(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    lines = READONLY + AUTO + "config.network.isolated = True\n"
    for name in ("one", "two"):
        hako("start", "-D", box(lines, name=name), *SERVE)
        wait_until_it_listens(hako, name)
    assert told(host, address_of(places, "one")) == "one"
    hako("attach", "-n", "one", "--", "nc", "-w", "1", address_of(places, "two"), "80", status=1)


def test_an_offline_container_has_loopback_alone(hako: Hako, box: Writer, host: Host) -> None:
    path = box('config.network.policy = "none"')
    said = hako("start", path, "--", "ip", "-o", "link").stdout
    assert said.count("\n") == 1
    assert "lo: <LOOPBACK,UP" in said


# Addresses


def test_an_address_is_the_same_again_at_the_next_start(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    path = box(AUTO)
    hako("start", path, "--", "true")
    first = address_of(places)
    hako("start", path, "--", "true")
    assert address_of(places) == first
    # Somebody who has it meanwhile keeps it.
    other = box(f'{READONLY}config.network.container_ip = "{first}"', name="other")
    hako("start", "-D", other, *SLEEP)
    hako("start", path, "--", "true")
    second = address_of(places)
    assert second != first
    hako("kill", other)
    hako("start", path, "--", "true")
    assert address_of(places) == second, "the last one counts"


def test_fifty_at_once_have_fifty_addresses(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    members = "".join(f'with config.define() as c: c.name = "m{number}"\n' for number in range(45))
    path = box(f'{READONLY}{AUTO}config.init_command = ["/bin/sleep", "1000"]\n{members}')
    alone = [box(READONLY + AUTO, name=f"alone{number}") for number in range(5)]
    starting = [hako.background("start", "-D", one, *SLEEP) for one in alone]
    hako("start", "-D", path)
    for one in starting:
        assert one.wait(60) == 0, one.stderr and one.stderr.read()
        one.communicate()
    names = [f"m{number}" for number in range(45)] + [f"alone{number}" for number in range(5)]
    assert len({address_of(places, name) for name in names}) == 50
    assert len([name for name in host.names() if name.startswith("hk")]) == 50
    hako("kill", "-T", "0", path)


def test_a_full_network_refuses_and_a_killed_one_s_address_is_free(hako: Hako, box: Writer, host: Host) -> None:
    lines = f'{READONLY}{AUTO}config.network.bridge_name = "tiny0"\nconfig.network.bridge_ip = "10.9.0.1/30"\n'
    hako("start", "-D", box(lines, name="one"), *SLEEP)
    (known,) = json.loads(hako("ps", "--json").stdout)["containers"]
    two = box(lines, name="two")
    refused = hako("start", two, "--", "true", status=125)
    assert f"{two}:8: no address of 10.9.0.0/30 is free: 1 are in use on tiny0" in refused.stderr
    pidfd = os.pidfd_open(known["pid"])
    os.kill(known["supervisor_pid"], signal.SIGKILL)
    assert wait_end(pidfd, 10)
    os.close(pidfd)
    assert "inet 10.9.0.2/30" in hako("start", two, "--", "ip", "-4", "address").stdout
    hako("gc")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.0.1.7", "10.0.1.7 is outside of the bridge's network, 10.0.0.0/24 (haconiwa0 has 10.0.0.1/24)"),
        ("10.0.0.1", "10.0.0.1 is the bridge's own address"),
        ("10.0.0.255", "is the broadcast address"),
    ],
)
def test_an_address_that_the_bridge_has_no_place_for(
    hako: Hako, box: Writer, host: Host, address: str, why: str
) -> None:
    host.links.add_bridge("haconiwa0")
    host.address("haconiwa0", "10.0.0.1/24")
    path = box(f'config.network.container_ip = "{address}"')
    done = hako("start", path, "--", "true", status=125)
    assert f"{path}:" in done.stderr
    assert why in done.stderr
    host.links.delete("haconiwa0")


def test_a_bridge_is_made_around_the_address_that_a_file_names(hako: Hako, box: Writer, host: Host) -> None:
    path = box('config.network.container_ip = "10.254.254.10"\nconfig.network.bridge_name = "own0"')
    said = hako("start", path, "--", "sh", "-c", "ip -4 -o address; ip route").stdout
    assert "10.254.254.10/24" in said
    assert "default via 10.254.254.1" in said


def test_who_has_an_address_is_named(hako: Hako, box: Writer, host: Host) -> None:
    lines = f'{READONLY}config.network.container_ip = "10.0.0.7"\n'
    hako("start", "-D", box(lines, name="one"), *SLEEP)
    done = hako("start", box(lines, name="two"), "--", "true", status=125)
    assert "the address 10.0.0.7 on haconiwa0 is that of the container 'one' (hako kill -n one" in done.stderr


# Bridges


def test_a_bridge_comes_with_the_first_and_goes_with_the_last(hako: Hako, box: Writer, host: Host) -> None:
    one, two = (box(READONLY + AUTO, name=name) for name in ("one", "two"))
    assert "haconiwa0" not in host.names()
    hako("start", "-D", one, *SLEEP)
    hako("start", "-D", two, *SLEEP)
    link = host.links.find("haconiwa0")
    assert link is not None
    assert (link.kind, link.alias, link.up) == ("bridge", "hakoniwa", True)
    hako("kill", one)
    assert "haconiwa0" in host.names()
    hako("kill", two)
    assert "haconiwa0" not in host.names()


def test_a_bridge_that_is_somebody_else_s_is_used_as_it_is_and_stays(
    hako: Hako, box: Writer, host: Host, places: Path
) -> None:
    host.links.add_bridge("theirs0", mtu=1300)
    host.address("theirs0", "172.30.0.1/16")
    path = box(f'{AUTO}config.network.bridge_name = "theirs0"')
    said = hako("start", path, "--", "sh", "-c", "ip link; ip route").stdout
    assert "mtu 1300" in said
    assert "default via 172.30.0.1" in said
    assert "172.30.0.0/16 dev eth0" in said
    assert "theirs0" in host.names()
    host.links.delete("theirs0")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('bridge_ip = "10.5.0.1/24"', "the bridge br0 has 10.4.0.1/24, and the file says 10.5.0.1/24"),
        ('bridge_ip = "10.4.0.1/16"', "the bridge br0 has 10.4.0.1/24, and the file says 10.4.0.1/16"),
        ('container_ip6 = "auto"', "the bridge br0 has no IPv6 address"),
        ('bridge_name = "up0"', "up0 is no bridge, but veth"),
        ('bridge_name = "down0"', "the bridge down0 is down (ip link set down0 up)"),
        ('bridge_name = "new0"\nconfig.network.bridge_ip = "192.0.2.9/26"', "192.0.2.0/24 is reached through up0"),
    ],
)
def test_a_bridge_that_is_not_what_the_file_says(hako: Hako, box: Writer, host: Host, lines: str, told: str) -> None:
    host.links.add_bridge("br0")
    host.address("br0", "10.4.0.1/24")
    host.links.add_bridge("down0")
    host.links.set("down0", up=False)
    path = box(f'config.network.bridge_name = "br0"\nconfig.network.{lines}')
    done = hako("start", path, "--", "true", status=125)
    assert told in done.stderr
    assert f"hako: {path}:" in done.stderr
    host.links.delete("br0")
    host.links.delete("down0")


def test_the_mtu_is_that_of_the_default_route(hako: Hako, box: Writer, host: Host) -> None:
    host.links.set("up0", mtu=1420)
    assert "mtu 1420" in hako("start", box(AUTO), "--", "ip", "link", "show", "eth0").stdout


# Names of network namespaces

NETNS = f"test-{TOKEN}"
NAMED = f'{AUTO}config.network.namespace = "{NETNS}"\n'
PLACE = f"/run/netns/{NETNS}"


def test_ip_netns_knows_it_by_its_name(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    path = box(NAMED)
    hako("start", "-D", path, *SLEEP)
    shown = subprocess.run(
        ["ip", "netns", "exec", NETNS, "ip", "-4", "-o", "address"], capture_output=True, text=True, check=True
    ).stdout
    assert address_of(places) in shown
    assert facts_of(places)["namespace"] == PLACE
    assert facts_of(places)["interfaces"][0]["host"].endswith("_h"), "as haconiwa calls it"
    other = box(READONLY + NAMED, name="other")
    done = hako("start", other, "--", "true", status=125)
    assert f"the network namespace '{NETNS}' is that of the container 'box'" in done.stderr
    hako("kill", path)
    assert not os.path.exists(PLACE)


def test_one_that_somebody_has_made_is_refused(hako: Hako, box: Writer, host: Host) -> None:
    subprocess.run(["ip", "netns", "add", NETNS], check=True)
    try:
        done = hako("start", box(NAMED), "--", "true", status=125)
        assert f"the network namespace '{NETNS}' is there already (ip netns delete {NETNS} removes it" in done.stderr
        assert os.path.exists(PLACE)
    finally:
        subprocess.run(["ip", "netns", "delete", NETNS], check=True)


def test_one_that_is_to_stay_is_begun_anew_and_goes_with_rm(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    path = box(f'{NAMED}config.network.cleanup = False\nconfig.network.container_ip = "10.0.0.7"')
    hako("start", path, "--", "ip", "link", "add", "br9", "type", "bridge", status=None)
    kept = os.stat(PLACE).st_ino
    assert "haconiwa0" in host.names()
    other = box(READONLY + 'config.network.container_ip = "10.0.0.7"', name="other")
    assert "is that of the container 'box'" in hako("start", other, "--", "true", status=125).stderr
    hako("gc")
    assert os.stat(PLACE).st_ino == kept
    hako("start", path, "--", "true")
    assert os.stat(PLACE).st_ino != kept
    hako("rm", path)
    assert not os.path.exists(PLACE)


# All ways to start


def test_hooks_know_the_network_and_come_one_after_the_other(hako: Hako, box: Writer, host: Host) -> None:
    path = box(f"""
{AUTO}
import os, socket
config.network.publish("8080:80")
@config.add_general_hook("after_network_created")
def created(base):
    (one,) = base.network.interfaces
    base.log(f"created {{one.name}} {{one.address}} {{one.gateway}} {{one.index}} {{base.network.published[0].first}}")
    socket.if_nametoindex(one.host)
    assert os.readlink(f"/proc/{{base.pid}}/ns/net") != os.readlink("/proc/self/ns/net")
@config.add_general_hook("after_network_initialized")
def initialized(base):
    base.log(f"initialized {{base.network.addresses}} {{sorted(name for _, name in socket.if_nameindex())}}")
""")
    lines = hako("start", path, "--", "true").stderr.splitlines()
    assert [line.split()[2] for line in lines] == ["created", "initialized"]
    assert "eth0 10.0.0." in lines[0]
    assert lines[0].endswith("/24 10.0.0.1 2 8080")
    assert lines[1].endswith("['eth0', 'lo']")


def test_a_hook_that_refuses_leaves_nothing(hako: Hako, box: Writer, host: Host) -> None:
    path = box(f"""
{NAMED}
@config.add_general_hook("after_network_created")
def refuse(base):
    raise Haconiwa.Abort("not today")
""")
    assert "not today" in hako("start", path, "--", "true", status=125).stderr
    assert not os.path.exists(PLACE)


@pytest.mark.parametrize(
    "lines", ['config.namespace.unshare("user")', "config.limit(pids=50)", 'config.namespace.unshare("cgroup")']
)
def test_with_other_namespaces_and_limits(hako: Hako, box: Writer, host: Host, lines: str) -> None:
    path = box(f"{AUTO}{lines}")
    with Server(host, 7000, name="the host"):
        assert hako("start", path, "--", "nc", "10.0.0.1", "7000").stdout.startswith("the host 10.0.0.")
    hako("start", "-D", path, *SLEEP)
    assert "inet 10.0.0." in hako("attach", path, "--", "ip", "-4", "address").stdout
    hako("kill", path)


def test_a_held_one_has_it_already(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    path = box(AUTO)
    hako("start", "-D", "--hold", path, *SERVE)
    assert address_of(places).startswith("10.0.0.")
    assert len([name for name in host.names() if name.startswith("hk")]) == 1
    hako("release", path)
    wait_until_it_listens(hako)
    assert told(host, address_of(places)) == "box"


def test_one_that_is_added_to_a_barn(hako: Hako, box: Writer, barns: Barns, host: Host, places: Path) -> None:
    path = box()
    barns("make", path, empty=True)
    late = document(hako, path, name="late", process={"command": ["/bin/sleep", "1000"]}, network={"interfaces": [{}]})
    barns("add", "box", document=late)
    barns("start", "box", name="late")
    assert address_of(places, "late") in hako("attach", "-n", "late", "--", "ip", "address").stdout
    barns("stop", "box", name="late")
    assert "haconiwa0" not in host.names()
    barns("end", "box")


def test_an_ordinary_user_is_told(box: Writer) -> None:
    from hakoniwa.errors import HakoError
    from hakoniwa.haco.loader import load
    from hakoniwa.run import prepare

    barn = load(str(box(AUTO + "config.network.isolated = True\n")), "start")
    before, os.geteuid = os.geteuid, lambda: 1000
    try:
        with pytest.raises(HakoError, match="takes root"):
            prepare.for_caller(barn)
    finally:
        os.geteuid = before


# What goes wrong


@pytest.mark.parametrize(
    "place",
    [
        *("network.interfaces.connect", "network.interfaces.enter", "network.leases.choose", "network.bridges.ensure"),
        *("network.netns.keep", "ports.publishing.publish", "network.firewall.prepare"),
    ],
)
def test_a_supervisor_that_is_killed_at_any_step(hako: Hako, box: Writer, host: Host, places: Path, place: str) -> None:
    path = box(f'{NAMED}config.network.publish("8080:80")')
    words = [sys.executable, "-I", str(HARNESS), "network", place, "start", "-D", str(path), *SLEEP]
    subprocess.run(words, cwd=places, capture_output=True, timeout=60)
    done = hako("gc")
    assert "haconiwa0" not in host.names(), done.stderr
    assert not os.path.exists(PLACE)
    assert hako("start", path, "--", "echo", "again").stdout == "again\n"


def test_a_killed_supervisor_leaves_nothing_to_the_next_start(
    hako: Hako, box: Writer, host: Host, places: Path
) -> None:
    path = box(f'{NAMED}config.network.publish("8080:80")')
    hako("start", "-D", path, *SLEEP)
    (known,) = json.loads(hako("ps", "--json").stdout)["containers"]
    pidfd = os.pidfd_open(known["pid"])
    os.kill(known["supervisor_pid"], signal.SIGKILL)
    assert wait_end(pidfd, 10)
    os.close(pidfd)
    assert os.path.exists(PLACE)
    assert "8080" in host.run("nft", "list", "table", "inet", "hakoniwa")
    done = hako("start", path, "--", "echo", "again")
    assert done.stdout == "again\n"
    assert f"cleared what a killed supervisor had left: network namespace {NETNS}" in done.stderr


@pytest.mark.parametrize("who", ["supervisor", "first process"])
@pytest.mark.parametrize("step", [0, 4, 9, 14, 19])
def test_who_is_killed_while_the_first_process_is_at_a_step(
    hako: Hako, box: Writer, host: Host, places: Path, step: int, who: str
) -> None:
    path = box(f'{NAMED}config.network.publish("8080:80")')
    with stopped_at_step(places, path, step) as stopped:
        assert stopped.reached
        (supervisor,) = children(stopped.front.pid)
        (init,) = children(supervisor)
        first = os.pidfd_open(init)
        os.kill(supervisor if who == "supervisor" else init, signal.SIGKILL)
        stopped.go_on()
        assert wait_end(first, 10)
        os.close(first)
        assert stopped.front.wait(20) == 125
    if who == "supervisor":
        hako("gc")
    assert "haconiwa0" not in host.names()
    assert not os.path.exists(PLACE)
    assert hako("start", path, "--", "echo", "again").stdout == "again\n"


@pytest.mark.parametrize("who", ["front", "first process"])
@pytest.mark.parametrize("step", [0, 4, 9, 14])
def test_a_front_process_that_is_killed_leaves_nothing_to_the_next_start(
    hako: Hako, box: Writer, host: Host, places: Path, step: int, who: str
) -> None:
    """Without a name for the namespace, it is the supervisor, too."""
    path = box(f'{AUTO}config.network.publish("8080:80")')
    with stopped_at_step(places, path, step) as stopped:
        assert stopped.reached
        (init,) = children(stopped.front.pid)
        first = os.pidfd_open(init)
        os.kill(stopped.front.pid if who == "front" else init, signal.SIGKILL)
        stopped.go_on()
        assert wait_end(first, 10)
        os.close(first)
        stopped.front.wait(20)
    assert hako("start", path, "--", "echo", "again").stdout == "again\n"
    assert "haconiwa0" not in host.names()
    assert "8080" not in host.run("nft", "list", "ruleset")


def test_a_first_process_that_is_killed_while_it_waits(hako: Hako, box: Writer, host: Host) -> None:
    path = box(f"""
{NAMED}
import os, signal
@config.add_general_hook("after_network_created")
def kill(base):
    os.kill(base.pid, signal.SIGKILL)
""")
    assert "was ended before its program ran" in hako("start", path, "--", "true", status=125).stderr


@pytest.mark.parametrize("fault", ["delete", "rename"])
def test_a_link_that_is_taken_away_while_it_runs(hako: Hako, box: Writer, host: Host, places: Path, fault: str) -> None:
    path = box(f'{AUTO}config.network.publish("8080:80")')
    hako("start", "-D", path, *SLEEP)
    if fault == "delete":
        host.links.delete("haconiwa0")
    else:
        link = host.links.find(facts_of(places)["interfaces"][0]["host"])
        assert link is not None
        host.links.set(link.index, up=False)
        host.links.set(link.index, name="other0")
    hako("kill", path)


def test_a_lease_of_nobody_s_is_taken(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    path = box('config.network.container_ip = "10.0.0.7"')
    hako("start", path, "--", "true")
    stale = places / "run" / ".network" / "leases" / "haconiwa0"
    stale.mkdir()
    (stale / "10.0.0.7").write_text("gone\n")
    (stale / "10.0.0.8").write_text("")
    assert hako("start", path, "--", "echo", "on").stdout == "on\n"
    assert "address 10.0.0.8 on haconiwa0" in hako("gc").stdout


def test_a_plan_shows_the_network(hako: Hako, box: Writer, host: Host) -> None:
    path = box(f'{NAMED}config.network.publish("127.0.0.1:8080-8081:80")')
    lines = [line.removeprefix("box: ") for line in hako("start", "--dry-run", path).stdout.splitlines()]
    wanted = [
        f"on the host: have the name {NETNS} for its network namespace",
        "on the host: reserve the ports 127.0.0.1:8080-8081/tcp of the host",
        "on the host: have an IPv4 address on the bridge haconiwa0, made if it is missing",
        "new namespaces mount uts ipc pid net",
        "on the host: make eth0 inside, with a way to haconiwa0",
        "on the host: publish 127.0.0.1:8080-8081:80",
        f"on the host: keep its network namespace in /run/netns/{NETNS}",
        "wait for the network",
    ]
    assert [line for line in lines if line in wanted] == wanted
    assert "haconiwa0" not in host.names()


# What is shown


def test_lists_show_addresses_and_ports(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    lines = f'{NAMED}config.network.publish("8080:80", "127.0.0.1:53:5353/udp")\nconfig.network.policy = ["10.0.0.0/24:80/tcp", "dns"]\n'
    path = box(lines + 'config.network.dns(servers=["192.0.2.2"])')
    hako("start", "-D", path, *SLEEP)
    address, ports = address_of(places), "8080:80,127.0.0.1:53:5353/udp"
    head, line = hako("ps").stdout.splitlines()
    assert head.split()[5:7] == ["ADDRESS", "PORTS"]
    assert line.split()[5:7] == [address, ports]
    (shown,) = json.loads(hako("ps", "--json").stdout)["containers"]
    assert shown["network"]["published"] == ports.split(",")
    assert shown["network"]["policy"] == "10.0.0.0/24:80/tcp dns"
    (interface,) = shown["network"]["interfaces"]
    assert (interface["bridge"], interface["gateway"], interface["address"]) == (
        "haconiwa0",
        "10.0.0.1",
        f"{address}/24",
    )
    status = {key: value for key, _, value in (row.partition(" ") for row in hako("status", path).stdout.splitlines())}
    assert status["eth0"].split()[:3] == [f"{address}/24", "via", "10.0.0.1"]
    assert status["published"].split() == ports.split(",")
    assert status["netns"].strip() == PLACE
    (inspected,) = json.loads(hako("inspect", path).stdout)["containers"]
    assert inspected["effective_network"] == shown["network"]
    hako("kill", path)
    assert "ADDRESS" not in hako("ps", "-a").stdout


def reloading(hako: Hako, box: Writer, lines: str) -> list[str]:
    """What a reload tells once the file says this of the network."""
    path = box(f"{AUTO}{lines}")
    return [line.removeprefix("box: ") for line in hako("reload", path, status=None).stdout.splitlines()]


def test_published_ports_change_while_it_runs(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    path = box(AUTO)
    hako("start", "-D", path, *SERVE)
    wait_until_it_listens(hako)
    assert reloading(hako, box, 'config.network.publish("8080:80")') == ["network.published: 8080:80: applied"]
    assert told(host.outside, HOST, 8080) == "box"
    assert told(host, "127.0.0.1", 8080) == "box"
    assert [one["first"] for one in facts_of(places)["published"]] == [8080]
    with host.listen(8082):
        (refused,) = reloading(hako, box, 'config.network.publish("8081:80", "8082:80")')
    assert "the port 8082/tcp of the host is taken by process" in refused
    assert told(host, "127.0.0.1", 8080) == "box", "all is as it was"
    assert reloading(hako, box, 'config.network.publish("8081:80")') == ["network.published: 8081:80: applied"]
    assert told(host, HOST, 8081) == "box"
    with pytest.raises(ConnectionRefusedError):
        host.connect(HOST, 8080)
    assert reloading(hako, box, "") == ["network.published: nothing: applied"]
    with pytest.raises(ConnectionRefusedError):
        host.connect(HOST, 8081)


def test_a_policy_changes_while_it_runs(hako: Hako, box: Writer, host: Host) -> None:
    path = box(AUTO)
    hako("start", "-D", path, *SLEEP)

    def reaches() -> bool:
        return hako("attach", path, "--", "nc", "-w", "2", "10.0.0.1", "7000", status=None).stdout.startswith("host")

    with Server(host, 7000, name="host"):
        assert reaches()
        assert reloading(hako, box, 'config.network.policy = "none"') == ["network.policy: nothing: applied"]
        assert not reaches()
        allowed = 'config.network.policy = ["10.0.0.1:7000/tcp"]'
        assert reloading(hako, box, allowed) == ["network.policy: 10.0.0.1:7000/tcp: applied"]
        assert reaches()
        assert reloading(hako, box, "") == ["network.policy: anything: applied"]
        assert reaches()


def test_what_a_reload_cannot_change_of_a_network_is_told(hako: Hako, box: Writer, host: Host) -> None:
    path = box(f'{AUTO}config.capabilities.allow("cap_net_admin")')
    hako("start", "-D", path, *SLEEP)
    told = hako(
        "reload", box('config.network.container_ip = "10.0.0.200"\nconfig.network.publish("80:80")'), status=None
    )
    assert "network.published: 80:80: applied" in told.stdout
    assert "network.interfaces: needs a restart" in told.stdout
    assert "network: True → False: needs a restart" in hako("reload", box(""), status=None).stdout
    (lifted, *_) = [line for line in reloading(hako, box, 'config.network.policy = "none"') if "policy" in line]
    assert "was started with cap_net_admin, which can lift the policy from inside" in lifted
    assert "was started with cap_net_admin, which can lift" in lifted


def without_writing_settings(hako: Hako, path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Start it where /proc/sys is read-only."""
    script = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", str(HAKO), "start", str(path), *words]
    return subprocess.run(
        command, cwd=hako.folder, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )


def test_a_host_that_lets_nothing_be_set(hako: Hako, box: Writer, host: Host) -> None:
    path = box(AUTO)
    refused = without_writing_settings(hako, path, "--", "true")
    assert refused.returncode == 125
    assert "cannot set net.ipv4.conf.haconiwa0.forwarding to 1" in refused.stderr
    assert "haconiwa0" not in host.names()
    host.setting("net/ipv4/ip_forward", "1")  # then all is as it has to be
    done = without_writing_settings(hako, path, "--", "ip", "-4", "-o", "address")
    assert done.returncode == 0, done.stderr
    assert "inet 10.0.0." in done.stdout
    assert "net.ipv6.conf.default.accept_ra cannot be set inside: Read-only file system" in done.stderr
    host.setting("net/ipv4/ip_forward", "0")


def test_a_host_without_ipv6(hako: Hako, box: Writer, host: Host) -> None:
    host.setting("net/ipv6/conf/default/disable_ipv6", "1")  # of what is made from now on
    assert "inet 10.0.0." in hako("start", box(AUTO), "--", "ip", "-4", "-o", "address").stdout
    path = box('config.network.container_ip6 = "auto"')
    done = hako("start", path, "--", "true", status=125)
    assert "(is IPv6 switched off: net.ipv6.conf.all.disable_ipv6?)" in done.stderr
    assert f"{path}:" in done.stderr
    assert "haconiwa0" not in host.names()


def test_a_port_that_is_to_wake_is_refused(hako: Hako, box: Writer, host: Host) -> None:
    path = box('config.network.publish("8080:80", wake=True, idle=300)\n')
    told = hako("start", path, "--", "true", status=125).stderr
    assert "a port cannot wake its container yet" in told
    assert f"{path.name}:" in told
