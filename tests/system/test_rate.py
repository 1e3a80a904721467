"""A rate is kept, and nothing is lost by it. How well it is kept, the benchmark shows."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from struct import pack, unpack_from

import pytest

from hakoniwa.kernel.netlink import messages
from hakoniwa.kernel.netlink.routes import Links, Veth
from hakoniwa.kernel.processes import process
from hakoniwa.network import rate


class Ends:
    """A host with a bridge, and a container on it: each a network namespace."""

    def __init__(self, host: int, guest: int) -> None:
        self.numbers = (host, guest)
        self.host, self.guest = Links(messages.open_socket(host)), Links(messages.open_socket(guest))
        self.host.add_bridge("br0")
        bridge = self.host.find("br0")
        assert bridge is not None
        self.host.add_address(bridge.index, "10.0.0.1", 24)
        self.host.add_veth(Veth(name="hk0", master=bridge.index, peer="eth0", namespace=guest))
        port, eth = self.host.find("hk0"), self.guest.find("eth0")
        assert port is not None
        assert eth is not None
        self.indexes = (port.index, eth.index)
        self.guest.set("eth0", up=True)
        self.guest.add_address(eth.index, "10.0.0.2", 24)


def open_in(namespace: int) -> socket.socket:
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    process.join(namespace, process.NAMESPACES["net"])
    try:
        return socket.socket()
    finally:
        process.join(own, process.NAMESPACES["net"])
        os.close(own)


@pytest.fixture
def ends() -> Iterator[Ends]:
    holders = [subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec cat"], stdin=-1, stdout=-1) for _ in "ab"]
    numbers = []
    for holder in holders:
        assert holder.stdout is not None
        holder.stdout.read(1)
        numbers.append(os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY))
    made = Ends(*numbers)
    yield made
    made.host.close()
    made.guest.close()
    for holder, number in zip(holders, numbers, strict=True):
        os.close(number)
        holder.communicate()


def held_back(links: Links, index: int) -> int | None:
    """How often the token bucket of an interface has had a packet wait; None if it has none."""
    for body in messages.dump(links.channel, 38, pack("BxxxiIII", 0, 0, 0, 0, 0)):  # RTM_GETQDISC
        said = messages.attributes(body, 20)
        if unpack_from("i", body, 4)[0] == index and said[1] == b"tbf\0":
            return int(unpack_from("QIII", said[3])[3])  # TCA_STATS: struct tc_stats, overlimits
    return None


def transfer(sender: socket.socket, receiver: socket.socket, content: bytes) -> bytes:
    got = b""
    thread = threading.Thread(target=sender.sendall, args=(content,))
    thread.start()
    while len(got) < len(content) and (more := receiver.recv(1 << 16)):
        got += more
    thread.join()
    return got


def test_a_rate_holds_both_ways_and_every_byte_arrives(ends: Ends) -> None:
    for links, index in zip((ends.host, ends.guest), ends.indexes, strict=True):
        assert held_back(links, index) is None
        rate.limit(links.channel, index, 20_000_000)
        rate.limit(links.channel, index, 10_000_000)  # once more: another one takes its place
        assert held_back(links, index) == 0
    content = os.urandom(4_000_000)
    with open_in(ends.numbers[0]) as listener, open_in(ends.numbers[1]) as client:
        listener.bind(("10.0.0.1", 0))
        listener.listen()
        client.connect(listener.getsockname())
        served = listener.accept()[0]
        with served:
            assert transfer(client, served, content) == content
            assert transfer(served, client, content) == content
    for links, index in zip((ends.host, ends.guest), ends.indexes, strict=True):
        assert held_back(links, index)
        rate.unlimit(links.channel, index)
        assert held_back(links, index) is None
        with pytest.raises(messages.Refused, match="handle"):
            rate.unlimit(links.channel, index)


@pytest.mark.parametrize("wanted", [1, 1000, 1 << 32, 1 << 36])
def test_any_rate_lets_a_connection_through(ends: Ends, wanted: int) -> None:
    rate.limit(ends.host.channel, ends.indexes[0], wanted)
    with open_in(ends.numbers[0]) as listener, open_in(ends.numbers[1]) as client:
        listener.bind(("10.0.0.1", 0))
        listener.listen()
        client.connect(listener.getsockname())
        with listener.accept()[0] as served:
            assert transfer(served, client, b"x" * 1000) == b"x" * 1000
