"""Containers on a bridge find each other, the host, and the world by name: asked through the C library, as programs do."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import HAKO, Hako
from tests.machines import Machine
from tests.networks import Host, address_of, host

__all__ = ["host"]
Writer = Callable[..., Path]
HOST = 'config.bootstrap.strategy = "host"\nconfig.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")\n'
WAITS = 'config.init_command = ["sleep", "1000"]\n'
ALONE = 'config.network.container_ip = "auto"\n'
# On a bridge, with a resolver at which nobody listens: what no file has is told at once not to be there.
NETWORK = ALONE + 'config.network.dns(servers=["10.0.0.1"])\n'


STUB = """
set -e
mkdir -p /run/systemd
mount -t tmpfs run /run/systemd
mkdir /run/systemd/resolve
[ -z "$2" ] || echo "$2" > /run/systemd/resolve/resolv.conf
mount --bind "$1" /etc/resolv.conf
shift 2
exec "$@"
"""


def with_resolver(resolv: Path, behind: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `hako` where the host has another resolv.conf, and systemd's has a line, or is not there."""
    argv = ["unshare", "-m", "sh", "-c", STUB, "sh", str(resolv), behind, str(HAKO), *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


@pytest.fixture
def hosted(write_file: Writer) -> Callable[..., Path]:
    """Write a file of a container that has the host's programs."""

    def write(body: str, name: str = "box") -> Path:
        return write_file(HOST + body, name)

    return write


def pair(hosted: Writer) -> Path:
    """A barn of two: `web`, `db`."""
    lines = NETWORK + WAITS
    for name in ("web", "db"):
        lines += f'with config.define() as c:\n    c.name = "{name}"\n    c.hostname = "{name}-host"\n'
    return hosted(lines, "shop")


ASK = """
import socket, sys
for name in sys.argv[1:]:
    try:
        print(name, socket.gethostbyname(name))
    except OSError:
        pass
"""


def asked(hako: Hako, container: str, *names: str) -> dict[str, str]:
    """What names mean in a container to who asks the C library."""
    done = hako("attach", "-n", container, "--", "python3", "-c", ASK, *names)
    return dict(line.split() for line in done.stdout.splitlines())


def test_neighbours_of_a_barn_and_of_a_bridge_find_each_other_also_later_ones(
    hako: Hako, host: Host, hosted: Writer, places: Path
) -> None:
    shop = pair(hosted)
    hako("start", "-b", "-D", shop)
    later = hosted(NETWORK + WAITS, "later")
    hako("start", "-b", "-D", later)
    addresses = {name: address_of(places, name) for name in ("web", "db", "later")}
    assert asked(hako, "web", "db", "db-host", "later", "web", "web-host") == {
        "db": addresses["db"],
        "db-host": addresses["db"],
        "later": addresses["later"],
        "web": addresses["web"],
        "web-host": addresses["web"],
    }
    assert asked(hako, "later", "web", "db") == {"web": addresses["web"], "db": addresses["db"]}
    assert asked(hako, "later", "web-host") == {}  # of the barn alone
    (gateway,) = asked(hako, "web", "host.hakoniwa.internal").values()
    assert gateway == "10.0.0.1"
    hako("kill", "-T", "0", later)
    assert asked(hako, "web", "later") == {}
    hako("kill", "-T", "0", shop)


def test_a_killed_one_is_forgotten_by_the_next_command(hako: Hako, host: Host, hosted: Writer, places: Path) -> None:
    lines = NETWORK + WAITS
    one, two = hosted(lines, "one"), hosted(lines, "two")
    hako("start", "-b", "-D", one)
    hako("start", "-b", "-D", two)
    assert asked(hako, "one", "two")
    containers = json.loads(hako("ps", "--json").stdout)["containers"]
    (pid,) = [one["supervisor_pid"] for one in containers if one["name"] == "two"]
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([pidfd], [], [])
    os.close(pidfd)
    hako("gc")
    assert asked(hako, "one", "two") == {}
    hako("start", "-b", "-D", two)
    assert asked(hako, "one", "two")
    for path in (one, two):
        hako("kill", "-T", "0", path)
        hako("rm", path)
    assert not os.listdir(places / "run" / ".names") or "two" not in (places / "run" / ".names" / "list").read_text()


def test_what_the_file_says_of_names(hako: Hako, host: Host, hosted: Writer) -> None:
    body = """
config.network.hosts["db"] = "192.0.2.7"
config.network.hosts["both"] = ["192.0.2.8", "2001:db8::8"]
config.network.dns(servers=["10.0.0.1"], search=["corp.example"], options=["timeout:1"])
config.hostname = "www.example.org"
"""
    script = "getent hosts db; getent ahostsv6 both | head -1; cat /etc/resolv.conf; getent hosts $(hostname)"
    done = hako("start", "-b", hosted(body), "--", "sh", "-c", script)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[:-1] == [
        ["192.0.2.7", "db"],
        ["2001:db8::8", "STREAM", "both"],
        ["#", "made", "by", "hakoniwa"],
        ["nameserver", "10.0.0.1"],
        ["search", "corp.example"],
        ["options", "timeout:1"],
    ]
    assert lines[-1][0].startswith("10.0.0.")
    assert lines[-1][1:] == ["www.example.org", "box"]


def test_without_any_interface_the_own_name_is_known_and_nobody_is_asked(
    hako: Hako, host: Host, hosted: Writer
) -> None:
    script = "getent hosts $(hostname); cat /etc/resolv.conf; ls /sys/class/net"
    done = hako("start", "-b", hosted('config.network.policy = "none"'), "--", "sh", "-c", script)
    assert done.stdout.split() == ["127.0.1.1", "box", "#", "made", "by", "hakoniwa", "lo"]


# Resolvers


class Resolver:
    """A resolver that knows every name, as 192.0.2.99: `with Resolver(machine, address) as asked`."""

    def __init__(self, machine: Machine, address: str) -> None:
        self._machine, self._address = machine, address
        self._socket = machine.listen(53, "udp", address)
        self._socket.settimeout(None)
        self.asked: list[str] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> list[str]:
        self._thread.start()
        return self.asked

    def __exit__(self, *_error: object) -> None:
        with self._machine.connect(self._address, 53, "udp") as ending:
            ending.send(b"")
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                query, peer = self._socket.recvfrom(512)
            except OSError:
                return
            if not query:
                return
            end = query.index(b"\0", 12) + 5
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += 1 + query[at]
            self.asked.append(".".join(labels))
            is_ipv4 = query[end - 4 : end - 2] == b"\0\1"
            head = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_ipv4 else b"\0\0") + bytes(4)
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton("192.0.2.99") if is_ipv4 else b""
            self._socket.sendto(head + query[12:end] + answer, peer)


@pytest.fixture
def resolving(hako: Hako, host: Host) -> Iterator[list[str]]:
    """The host has two further addresses, at one of which is a resolver."""
    host.address("lo", "192.0.2.53/32", "192.0.2.54/32")
    with Resolver(host, "192.0.2.53") as names:
        yield names


@pytest.mark.parametrize("policy", ["any", "dns"])
def test_names_are_resolved_by_the_resolver_that_is_given(
    hako: Hako, host: Host, hosted: Writer, resolving: list[str], policy: str
) -> None:
    wanted = '["dns"]' if policy == "dns" else '"any"'
    body = f'config.network.dns(servers=["192.0.2.53"])\nconfig.network.policy = {wanted}\n'
    path = hosted(body)
    done = hako("start", "-b", path, "--", "getent", "ahostsv4", "box.example")
    assert done.stdout.split()[0] == "192.0.2.99"
    assert "box.example" in resolving
    ask = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(9)
s.connect((%r, 53))
try:
    s.send(bytes(12) + b"\\1x\\0\\0\\1\\0\\1")
    print(len(s.recv(99)))
except OSError as error:
    print(error.strerror)
"""
    assert hako("start", path, "--", "python3", "-c", ask % "192.0.2.53").stdout == "35\n"
    other = hako("start", path, "--", "python3", "-c", ask % "192.0.2.54").stdout
    assert other == ("Connection refused\n" if policy == "any" else "Operation not permitted\n")


def test_the_host_s_stub_is_replaced_by_what_is_behind_it(
    hako: Hako, host: Host, hosted: Writer, resolving: list[str], tmp_path: Path
) -> None:
    stub = tmp_path / "resolv.conf"
    stub.write_text("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch home.example\n")
    stub.chmod(0o644)
    path = hosted(ALONE)
    hako("create", path)
    done = with_resolver(stub, "", "start", path, "--", "cat", "/etc/resolv.conf")
    assert "nameserver" not in done.stdout
    assert "search home.example" in done.stdout
    told = "host names are not resolved: /etc/resolv.conf names 127.0.0.53 alone, which the container cannot reach"
    assert told in done.stderr
    assert '(network.dns(servers=["192.0.2.53"]) names one)' in done.stderr
    found = with_resolver(stub, "nameserver 192.0.2.53", "start", path, "--", "getent", "ahostsv4", "box.example")
    assert found.stdout.split()[:1] == ["192.0.2.99"], found.stderr
    assert not found.stderr


def test_a_policy_that_lets_dns_through_is_refused_without_a_resolver(
    hako: Hako, host: Host, hosted: Writer, tmp_path: Path, places: Path
) -> None:
    empty = tmp_path / "resolv.conf"
    empty.write_text("")
    path = hosted('config.network.policy = ["dns"]')
    hako("create", path)
    done = with_resolver(empty, "", "start", path, "--", "true")
    assert done.returncode == 125
    assert 'box.haco.py:6: the policy lets "dns" through, and the container has no resolver' in done.stderr
    assert not (places / "run" / "box").exists()


# Where they are mounted


SHOW = ("--", "sh", "-c", "cat /etc/hosts /etc/resolv.conf; for f in hosts resolv.conf; do echo x >> /etc/$f; done")


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("user", ["", 'config.namespace.unshare("user")\n'], ids=["", "user"])
def test_they_are_read_only_inside(
    hako: Hako, host: Host, box: Writer, rootfs: Path, readonly: bool, user: str
) -> None:
    for name in ("hosts", "resolv.conf"):
        (rootfs / "etc" / name).write_text("the rootfs's\n")
    done = hako("start", box(f"{ALONE}{user}config.rootfs.readonly = {readonly}"), *SHOW, status=1)
    assert "127.0.0.1 localhost" in done.stdout
    assert "# made by hakoniwa" in done.stdout
    refused = "Permission denied" if user else "Read-only file system"  # to nobody they belong to somebody else
    assert done.stderr.count(refused) == 2
    assert "the rootfs" not in done.stdout
    assert (rootfs / "etc" / "hosts").read_text() == "the rootfs's\n"


def test_what_is_missing_is_made_also_where_a_link_leads_to(hako: Hako, host: Host, box: Writer, rootfs: Path) -> None:
    for name in ("hosts", "resolv.conf"):
        (rootfs / "etc" / name).unlink(missing_ok=True)
    (rootfs / "etc" / "resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    done = hako("start", box(ALONE), *SHOW, status=1)
    assert "127.0.0.1 localhost" in done.stdout
    assert "# made by hakoniwa" in done.stdout
    assert (rootfs / "run" / "systemd" / "resolve" / "stub-resolv.conf").read_text() == ""


def test_in_a_read_only_rootfs_they_have_a_place_too(hako: Hako, host: Host, box: Writer, rootfs: Path) -> None:
    for name in ("hosts", "resolv.conf"):
        (rootfs / "etc" / name).unlink(missing_ok=True)
    done = hako("start", box(f"{ALONE}config.rootfs.readonly = True"), *SHOW, status=1)
    assert "127.0.0.1 localhost" in done.stdout
    assert "# made by hakoniwa" in done.stdout
    assert (rootfs / "etc" / "hosts").read_text() == ""


@pytest.mark.parametrize("link", [False, True])
def test_also_in_one_on_layers(hako: Hako, host: Host, write_file: Writer, places: Path, link: bool) -> None:
    """They are made in the layer of its own, which looks as before; what lies below belongs to others."""
    remove = "rm -f $ROOTFS/etc/hosts $ROOTFS/etc/resolv.conf; chmod 750 $ROOTFS/etc"
    linked = "; ln -s /etc/real $ROOTFS/etc/resolv.conf; echo x > $ROOTFS/etc/real" if link else ""
    (places / "bootstrap").mkdir()
    recipe = places / "bootstrap" / "mine"
    recipe.write_text(f'#!/bin/sh -e\n"{Path(__file__).parents[2]}/bootstrap/busybox"\n{remove}{linked}\n')
    recipe.chmod(0o755)
    layered = 'config.bootstrap.strategy = "recipe"\nconfig.bootstrap.recipe = "mine"\nconfig.rootfs.readonly = True\n'
    path = write_file(layered + ALONE)
    hako("create", path)
    upper = places / "lib" / "box" / "upper"
    assert upper.is_dir()
    before = sorted(str(one) for one in (places / "lib" / ".layers").rglob("*"))
    script = "cat /etc/hosts /etc/resolv.conf; stat -c %a /etc"
    for _ in range(2):
        done = hako("start", path, "--", "sh", "-c", script)
        assert done.stdout.startswith("127.0.0.1 localhost\n")
        assert "# made by hakoniwa" in done.stdout
        assert done.stdout.endswith("750\n")
    assert sorted(str(one) for one in (places / "lib" / ".layers").rglob("*")) == before
    assert sorted(os.listdir(upper / "etc")) == (["hosts"] if link else ["hosts", "resolv.conf"])


@pytest.mark.parametrize("target", ["/etc/hosts", "/etc/resolv.conf"])
def test_a_link_of_the_rootfs_leads_nowhere_outside(
    hako: Hako, host: Host, box: Writer, rootfs: Path, places: Path, target: str
) -> None:
    outside = places / "outside"
    outside.write_text("the host's\n")
    (rootfs / target.lstrip("/")).unlink(missing_ok=True)
    (rootfs / target.lstrip("/")).symlink_to("../../../../../.." + str(outside))
    hako("start", box(ALONE), *SHOW, status=1)
    assert outside.read_text() == "the host's\n"
    assert (rootfs / str(outside).lstrip("/")).exists()  # below the root
    (rootfs / target.lstrip("/")).unlink()
    (rootfs / target.lstrip("/")).symlink_to(Path(target).name)
    done = hako("start", box(ALONE), "--", "true", status=125)
    assert "Too many levels of symbolic links" in done.stderr


def test_what_the_file_mounts_there_is_left_alone(hako: Hako, host: Host, box: Writer, places: Path) -> None:
    for name in ("hosts", "resolv.conf"):
        (places / name).write_text(f"my {name}\n")
    for lines in (
        f'config.add_mount_point("{places}/hosts", to="/etc/hosts")\n'
        f'config.add_mount_point("{places}/resolv.conf", to="/etc/resolv.conf")\n',
        f'config.mount_network_etc(host_root="{places}")\n',
    ):
        done = hako("start", box(ALONE + lines), "--", "cat", "/etc/hosts", "/etc/resolv.conf")
        assert done.stdout == "my hosts\nmy resolv.conf\n"
        shown = hako("start", "--dry-run", box(ALONE + lines)).stdout
        assert "run/box/hosts" not in shown
    kept = ALONE + f'config.add_mount_point("{places}/hosts", to="/etc/hosts")\n'
    done = hako("start", box(kept), "--", "cat", "/etc/hosts", "/etc/resolv.conf")
    assert done.stdout.startswith("my hosts\n# made by hakoniwa\n")


def test_a_file_without_a_network_has_nothing_of_it(hako: Hako, host: Host, box: Writer, places: Path) -> None:
    hako("start", box(), "--", "true")
    assert not (places / "run" / ".names").exists()
    assert "/etc/hosts" not in hako("start", "--dry-run", box()).stdout


# Later


def test_names_change_by_a_reload(hako: Hako, host: Host, hosted: Writer) -> None:
    begin = NETWORK + WAITS
    hako("start", "-b", "-D", hosted(begin))
    hako("start", "-b", "-D", hosted(NETWORK + WAITS, "other"))
    path = hosted(
        begin.replace('["10.0.0.1"]', '["192.0.2.53"], search=["x.example"]')
        + 'config.network.hosts["db"] = "192.0.2.7"\n'
    )
    done = hako("reload", path)
    assert done.stdout.splitlines() == [
        "box: network.hosts: applied",
        "box: network.dns_servers: applied",
        "box: network.dns_search: applied",
    ]
    shown = hako("attach", path, "--", "cat", "/etc/resolv.conf", "/etc/hosts").stdout
    assert shown.startswith("# made by hakoniwa\nnameserver 192.0.2.53\nsearch x.example\n")
    assert "192.0.2.7 db\n" in shown
    assert " other\n" in shown
    assert hako("reload", path).stdout == "box: nothing has changed\n"
    hako("kill", "-T", "0", path)
    hako("kill", "-T", "0", "-n", "other")


def test_what_the_host_asks_later_is_asked_after_a_reload(
    hako: Hako, host: Host, hosted: Writer, resolving: list[str], tmp_path: Path
) -> None:
    """The policy follows."""
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 192.0.2.54\n")
    path = hosted('config.network.policy = ["dns"]\n' + WAITS)
    hako("create", path)
    started = with_resolver(resolv, "", "start", "-D", path)
    assert started.returncode == 0, started.stderr
    assert asked(hako, "box", "box.example") == {}
    resolv.write_text("nameserver 192.0.2.53\n")  # in place: the supervisor sees it
    assert asked(hako, "box", "box.example") == {}
    told = hako("reload", path).stdout
    assert told == "box: network.policy: dns: applied\nbox: /etc/resolv.conf, as the host's is now: applied\n"
    assert asked(hako, "box", "box.example") == {"box.example": "192.0.2.99"}
    hako("kill", "-T", "0", path)
