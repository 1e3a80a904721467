"""What a network costs: starts, connections and bytes, on a machine of its own (a network namespace) with another one beside it."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.limits import Row, medians
from tests.machines import Inside, Machine

PROJECT = Path(__file__).parents[2]
HAKO = str(PROJECT / ".venv" / "bin" / "hako")
HOST, PORT = "192.0.2.1", 8080
BYTES = 2_000_000_000  # that go through each way
CONNECTIONS = 300  # of each kind, in a round
FIFTY = 50
START, SECONDS, SLOWER, LATER = 1.5, 2.0, 1 / 0.97, 1.1

FILE = """
from hakoniwa import Haconiwa

with Haconiwa.define() as config:
    config.name = {name!r}
    config.chroot_to({rootfs!r})
    config.rootfs.readonly = True
    config.init_command = ["/bin/sleep", "1000"]
    {more}
"""
PUBLISH = "config.network.publish({ports!r})"
POLICY = 'config.network.policy = ["192.0.2.0/24:443/tcp"]'
RATE, MISSED = 20 * 1024**2, 0.1  # bytes a second, and how far off they may be


def report(folder: Path, rootfs: Path, rounds: int) -> list[Row]:
    """The rows of the table."""

    def write(name: str, ports: str, more: str = "") -> str:
        path = folder / f"{name}.haco.py"
        more = PUBLISH.format(ports=ports) if ports else more
        path.write_text(FILE.format(name=name, rootfs=str(rootfs), more=more))
        return str(path)

    without, alone = write("bench-without", ""), write("bench-published", f"{PORT}:80")
    other = write("bench-other", "9090:80")
    under, slow = write("bench-policy", "", POLICY), write("bench-rate", "", f"config.network.rate = {RATE}")
    starts = {name: [HAKO, "start", path, "--", "/bin/true"] for name, path in (("without", without), ("with", alone))}
    with machine() as host, host.inside():
        first = medians(starts, rounds)
        with running(host, other) as inside:
            found = medians({**starts, "policy": [HAKO, "start", under, "--", "/bin/true"]}, rounds)
            rows = [
                Row(
                    "start with `publish` on a bridge, to without a network",
                    found["with"] / found["without"],
                    "{:.2f} ×",
                    START,
                ),
                Row("the same if the bridge comes and goes with it", first["with"] / first["without"], "{:.2f} ×"),
                Row(
                    "start with a policy on a bridge, to without a network",
                    found["policy"] / found["without"],
                    "{:.2f} ×",
                ),
                Row("fifty at once that publish a port", fifty(folder, write), "{:.2f} s", SECONDS),
                Row(
                    "a new connection through a published port, to a direct one",
                    latency(host, inside, 9090),
                    "{:.2f} ×",
                    LATER,
                ),
                Row(
                    "2 GB from the host to a container, to a plain veth pair",
                    throughput(host, inside),
                    "{:.2f} ×",
                    SLOWER,
                ),
            ]
        with running(host, slow) as inside:
            rows.append(
                Row("bytes at a `rate`, beside those that it stands for", misses(host, inside), "{:.1%}", MISSED)
            )
    return rows


@contextmanager
def machine() -> Iterator[Machine]:
    """The host, with a default route."""
    host, outside = Machine(), Machine()
    try:
        host.join("up0", outside, "eth0")
        host.address("up0", f"{HOST}/24")
        outside.address("eth0", "192.0.2.2/24")
        host.route("up0", "192.0.2.2")
        yield host
    finally:
        outside.close()
        host.close()


@contextmanager
def running(host: Machine, path: str) -> Iterator[Inside]:
    """The network of a container that runs meanwhile."""
    done = subprocess.run([HAKO, "start", "-D", path], check=True, capture_output=True, text=True)
    try:
        with Inside(int(done.stdout.split()[1])) as inside:
            yield inside
    finally:
        subprocess.run([HAKO, "kill", path], check=True, stdout=subprocess.DEVNULL)


def fifty(folder: Path, write: Callable[[str, str], str]) -> float:
    """Seconds from the first command until all containers run."""
    paths = [write(f"bench-many-{number}", f"{10000 + number}:80") for number in range(FIFTY)]
    began = time.perf_counter()
    starting = [subprocess.Popen([HAKO, "start", "-D", path], stdout=subprocess.DEVNULL) for path in paths]
    failed = sum(one.wait() != 0 for one in starting)
    took = time.perf_counter() - began
    ending = [subprocess.Popen([HAKO, "kill", path], stdout=subprocess.DEVNULL) for path in paths]
    for one in ending:
        one.wait()
    assert not failed
    return took


def address_of(inside: Inside) -> str:
    """The IPv4 address of a container."""
    (link,) = json.loads(inside.run("ip", "-4", "-j", "address", "show", "dev", "eth0"))
    return str(link["addr_info"][0]["local"])


@contextmanager
def serving(machine: Machine, port: int, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """A process that answers each connection to a port."""
    with machine.listen(port) as listener:
        listener.settimeout(None)
        child = os.fork()
        if child == 0:
            try:
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        serve(connection)
            finally:
                os._exit(0)
        try:
            yield
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)


def latency(host: Machine, inside: Inside, port: int) -> float:
    """The time of a connection and its first byte through a port of the host, to that of one to the container."""
    places = {"direct": (address_of(inside), 80), "published": (HOST, port)}
    times: dict[str, list[float]] = {name: [] for name in places}
    with serving(inside, 80, lambda connection: connection.sendall(b".")):
        for _ in range(CONNECTIONS):
            for name, place in places.items():
                began = time.perf_counter()
                with host.connect(*place) as asking:
                    asking.recv(1)
                    times[name].append(time.perf_counter() - began)
    return statistics.median(times["published"]) / statistics.median(times["direct"])


def throughput(host: Machine, inside: Inside) -> float:
    """The time that bytes take to a container, to that through a pair of interfaces without a bridge."""
    plain = Machine()
    try:
        host.join("plain0", plain, "eth0")
        host.address("plain0", "198.51.100.1/24")
        plain.address("eth0", "198.51.100.2/24")
        with serving(inside, 81, swallow), serving(plain, 81, swallow):
            places = {"container": address_of(inside), "plain": "198.51.100.2"}
            times: dict[str, list[float]] = {name: [] for name in places}
            for _ in range(7):
                for name, address in places.items():
                    times[name].append(send(host, address))
    finally:
        plain.close()
    return statistics.median(times["container"]) / statistics.median(times["plain"])


def misses(host: Machine, inside: Inside) -> float:
    """How far the speed of a transfer is off the rate."""
    with serving(inside, 81, swallow):
        return abs(1 - 2 * RATE / (send(host, address_of(inside), 2 * RATE) * RATE))


def swallow(connection: socket.socket) -> None:
    """Read to the end, and say so."""
    memory = memoryview(bytearray(1 << 20))
    while connection.recv_into(memory):
        pass
    connection.sendall(b".")


def send(host: Machine, address: str, count: int = BYTES) -> float:
    """Seconds until all bytes have been read."""
    content = bytes(1 << 20)
    with host.connect(address, 81) as sending:
        began = time.perf_counter()
        for _ in range(count >> 20):
            sending.sendall(content)
        sending.shutdown(socket.SHUT_WR)
        sending.recv(1)
        return time.perf_counter() - began
