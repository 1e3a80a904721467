"""Attacks on the networks of containers: from neighbours, and from inside."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Hako
from tests.machines import PATIENCE, Machine
from tests.networks import Host, address_of, host

__all__ = ["host"]

Writer = Callable[..., Path]

AUTO = 'config.network.container_ip = "auto"\n'
SLEEP = ("--", "sleep", "1000")


def say_that_we_are_a_router(attacker: Machine) -> None:
    """A router advertisement to all that are there (RFC 4861): a default route through us, for half an hour."""
    with attacker.inside():
        raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        index = socket.if_nametoindex("eth0")
    with raw:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 1800, 1800, 0) + socket.inet_pton(socket.AF_INET6, "fd66::")
        raw.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix, ("ff02::1", 0, 0, index))


def follows(victim: Machine) -> bool:
    """Whether a machine has a default route of IPv6."""
    return any(route.length == 0 for route in victim.links.routes(socket.AF_INET6))


def test_a_neighbour_is_no_router(hako: Hako, box: Writer, host: Host) -> None:
    """CVE-2020-13401: the traffic of other containers would go through the one that says so."""
    pid = int(hako("start", "-D", box(AUTO), *SLEEP).stdout.split()[1])
    bridge = host.links.find("haconiwa0")
    assert bridge is not None
    attacker, careless = Machine(), Machine()
    try:
        for number, machine in enumerate((attacker, careless)):
            host.join(f"other{number}", machine, "eth0", master=bridge.index)
        end = time.monotonic() + PATIENCE
        while not follows(careless) and time.monotonic() < end:  # the bridge has to know its new ports
            say_that_we_are_a_router(attacker)
            os.sched_yield()
        assert follows(careless), "the attack works where nothing is done about it"
        inside = hako("attach", "-n", "box", "--", "ip", "-6", "route").stdout
        assert "default" not in inside
        assert Path(f"/proc/{pid}").exists()
    finally:
        attacker.close()
        careless.close()


def test_what_is_known_of_networks_is_nobody_else_s(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    hako("start", "-D", box(AUTO), *SLEEP)
    leases = places / "run" / ".network" / "leases"
    for folder in (leases.parent, leases, leases / "haconiwa0"):
        assert folder.stat().st_mode & 0o077 == 0
    assert (leases / "haconiwa0" / address_of(places)).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("point", ["before_fork", "immediately_after_fork_on_parent"])
def test_a_container_never_runs_in_the_host_s_network_instead(hako: Hako, box: Writer, host: Host, point: str) -> None:
    """haconiwa starts it there where a network could not be made."""
    path = box(f"""
{AUTO}
import subprocess
@config.add_general_hook("{point}")
def take_it_away(base):
    subprocess.run(["ip", "link", "delete", "haconiwa0"], check=True)
""")
    done = hako("start", path, "--", "echo", "it runs", status=125)
    assert "the bridge haconiwa0 is gone" in done.stderr
    assert done.stdout == ""


def test_the_name_of_another_s_interface_is_not_taken(hako: Hako, box: Writer, host: Host) -> None:
    lines = f'config.rootfs.readonly = True\n{AUTO}config.network.veth_host = "mine0"\n'
    hako("start", "-D", box(lines, name="one"), *SLEEP)
    before = host.links.find("mine0")
    done = hako("start", box(lines, name="two"), "--", "true", status=125)
    assert "the container 'one' has the name mine0" in done.stderr
    assert host.links.find("mine0") == before
    host.links.set("up0", alias="two")  # an alias alone makes no link ours
    done = hako("start", box(lines.replace("mine0", "up0"), name="three"), "--", "true", status=125)
    assert "has the name up0" in done.stderr
    host.links.set("up0", alias="")


def test_nothing_of_the_network_can_be_changed_inside(hako: Hako, box: Writer, host: Host) -> None:
    path = box(AUTO)
    hako("start", "-D", path, *SLEEP)
    for words in (
        ("ip", "address", "add", "10.0.0.99/24", "dev", "eth0"),
        ("ip", "route", "del", "default"),
        ("ip", "link", "set", "eth0", "down"),
        ("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_ra"),
    ):
        assert hako("attach", path, "--", *words, status=None).returncode != 0
