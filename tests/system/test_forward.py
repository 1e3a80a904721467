"""`hako forward`: bytes that go to a container and back, through a process that is nobody."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import HAKO, Hako
from tests.machines import Inside, Server
from tests.networks import Host, host
from tests.ordinary import Ordinary, user

__all__ = ["host", "user"]

Writer = Callable[..., Path]
APART = 'config.namespace.unshare("net")\n'
AUTO = 'config.network.container_ip = "auto"\n'
PORT = 18080


@contextmanager
def forwarding(hako: Hako, *words: str | Path, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """The command, once it forwards."""
    process = hako.background("forward", *words, **options)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(b"forwarding "), (line, process.stderr and process.stderr.read())
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


def serve(hako: Hako, path: Path, *program: str) -> None:
    hako("start", "-D", path, "--", "nc", "-ll", "-p", "80", "-e", *program)
    hako("attach", path, "--", "sh", "-c", "until grep -q ':0050 ' /proc/net/tcp /proc/net/tcp6; do :; done")


def connect(port: int = PORT, host: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((host, port), timeout=20)


@pytest.mark.parametrize("lines", [APART, AUTO], ids=["alone", "on a bridge"])
def test_a_port_leads_inside_until_ctrl_c(hako: Hako, box: Writer, host: Host, lines: str) -> None:
    path = box(lines)
    serve(hako, path, "hostname")
    with forwarding(hako, path, f"{PORT}:80") as process:
        for _ in range(3):
            with connect() as asking:
                assert asking.recv(100) == b"box\n"
                assert asking.recv(100) == b""
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    with pytest.raises(ConnectionRefusedError):
        connect()


def test_bytes_are_the_same_on_both_ways_and_halves_close_apart(hako: Hako, box: Writer, host: Host) -> None:
    path = box(APART)
    serve(hako, path, "cat")
    sent = os.urandom(1 << 20) * 20
    with forwarding(hako, path, f"{PORT}:80"), connect() as channel:

        def send() -> None:
            channel.sendall(sent)
            channel.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        heard = hashlib.sha256()
        while more := channel.recv(1 << 16):
            heard.update(more)
        sender.join()
        assert heard.digest() == hashlib.sha256(sent).digest()


def test_who_does_not_read_is_not_read_for(hako: Hako, box: Writer, host: Host) -> None:
    path = box(APART)
    serve(hako, path, "yes")
    with forwarding(hako, path, f"{PORT}:80") as process, connect() as channel, connect() as other:
        assert other.recv(2) == b"y\n"  # one that waits keeps no other waiting
        assert channel.recv(2) == b"y\n"
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                assert int(line.split()[1]) < 100_000
            if line.startswith(("Uid", "Gid")):
                assert line.split()[1:] == ["65534"] * 4
            if line.startswith("CapEff"):
                assert int(line.split()[1], 16) == 0


def test_a_port_that_nobody_hears_on_inside_is_refused(hako: Hako, box: Writer, host: Host) -> None:
    path = box(APART)
    hako("start", "-D", path, "--", "sleep", "1000")
    with forwarding(hako, path, f"{PORT}:81"), connect() as asking, pytest.raises(ConnectionResetError):
        asking.recv(1)


def test_what_listens_on_the_interface_alone(hako: Hako, box: Writer, host: Host) -> None:
    path = box('config.network.container_ip = "10.0.0.9"')
    pid = int(hako("start", "-D", path, "--", "sleep", "1000").stdout.split()[1])
    with (
        Inside(pid) as inside,
        Server(inside, 80, name="inside", host="10.0.0.9"),
        forwarding(hako, path, f"{PORT}:80"),
        connect() as asking,
    ):
        assert asking.recv(100) == b"inside 10.0.0.9"


def test_it_ends_with_the_container(hako: Hako, box: Writer, host: Host) -> None:
    path = box(APART)
    serve(hako, path, "hostname")
    with forwarding(hako, "-n", "box", f"{PORT}:80") as process:
        hako("kill", path)
        assert process.wait(20) == 0


def test_more_than_fit_are_served_in_turn(hako: Hako, box: Writer, host: Host) -> None:
    path = box(APART)
    pid = int(hako("start", "-D", path, "--", "sleep", "1000").stdout.split()[1])
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))  # noqa: E731  # eight connections
    with (
        Inside(pid) as inside,
        Server(inside, 80, name="inside"),
        forwarding(hako, "box", f"{PORT}:80", preexec_fn=few),
    ):
        waiting = [connect() for _ in range(40)]
        for channel in waiting:
            with channel:
                assert channel.recv(100).startswith(b"inside")


def test_ports_that_cannot_be(hako: Hako, box: Writer, host: Host) -> None:
    path = box(APART)
    assert "which port?" in hako("forward", path, status=2).stderr
    assert "no container" in hako("forward", path, f"{PORT}:80", status=125).stderr
    serve(hako, path, "hostname")
    assert "connections are forwarded, and udp has none" in hako("forward", path, "53:53/udp", status=2).stderr
    assert "a port must be" in hako("forward", path, "here:80", status=2).stderr
    with socket.create_server(("127.0.0.1", PORT)):
        refused = hako("forward", path, f"{PORT}:80", status=125).stderr
        assert f"cannot listen on port {PORT} of 127.0.0.1: process {os.getpid()} has it" in refused


def test_an_ordinary_user_forwards_to_a_container_of_their_own(user: Ordinary, host: Host) -> None:
    lines = APART + 'config.bootstrap.strategy = "host"\nconfig.mount_independent("procfs", "devtmpfs")'
    path = user.write(lines)
    pid = int(user.hako("start", "-b", "-D", path, "--", "sleep", "1000").stdout.split()[-1])
    with Inside(pid) as inside, Server(inside, 80, name="inside"):
        process = user.background(HAKO, "forward", path, f"{PORT}:80")
        assert process.stdout is not None
        assert process.stdout.readline() == f"forwarding 127.0.0.1:{PORT} to home-box:80\n".encode()
        with connect() as asking:
            assert asking.recv(100) == b"inside 127.0.0.1"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        process.communicate()
