"""Networks of an ordinary user's containers: what pasta carries, what ends it, and what it cannot do."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hakoniwa.kernel.processes.pidfd import wait_end
from tests.conftest import HAKO
from tests.machines import PATIENCE, Server
from tests.networks import HOST, OUTSIDE, Host
from tests.ordinary import Ordinary, user

__all__ = ["user"]

BOX = """
config.bootstrap.strategy = "host"
config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")
"""
AUTO = BOX + 'config.network.container_ip = "auto"\n'
PUBLISH = BOX + 'config.network.publish("8080:80")\n'
PYTHON = "/usr/bin/python3"
ASK = """
import socket, sys
kind = socket.SOCK_DGRAM if sys.argv[3:] else socket.SOCK_STREAM
asking = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, kind)
asking.settimeout(10)
asking.connect((sys.argv[1], int(sys.argv[2])))
if sys.argv[3:]:
    asking.send(b"?")
print(asking.recv(100).decode())
"""
# Listens on the ports it is given, and on all the same ones of UDP; then says so.
ANSWER = """
import select, socket, sys
tcp = [socket.create_server(("", int(port))) for port in sys.argv[1:]]
udp = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for port in sys.argv[1:]]
[one.bind(("", int(port))) for one, port in zip(udp, sys.argv[1:])]
open("/tmp/listens", "w").close()
while True:
    for ready in select.select([*tcp, *udp], [], [])[0]:
        if ready in tcp:
            connection, _ = ready.accept()
            connection.recv(1)
            connection.sendall(b"port %d" % ready.getsockname()[1])
            connection.close()
        else:
            ready.sendto(b"udp %d" % ready.getsockname()[1], ready.recvfrom(100)[1])
"""
SERVING = ("--", PYTHON, "-c", ANSWER)
SLEEP = ("--", "sleep", "1000")


@pytest.fixture
def host(user: Ordinary) -> Iterator[Host]:
    """The machine that the user is on, with the other behind it."""
    user.tun = True
    made = Host()
    try:
        with made.inside():
            yield made
            for name in names(user):
                user.hako("kill", "-n", name, "-T", "0", status=None)
            assert not helpers(made), "left behind"
            assert not made.left()
    finally:
        made.close()


def names(user: Ordinary) -> list[str]:
    run = user.home / "run" / "hakoniwa"
    return [name for name in os.listdir(run) if not name.startswith(".")] if run.is_dir() else []


def helpers(host: Host) -> list[int]:
    """The pids of what is called pasta, and is on this machine of the test's."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            name = Path(f"/proc/{pid}/comm").read_text()
            here = os.stat(f"/proc/{pid}/ns/net").st_ino == os.fstat(host.number).st_ino
            if here and name.startswith(("pasta", "passt")):
                found.append(int(pid))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def state_of(user: Ordinary, name: str = "home-box") -> Any:
    return json.loads((user.home / "run" / "hakoniwa" / name / "state.json").read_text())


def ask(host: str, port: int, kind: str = "tcp") -> str:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as asking:
        asking.settimeout(PATIENCE)
        asking.connect((host, port))
        asking.send(b"?")  # the pasta of Debian 12 does not tell a server of a client that says nothing
        return asking.recv(100).decode()


def serve(user: Ordinary, body: str, *ports: int) -> None:
    """A container that answers on ports."""
    path = user.write(body)
    user.hako("start", "-b", "-D", path, *SERVING, *map(str, ports))
    user.hako("attach", path, "--", "sh", "-c", "until [ -e /tmp/listens ]; do :; done")


def refused(user: Ordinary, body: str) -> str:
    return user.hako("start", "-b", user.write(body), "--", "true", status=125).stderr


# What it reaches, and who reaches it


def test_it_reaches_other_machines_and_has_names(user: Ordinary, host: Host) -> None:
    path = user.write(AUTO + 'config.network.dns(servers=["192.0.2.53"])\nconfig.network.hosts["far"] = "192.0.2.2"\n')
    with Server(host.outside, 7000, name="another machine"), Server(host.outside, 7001, "udp", name="it"):
        said = user.hako("start", "-b", path, "--", PYTHON, "-c", ASK, OUTSIDE, "7000").stdout
        assert said == f"another machine {HOST}\n"
        said = user.hako("start", path, "--", PYTHON, "-c", ASK, "far", "7001", "udp").stdout
        assert said == f"it {HOST}\n"
    said = user.hako("start", path, "--", "sh", "-c", "cat /etc/hosts /etc/resolv.conf; hostname").stdout
    assert "10.0.0.2\thome-box" in said.replace(" ", "\t")
    assert "nameserver 192.0.2.53" in said
    assert not helpers(host)


def test_a_fixed_address_and_names_of_the_interface(user: Ordinary, host: Host) -> None:
    body = BOX + 'config.network.container_ip = "10.7.0.9"\nconfig.network.bridge_ip = "10.7.0.1/16"\n'
    body += 'config.network.veth_guest = "lan0"\nconfig.network.mtu = 1400\nconfig.network.mac = "02:00:00:00:00:07"\n'
    said = user.hako("start", "-b", user.write(body), "--", "ip", "address", "show", "lan0").stdout
    assert "10.7.0.9/16" in said
    assert "mtu 1400" in said
    assert "02:00:00:00:00:07" in said


def test_ipv6(user: Ordinary, host: Host) -> None:
    path = user.write(AUTO + 'config.network.container_ip6 = "auto"\n')
    with Server(host.outside, 7000, name="it"):
        said = user.hako("start", "-b", path, "--", PYTHON, "-c", ASK, "2001:db8::2", "7000").stdout
    assert said == "it 2001:db8::1\n"


def test_published_ports(user: Ordinary, host: Host) -> None:
    body = PUBLISH + 'config.network.publish("8080:80/udp")\nconfig.network.publish("9000-9002:9000")\n'
    body += f'config.network.publish("127.0.0.1:8081:81")\nconfig.network.publish("{HOST}:8082:81")\n'
    serve(user, body, 80, 81, 9000, 9001, 9002)
    for address in ("127.0.0.1", HOST):
        assert ask(address, 8080) == "port 80"
        assert ask(address, 9002) == "port 9002"
    assert ask(HOST, 8080, "udp") == "udp 80"
    assert ask("127.0.0.1", 8081) == ask(HOST, 8082) == "port 81"
    with pytest.raises(ConnectionRefusedError):
        ask(HOST, 8081)
    with host.outside.connect(HOST, 8080) as asking:
        asking.send(b"?")
        assert asking.recv(100) == b"port 80"
    assert "8080:80" in user.hako("ps").stdout
    user.hako("kill", "-n", "home-box")
    with pytest.raises(ConnectionRefusedError):
        ask(HOST, 8080)


def test_only_what_is_published_is_there(user: Ordinary, host: Host) -> None:
    serve(user, AUTO, 8090)
    for address in ("127.0.0.1", HOST):
        with pytest.raises(ConnectionRefusedError):
            ask(address, 8090)


def test_a_policy(user: Ordinary, host: Host) -> None:
    path = user.write(AUTO + f'config.network.policy = ["{OUTSIDE}:7000/tcp"]\n')
    with Server(host.outside, 7000, name="let through"), Server(host.outside, 7001):
        assert "let through" in user.hako("start", "-b", path, "--", PYTHON, "-c", ASK, OUTSIDE, "7000").stdout
        told = user.hako(
            "start",
            path,
            "--",
            PYTHON,
            "-c",
            f"try:\n exec({ASK!r})\nexcept OSError as e: print(e.errno)",
            OUTSIDE,
            "7001",
        )
        assert told.stdout == "113\n"  # EHOSTUNREACH
    nothing = user.write(BOX + 'config.network.policy = "none"\n', "none")
    said = user.hako("start", "-b", nothing, "--", "ls", "/sys/class/net").stdout
    assert "eth0" not in said


# Its life


def test_it_ends_with_the_container_and_with_a_killed_supervisor(user: Ordinary, host: Host) -> None:
    path = user.write(PUBLISH)
    user.hako("start", "-b", "-D", path, *SLEEP)
    (pid,) = helpers(host)
    assert state_of(user)["network"]["helper"]["pid"] == pid
    user.hako("kill", path)
    assert helpers(host) == []
    user.hako("start", "-D", path, *SLEEP)
    (pid,) = helpers(host)
    pidfd = os.pidfd_open(pid)
    os.kill(state_of(user)["supervisor_pid"], signal.SIGKILL)
    assert wait_end(pidfd, PATIENCE), "pasta outlives the supervisor"
    os.close(pidfd)
    user.hako("start", "-D", path, *SLEEP)  # the port is free again
    assert len(helpers(host)) == 1


def test_a_killed_pasta_is_told(user: Ordinary, host: Host) -> None:
    path = user.write(AUTO)
    user.hako("start", "-b", "-D", path, *SLEEP)
    (pid,) = helpers(host)
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert wait_end(pidfd, PATIENCE)
    os.close(pidfd)
    assert "true" in user.hako("attach", path, "--", "echo", "true").stdout
    log = user.home / "state" / "hakoniwa"
    user.hako("kill", path)
    said = "".join(one.read_text() for one in log.rglob("*") if one.is_file()) if log.is_dir() else ""
    said += user.hako("logs", "-n", "home-box", status=None).stdout
    assert "pasta has ended" in said


def test_a_reload_of_ports_needs_a_restart(user: Ordinary, host: Host) -> None:
    path = user.write(PUBLISH)
    user.hako("start", "-b", "-D", path, *SLEEP)
    user.write(BOX + 'config.network.publish("8081:80")\n')
    told = user.hako("reload", path, status=None)
    assert "it needs a restart" in told.stdout + told.stderr


# What goes wrong


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('config.network.bridge_name = "lan0"', "bridge_name = 'lan0' takes root"),
        ('config.network.namespace = "mine"', "network.namespace takes root"),
        ("config.network.isolated = True", "isolated takes root"),
        ("config.network.rate = 100000", "rate takes root"),
        ("config.network.nat = False", "nat = False takes root"),
        ('config.network.veth_host = "mine"', "veth_host = 'mine' takes root"),
        ('config.network.add(bridge_name="lan1")', "takes root"),
        ('config.network.add("macvlan", parent="up0")', "an interface of macvlan takes root"),
        ('config.network.cni("NET")', "an interface of cni takes root"),
        ('config.network.publish("8080:80", wake=True)', "a port cannot wake its container yet"),
        ('config.capabilities.allow("cap_net_raw")', "cap_net_raw leads to what listens on the loopback of the host"),
    ],
)
def test_what_pasta_cannot_do_is_told_with_its_line(user: Ordinary, line: str, told: str) -> None:
    body = AUTO + line + "\n"
    said = refused(user, body)
    assert told in said
    assert said.startswith("hako: box.haco.py:") or "/box.haco.py:" in said


def test_ports_that_take_root_or_are_taken(user: Ordinary, host: Host) -> None:
    assert "ip_unprivileged_port_start" in refused(user, BOX + 'config.network.publish("80:80")\n')
    with Server(host, 8080):
        assert "is taken by" in refused(user, PUBLISH)
    user.hako("start", "-b", "-D", user.write(PUBLISH, "other"), *SLEEP)
    assert "8080/tcp of the host is taken" in refused(user, PUBLISH)


def test_without_a_tun_device(user: Ordinary) -> None:
    if os.stat("/dev/net/tun").st_mode & 0o006 == 0o006:
        pytest.skip("it is open to everybody here")
    assert "/dev/net/tun is not open to you" in refused(user, AUTO)


def test_without_a_default_route(user: Ordinary, host: Host) -> None:
    host.run("ip", "route", "del", "default")
    try:
        assert "no default route" in refused(user, AUTO)
    finally:
        host.route("up0", OUTSIDE)


def test_without_pasta(user: Ordinary, tmp_path: Path) -> None:
    path = user.write(AUTO)
    empty = tmp_path / "none"
    empty.touch()
    hide = 'mount --bind {0} /usr/bin/pasta && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", hide.format(empty), "sh", *user_words(user, path)]
    done = subprocess.run(command, env=user.environ(), capture_output=True, text=True, timeout=60, stdin=-3)
    assert done.returncode == 125
    assert "pasta is not installed" in done.stderr
    assert "apt-get install passt" in done.stderr


def user_words(user: Ordinary, path: Path) -> list[str]:
    return user.words(HAKO, "start", "-b", path, "--", "true")
