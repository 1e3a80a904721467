"""`hako new --bridge` and `hako network`: bridges that stay, what is on them, and their end."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.kernel.processes.pidfd import wait_end
from tests.conftest import Hako
from tests.networks import Host, address_of, host

__all__ = ["host"]

Writer = Callable[..., Path]
READONLY = "config.rootfs.readonly = True\n"
AUTO = 'config.network.container_ip = "auto"\n'
SLEEP = ("--", "sleep", "1000")


def listed(hako: Hako, *words: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(hako("network", *words, "--json").stdout)["bridges"]
    return found


def test_a_bridge_that_is_made_by_hand_stays_when_its_containers_go(
    hako: Hako, box: Writer, host: Host, places: Path
) -> None:
    assert hako("new", "--bridge").stdout == "the bridge haconiwa0 has 10.0.0.1/24\n"
    link = host.links.find("haconiwa0")
    assert link is not None
    assert (link.kind, link.up, link.alias) == ("bridge", True, "hakoniwa, kept")
    path = box(AUTO)
    hako("start", "-D", path, *SLEEP)
    assert address_of(places).startswith("10.0.0.")
    hako("kill", path)
    assert "haconiwa0" in host.names()
    hako("gc")
    assert "haconiwa0" in host.names()
    hako("network", "rm", "haconiwa0")
    assert "haconiwa0" not in host.names()
    assert "hakoniwa" not in host.run("nft", "list", "tables")


def test_haconiwa_s_words_make_one_of_another_name_and_address(hako: Hako, host: Host) -> None:
    assert hako("new", "-N", "-B", "own0", "-I", "10.9.0.1").stdout == "the bridge own0 has 10.9.0.1/24\n"
    assert hako("new", "-N", "--bridge-name", "six0", "--bridge-ip", "fd09::1/64").stdout.endswith("fd09::1/64\n")
    assert [(one["name"], one["addresses"]) for one in listed(hako, "ls")] == [
        ("own0", ["10.9.0.1/24"]),
        ("six0", ["fd09::1/64"]),
    ]
    hako("network", "rm", "own0", "six0")


def test_one_that_is_there_is_told_of_and_one_that_differs_is_an_error(hako: Hako, host: Host) -> None:
    hako("new", "--bridge")
    assert "is there already with 10.0.0.1/24" in hako("new", "--bridge").stdout
    refused = hako("new", "--bridge", "-I", "10.1.0.1/16", status=125).stderr
    assert "the bridge is there already with 10.0.0.1/24, and not 10.1.0.1/16" in refused
    overlapping = hako("new", "--bridge", "-B", "other0", "-I", "10.0.0.77/16", status=125).stderr
    assert "10.0.0.0/24 is reached through haconiwa0" in overlapping
    assert "other0" not in host.names()
    assert "it is no bridge, but veth" in hako("new", "-N", "-B", "up0", status=125).stderr
    hako("network", "rm", "haconiwa0")


def test_one_that_was_made_for_containers_stays_once_that_is_said(hako: Hako, box: Writer, host: Host) -> None:
    path = box(AUTO)
    hako("start", "-D", path, *SLEEP)
    assert [one["made"] for one in listed(hako, "ls")] == ["containers"]
    assert "stays from now on" in hako("new", "--bridge").stdout
    hako("kill", path)
    assert [one["made"] for one in listed(hako, "ls")] == ["new --bridge"]
    hako("network", "rm", "haconiwa0")


def test_what_is_on_a_bridge_is_listed_and_keeps_it(hako: Hako, box: Writer, host: Host, places: Path) -> None:
    assert hako("network", "ls").stdout.split() == ["BRIDGE", "ADDRESS", "NAT", "MADE", "CONTAINERS", "PORTS"]
    one = box(f'{READONLY}config.network.publish("8080:80")', name="one")
    two = box(READONLY + AUTO, name="two")
    for path in (one, two):
        hako("start", "-D", path, *SLEEP)
    _head, line = hako("network", "ls").stdout.splitlines()
    addresses = [address_of(places, name) for name in ("one", "two")]
    assert line.split()[:4] == ["haconiwa0", "10.0.0.1/24", "yes", "containers"]
    assert f"one={addresses[0]} two={addresses[1]}  8080:80" in line
    (found,) = listed(hako, "inspect", "haconiwa0")
    assert found["containers"] == [
        {"name": "one", "addresses": [addresses[0]], "published": ["8080:80"]},
        {"name": "two", "addresses": [addresses[1]], "published": []},
    ]
    assert len(found["ports"]) == 2  # type: ignore[arg-type]
    host.run(sys.executable, "-c", f"import socket; socket.socket().connect_ex(('{addresses[0]}', 9))")  # is refused
    (found,) = listed(hako, "inspect", "haconiwa0")
    traffic = {port["container"]: port for port in found["traffic"]}  # type: ignore[attr-defined]
    assert {*traffic} == {"one", "two"}
    assert traffic["one"]["sent"]["bytes"] > 0
    assert traffic["one"]["received"]["packets"] > 0
    assert traffic["one"]["name"] in found["ports"]  # type: ignore[operator]
    assert addresses[0] in [one["address"] for one in found["neighbours"]]  # type: ignore[attr-defined]
    refused = hako("network", "rm", "haconiwa0", status=125).stderr
    assert "haconiwa0: the bridge is in use by one, two (hako kill -n one; hako kill -n two)" in refused
    assert "haconiwa0" in host.names()


def test_a_killed_supervisor_does_not_keep_a_bridge(hako: Hako, box: Writer, host: Host) -> None:
    hako("new", "--bridge")
    hako("start", "-D", box(AUTO), *SLEEP)
    (known,) = json.loads(hako("ps", "--json").stdout)["containers"]
    pidfd = os.pidfd_open(known["pid"])
    os.kill(known["supervisor_pid"], signal.SIGKILL)
    assert wait_end(pidfd, 10)
    os.close(pidfd)
    (found,) = listed(hako, "ls")
    assert found["containers"] == []
    for _ in range(1000):  # its pair of interfaces goes with its namespace
        if not listed(hako, "ls")[0]["ports"]:
            break
    hako("network", "rm", "haconiwa0")
    hako("gc")


def test_bridges_of_others_are_not_removed(hako: Hako, box: Writer, host: Host) -> None:
    host.links.add_bridge("theirs0")
    host.address("theirs0", "172.30.0.1/16")
    assert listed(hako, "ls") == []
    assert "it is a bridge that others have made" in hako("network", "rm", "theirs0", status=125).stderr
    hako("start", "-D", box(f'{AUTO}config.network.bridge_name = "theirs0"'), *SLEEP)
    (found,) = listed(hako, "ls")
    assert (found["name"], found["made"], found["addresses"]) == ("theirs0", "others", ["172.30.0.1/16"])
    assert "others have made it" in hako("network", "rm", "theirs0", status=125).stderr
    host.links.delete("theirs0")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("network", "rm"), "network: which bridge? rm takes its name"),
        (("network", "list"), "network: there is no 'list'"),
        (("network", "ls", "x"), "network: ls takes no name (hako network inspect x)"),
        (("network", "rm", "--json", "x"), "rm prints nothing"),
        (("new", "-B", "br0"), "new: --bridge-name goes with --bridge"),
        (("new", "-N", "dev"), "--bridge makes a bridge, and dev is about a file"),
        (("new", "-N", "-B", "a name"), "--bridge-name: it must be the name of an interface"),
        (("new", "-N", "-I", "10.0.0.1/33"), "--bridge-ip: it must be an address with a mask of 1 to 30 bits"),
    ],
)
def test_wrong_command_lines(hako: Hako, words: tuple[str, ...], told: str) -> None:
    assert told in hako(*words, status=2).stderr


@pytest.mark.parametrize("address", ["10.0.0.0/24", "10.0.0.255/24", "fd09::/64"])
def test_an_address_that_no_bridge_can_have(hako: Hako, host: Host, address: str) -> None:
    refused = hako("new", "--bridge", "-I", address, status=125).stderr
    assert f"haconiwa0: {address} is the address of " in refused
    assert "haconiwa0" not in host.names()


def test_one_that_is_not_there(hako: Hako, host: Host) -> None:
    assert "nowhere0: there is no such bridge (hako network ls)" in hako("network", "rm", "nowhere0", status=125).stderr
