"""Networks of CNI, by the plugins that Debian packages, on a host that is a network namespace of the test's own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hakoniwa.kernel.processes.pidfd import wait_end
from tests.conftest import Hako
from tests.machines import Server
from tests.networks import HOST, OUTSIDE, Host, address_of, facts_of, host

__all__ = ["host"]

Writer = Callable[..., Path]
SLEEP = ("--", "sleep", "1000")
JOINED = 'config.network.cni("lab")\n'

pytestmark = pytest.mark.skipif(
    not os.path.exists("/usr/lib/cni/bridge"), reason="containernetworking-plugins is missing"
)


@pytest.fixture
def net(places: Path, monkeypatch: pytest.MonkeyPatch, host: Host) -> Path:
    """The folder of networks."""
    folder = places / "net.d"
    folder.mkdir()
    monkeypatch.setenv("HAKONIWA_CNI_CONF_DIRS", str(folder))
    host.setting("net/ipv4/ip_forward", "1")
    for program in ("iptables", "ip6tables"):
        host.run(program, "-t", "nat", "-N", "OTHERS")
    host._before = host._looks()  # the table of iptables stays when plugins have put something into it and removed it
    return folder


def ptp(places: Path, **more: Any) -> dict[str, Any]:
    ranges = {"subnet": "10.66.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}
    ipam = {"type": "host-local", "dataDir": str(places / "ipam"), **ranges}
    return {"type": "ptp", "ipMasq": True, "ipam": ipam, **more}


def write(net: Path, *plugins: dict[str, Any], name: str = "lab", version: str = "1.0.0") -> Path:
    path = net / f"10-{name}.conflist"
    path.write_text(json.dumps({"cniVersion": version, "name": name, "plugins": plugins}))
    return path


def leased(places: Path) -> list[str]:
    folder = places / "ipam" / "lab"
    return [name for name in os.listdir(folder) if name[0].isdigit()] if folder.is_dir() else []


def notes(places: Path) -> list[str]:
    folder = places / "run" / ".network" / "cni"
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def masqueraded(host: Host) -> str:
    return host.run("iptables-save", "-t", "nat")


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
def test_a_container_reaches_others_by_plugins(
    hako: Hako, box: Writer, host: Host, net: Path, places: Path, version: str
) -> None:
    write(net, ptp(places), version=version)
    path = box(JOINED)
    with Server(host.outside, 7000, name="outside"):
        assert hako("start", path, "--", "nc", OUTSIDE, "7000").stdout == f"outside {HOST}"
    (found,) = facts_of(places)["interfaces"]
    assert found["name"] == "eth0"
    assert found["address"].startswith("10.66.0.")
    assert (found["gateway"], found["mtu"]) == ("10.66.0.1", 1500)
    assert leased(places) == []
    assert notes(places) == []
    assert "10.66.0" not in masqueraded(host)


def test_a_single_plugin_beside_a_bridge(hako: Hako, box: Writer, host: Host, net: Path, places: Path) -> None:
    conf = ptp(places) | {"cniVersion": "0.4.0", "name": "lab"}
    conf["ipam"]["routes"] = []
    (net / "lab.conf").write_text(json.dumps(conf))
    path = box('config.network.container_ip = "auto"\nconfig.network.cni("lab", veth_guest="lab0", IP="10.66.0.77")')
    said = hako("start", path, "--", "ip", "-4", "-o", "address").stdout
    assert "eth0    inet 10.0.0." in said
    assert "lab0    inet 10.66.0.77/24" in said


def test_ports_and_addresses_by_capabilities(hako: Hako, box: Writer, host: Host, net: Path, places: Path) -> None:
    conf = ptp(places, capabilities={"ips": True})
    write(net, conf, {"type": "portmap", "capabilities": {"portMappings": True}})
    path = box('config.network.cni("lab", container_ip="10.66.0.88")\nconfig.network.publish("8080:80")')
    hako("start", "-D", path, "--", "nc", "-ll", "-p", "80", "-e", "hostname")
    hako("attach", path, "--", "sh", "-c", "until grep -q ':0050 ' /proc/net/tcp /proc/net/tcp6; do :; done")
    assert address_of(places) == "10.66.0.88"
    with host.outside.connect(HOST, 8080) as asking:
        assert asking.recv(100) == b"box\n"
    (listed,) = json.loads(hako("ps", "--json").stdout)["containers"]
    assert listed["network"]["published"] == ["8080:80"]
    hako("kill", path)
    assert "8080" not in masqueraded(host)
    assert notes(places) == []


def test_a_word_that_no_plugin_takes(hako: Hako, box: Writer, host: Host, net: Path, places: Path) -> None:
    write(net, ptp(places))
    for line, word in (('config.network.publish("80:80")', "portMappings"), ("", "bandwidth")):
        joined = 'config.network.cni("lab", rate="1M")\n' if word == "bandwidth" else JOINED
        refused = hako("start", box(joined + line), "--", "true", status=125).stderr
        assert f"no plugin of the network 'lab' has the capability {word}" in refused


def test_what_a_plugin_refuses_is_told_and_the_others_are_undone(
    hako: Hako, box: Writer, host: Host, net: Path, places: Path
) -> None:
    write(net, ptp(places), {"type": "tuning", "sysctl": {"net.nothing.of_that_name": "1"}})
    path = box(JOINED)
    refused = hako("start", path, "--", "true", status=125).stderr
    assert f"{path}:" in refused
    assert "the CNI plugin 'tuning' cannot ADD: " in refused
    assert "of_that_name" in refused
    assert leased(places) == []
    assert notes(places) == []
    assert "10.66.0" not in masqueraded(host)
    assert not [name for name in host.names() if name.startswith("veth")]


def test_what_a_killed_supervisor_has_joined_is_left(
    hako: Hako, box: Writer, host: Host, net: Path, places: Path
) -> None:
    file = write(net, ptp(places))
    path = box(JOINED)
    hako("start", "-D", path, *SLEEP)
    (known,) = json.loads(hako("ps", "--json").stdout)["containers"]
    pidfd = os.pidfd_open(known["pid"])
    os.kill(known["supervisor_pid"], signal.SIGKILL)
    assert wait_end(pidfd, 10)
    os.close(pidfd)
    assert leased(places)
    assert "10.66.0" in masqueraded(host)
    file.unlink()  # what is to be undone is known all the same
    assert "CNI network of box (eth0)" in hako("gc").stdout
    assert leased(places) == []
    assert notes(places) == []
    assert "10.66.0" not in masqueraded(host)


def test_gc_leaves_those_that_run(hako: Hako, box: Writer, host: Host, net: Path, places: Path) -> None:
    write(net, ptp(places))
    hako("start", "-D", box(JOINED), *SLEEP)
    hako("gc")
    assert len(leased(places)) == 1
    assert notes(places) == ["box.netns", "box@eth0.json"]


def test_networks_and_plugins_that_are_not_there(hako: Hako, box: Writer, host: Host, net: Path, places: Path) -> None:
    path = box(JOINED)
    assert f"there is no network 'lab' in {net}" in hako("start", path, "--", "true", status=125).stderr
    write(net, {"type": "bridge"}, name="lob")
    assert "lob" in hako("start", path, "--", "true", status=125).stderr
    write(net, {"type": "no-such-plugin"})
    refused = hako("start", path, "--", "true", status=125).stderr
    assert "the CNI plugin 'no-such-plugin' is not installed" in refused
    assert "apt-get install containernetworking-plugins" in refused


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "this is no JSON"),
        ("[" * 100000, "this is no JSON"),
        ("[]", "a network is an object"),
        ('{"name": "lab", "plugins": [{"type": "../../bin/sh"}]}', "the name of a program"),
        ('{"name": "lab", "plugins": []}', "the name of a program"),
    ],
)
def test_files_that_are_no_networks(hako: Hako, box: Writer, host: Host, net: Path, content: str, told: str) -> None:
    (net / "lab.conflist").write_text(content)
    assert told in hako("start", box(JOINED), "--", "true", status=125).stderr


def test_a_file_that_others_can_write_to_is_not_believed(
    hako: Hako, box: Writer, host: Host, net: Path, places: Path
) -> None:
    write(net, ptp(places)).chmod(0o666)
    assert "others can write to this file" in hako("start", box(JOINED), "--", "true", status=125).stderr
