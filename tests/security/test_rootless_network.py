"""Ways out of an ordinary user's network: to the loopback of the host, which pasta could connect to, and past its arguments."""

from __future__ import annotations

import pytest

from hakoniwa.network.links import pasta
from hakoniwa.spec.networks import Interface, Network
from tests.machines import DEAF, PATIENCE
from tests.networks import Host
from tests.ordinary import Ordinary, user
from tests.system.test_rootless_network import AUTO, PYTHON, SLEEP, helpers, host, state_of

__all__ = ["host", "user"]

# It takes no capability to have a packet leave by an interface that its destination is not behind (`man 7 socket`).
AROUND = """
import socket, sys
sending = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sending.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
try:
    for _ in range(3):
        sending.sendto(b"from inside", (sys.argv[1], 7000))
    print("sent")
except OSError as error:
    print(error.strerror)
"""


def test_the_loopback_of_the_host_is_not_reached(user: Ordinary, host: Host) -> None:
    """By the loopback's own addresses, and by the gateway's, which pasta maps to it unless told otherwise."""
    path = user.write(AUTO)
    with host.listen(7000, "udp", "127.0.0.1") as hearing:
        hearing.settimeout(DEAF)
        for address in ("127.0.0.1", "127.0.0.9", "10.0.0.1"):
            user.hako("start", "-b", path, "--", PYTHON, "-c", AROUND, address)
            with pytest.raises(TimeoutError):
                hearing.recv(100)
        # A service that is open to the network is no secret: that way is open.
        assert user.hako("start", path, "--", PYTHON, "-c", AROUND, "192.0.2.1").stdout == "sent\n"


def test_that_attack_reaches_it_without_the_rules(host: Host, user: Ordinary) -> None:
    """Shown with pasta alone, as hakoniwa starts it."""
    words = pasta.arguments(Network(interfaces=(Interface(),)), "net")
    assert "--no-map-gw" in words
    assert words[words.index("--tcp-ns") + 1] == words[words.index("--udp-ns") + 1] == "none"
    assert words[words.index("--tcp-ports") + 1] == words[words.index("--udp-ports") + 1] == "none"
    pasta_line = " ".join(
        word for word in words if word not in ("--netns-only", "--netns", "net", "--quiet", "--foreground")
    )
    pasta_line = pasta_line.replace("--pid /proc/self/fd/1", "")
    with host.listen(7000, "udp", "127.0.0.1") as hearing:
        hearing.settimeout(PATIENCE)
        user.run("sh", "-c", f'exec pasta {pasta_line} -- {PYTHON} -c "$0" 127.0.0.1', AROUND, status=None)
        assert hearing.recv(100) == b"from inside"


def test_nothing_listens_for_it_but_what_is_published(user: Ordinary, host: Host) -> None:
    path = user.write(AUTO + 'config.network.publish("127.0.0.1:8081:81")\n')
    user.hako("start", "-b", "-D", path, *SLEEP)
    (pid,) = helpers(host)
    lines = host.run("ss", "-H", "-l", "-n", "-t", "-u", "-p").splitlines()
    assert [line.split()[4] for line in lines if f"pid={pid}," in line] == ["127.0.0.1:8081"]


def test_pasta_is_nobody_s_to_look_into_and_is_not_seen_from_inside(user: Ordinary, host: Host) -> None:
    path = user.write(AUTO)
    user.hako("start", "-b", "-D", path, *SLEEP)
    (pid,) = helpers(host)
    seen = user.hako("attach", path, "--", "sh", "-c", "cat /proc/[0-9]*/comm").stdout
    assert "past" not in seen.replace("pasta-", "")
    assert state_of(user)["network"]["helper"]["pid"] == pid


@pytest.mark.parametrize("value", ["--log-file=/tmp/x", "-a", "10.0.0.7 --trace", "10.0.0.7\n-d"])
@pytest.mark.parametrize("word", ["container_ip", "bridge_ip", "veth_guest", "mac"])
def test_no_value_becomes_an_option(user: Ordinary, word: str, value: str) -> None:
    user.hako("start", "-b", user.write(AUTO + f"config.network.{word} = {value!r}\n"), "--", "true", status=125)
