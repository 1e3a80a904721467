"""Each example runs as its comment says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Hako
from tests.machines import Machine, Server
from tests.networks import HOST, TOKEN, Host, host
from tests.system.test_strategies import create

__all__ = ["host"]

EXAMPLES = Path(__file__).parents[2] / "examples"
PRINTS: dict[str, tuple[tuple[str, ...], str | None]] = {
    "hello": ((), "hello from hello, pid 1\n"),
    "dev": (("--", "sh", "-c", "pwd; ls dev.haco.py"), "/work\ndev.haco.py\n"),
    "busybox": (("--", "sh", "-c", "id -un; touch /x 2>&1"), "nobody\ntouch: /x: Read-only file system\n"),
    "pair": ((), "pair-first | I am pair-first\npair-second | I am pair-second\n"),
    "ticker": (("-D", "--wait"), None),
    "isolated": ((), f"0\n{0:>10} FIRST {65536:>10}\nnot allowed\n"),
    "hooks": ((), "hooks was prepared in its own root\n"),
    "provisioned": ((), "made by a shell\nmade by a function\n"),
    "debian": (("--", "sh", "-c", "id -un; pwd; git --version | cut -d' ' -f1,2"), "dev\n/home/dev\ngit version\n"),
}


NETWORKS = {"network", "web", "offline"}


def test_every_example_is_tested() -> None:
    assert {path.name.removesuffix(".haco.py") for path in EXAMPLES.glob("*.haco.py")} == {*PRINTS} | NETWORKS


@pytest.fixture
def example(places: Path) -> Callable[[str], Path]:
    """A copy of an example that keeps to the folders of the test."""

    def copy(name: str) -> Path:
        path = places / f"{name}.haco.py"
        path.write_text((EXAMPLES / path.name).read_text().replace("/var/lib/hakoniwa/", f"{places}/lib/"))
        return path

    return copy


def page(machine: Machine, address: str, port: int, path: str = "/") -> str:
    """What a server of the Web says, without the head."""
    with machine.connect(address, port) as asking:
        asking.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        content = b""
        while more := asking.recv(4096):
            content += more
    return content.partition(b"\r\n\r\n")[2].decode()


def wait_for_port(hako: Hako, name: str, port: int) -> None:
    until = f"until grep -q :{port:04X} /proc/net/tcp /proc/net/tcp6; do :; done"
    hako("attach", "-n", name, "--", "sh", "-c", until)


def test_two_services_find_each_other(hako: Hako, example: Callable[[str], Path], host: Host) -> None:
    path = example("network")
    hako("start", "-b", "-D", path)
    wait_for_port(hako, "store", 8000)
    wait_for_port(hako, "shop", 8080)
    assert page(host, "127.0.0.1", 8080) == "42 apples\n"
    assert page(host.outside, HOST, 8080) == "42 apples\n"
    hako("kill", path)
    hako("rm", "--rootfs", path)


def test_haconiwa_s_sample_of_a_network(hako: Hako, example: Callable[[str], Path], host: Host) -> None:
    path = example("web")
    name = f"haconiwa-nw-test{TOKEN}"
    hako("start", "-b", path, SUFFIX=TOKEN)
    wait_for_port(hako, name, 80)
    assert f"10.254.254.10 {name}" in page(host, "10.254.254.10", 80, "/hosts")
    assert "10.254.254.10/24" in host.run("ip", "netns", "exec", name, "ip", "address")
    hako("kill", path)
    assert "hogehoge0" not in host.names()
    hako("rm", "--rootfs", path)


def test_one_that_reaches_nobody(hako: Hako, example: Callable[[str], Path], host: Host) -> None:
    path = example("offline")
    with Server(host, 22):
        assert hako("start", "-b", path).stdout == "nobody can be reached\n"
    hako("rm", "--rootfs", path)


@pytest.mark.parametrize("name", PRINTS)
def test_example(hako: Hako, places: Path, name: str) -> None:
    copy = places / f"{name}.haco.py"
    copy.write_text((EXAMPLES / copy.name).read_text().replace("/var/lib/hakoniwa/", f"{places}/lib/"))
    words, printed = PRINTS[name]
    if name == "debian":
        create(copy)
    done = hako("start", "-b", copy, *words, status=None)
    if printed is None:
        assert done.stdout.startswith(f"{name} "), done.stderr
        hako("kill", copy)
        hako("rm", "--rootfs", copy)
        return
    found = re.sub(r"^( +0) +\d{6,} ", r"\1 FIRST ", done.stdout, flags=re.MULTILINE)  # an id that is chosen
    assert "".join(sorted(found.splitlines(keepends=True))) == "".join(sorted(printed.splitlines(keepends=True)))
    hako("rm", "--rootfs", copy)
