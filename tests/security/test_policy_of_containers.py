"""Containers under a policy: it is there before they are, and nobody inside, or let in, can lift it.

What gets past the rules themselves, test_network_policy.py shows.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import HAKO, Hako
from tests.networks import Host, host

__all__ = ["host"]
Writer = Callable[..., Path]
HOST_S = (
    'config.bootstrap.strategy = "host"\nconfig.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")\n'
)
POLICY = 'config.network.policy = ["192.0.2.2:443/tcp"]\n'
SENDS = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    s.sendto(b"the secret", ("192.0.2.2", 53))
    print("sent")
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize("user", ["", 'config.namespace.unshare("user")\n'], ids=["root", "user namespace"])
def test_it_is_in_force_before_the_program_s_first_packet(
    hako: Hako, write_file: Writer, host: Host, user: str
) -> None:
    for lines, sent in ((POLICY, "Operation not permitted\n"), ('config.network.container_ip = "auto"', "sent\n")):
        path = write_file(HOST_S + user + lines)
        assert hako("start", "-b", path, "--", "python3", "-c", SENDS).stdout == sent
    held = write_file(HOST_S + user + POLICY)
    hako("start", "-D", held, "--", "sleep", "1000")
    assert hako("attach", held, "--", "python3", "-c", SENDS).stdout == "Operation not permitted\n"
    hako("kill", "-T", "0", held)


UNSHARED = """
for words in "nft flush ruleset" "nft delete table inet hakoniwa_policy" "ip link set eth0 down" "ip route flush table main"; do
    $1 $words 2>/dev/null && echo "DONE: $words"
done
python3 -c "$2"
"""


@pytest.mark.parametrize("user", ["", 'config.namespace.unshare("user")\n'], ids=["root", "user namespace"])
@pytest.mark.parametrize("by", ["", "unshare -Ur", "unshare -Urm", "setpriv --reuid=0"])
def test_nobody_inside_lifts_it(hako: Hako, write_file: Writer, host: Host, user: str, by: str) -> None:
    """As root, and as root of a user namespace that is made inside: which the default profile of seccomp does not even let."""
    words = ("--", "sh", "-c", UNSHARED, "sh", by, SENDS)
    free = "config.seccomp.profile = None\nconfig.no_new_privs = False\n"
    done = hako("start", "-b", write_file(HOST_S + user + free + POLICY), *words)
    assert done.stdout == "Operation not permitted\n"
    # Without the defence
    lifted = 'config.network.policy_can_be_lifted = True\nconfig.capabilities.allow("cap_net_admin")\n'
    done = hako(
        "start",
        write_file(HOST_S + user + free + POLICY + lifted),
        "--",
        "sh",
        "-c",
        f"nft flush ruleset; {UNSHARED.splitlines()[-1]}",
        "sh",
        "",
        SENDS,
    )
    assert done.stdout == "sent\n"


def test_nobody_is_let_in_with_what_lifts_it(hako: Hako, write_file: Writer, host: Host) -> None:
    path = write_file(HOST_S + POLICY)
    hako("start", "-b", "-D", path, "--", "sleep", "1000")
    for name in ("cap_net_admin", "net_raw"):
        refused = hako("attach", "-A", name, path, "--", "true", status=125)
        assert "-A: the network of 'box' has a policy, and cap_net_" in refused.stderr
        assert "(network.policy_can_be_lifted = True in its file lets it)" in refused.stderr
    hako("attach", "-A", "cap_sys_nice", path, "--", "true")
    hako("kill", "-T", "0", path)
    for capability in ("net_admin", "net_raw", "all"):
        refused = hako("check", write_file(f'{HOST_S}{POLICY}config.capabilities.allow("{capability}")'), status=125)
        assert "policy_can_be_lifted" in refused.stderr


def test_without_nft_nothing_is_started(hako: Hako, write_file: Writer, host: Host, places: Path) -> None:
    path = write_file(HOST_S + POLICY)
    hako("create", path)
    script = 'for f in /usr/sbin/nft /sbin/nft; do [ ! -e $f ] || mount --bind /dev/null $f; done; exec "$@"'
    argv = ["unshare", "-m", "sh", "-c", script, "sh", HAKO, "start", path, "--", "touch", "/ran"]
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, timeout=50)
    assert done.returncode == 125
    assert "nft is not installed (apt-get install nftables)" in done.stderr
    assert not (places / "run" / "box").exists()
    assert not (places / "lib" / "box" / "upper" / "ran").exists()


def test_a_policy_that_cannot_be_put_in_force_keeps_the_program_from_running(
    hako: Hako, write_file: Writer, host: Host, places: Path
) -> None:
    path = write_file(HOST_S + POLICY)
    hako("create", path)
    broken = places / "nft"
    shutil.copy("/usr/sbin/nft", places / "real")
    fails = "case $text in *policy*) echo 'Error: Could not process rule: Operation not supported' >&2; exit 1;; esac"
    broken.write_text(f'#!/bin/sh\ntext=$(cat)\n{fails}\necho "$text" | {places}/real -f -\n')
    broken.chmod(0o755)
    script = f'mount --bind {broken} /usr/sbin/nft; exec "$@"'
    argv = ["unshare", "-m", "sh", "-c", script, "sh", HAKO, "start", path, "--", "touch", "/ran"]
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, timeout=50)
    assert done.returncode == 125
    assert "cannot put the policy of the network in force: Error: Could not process rule: Operation not" in done.stderr
    assert "(this kernel lacks nftables, or a part of it" in done.stderr
    assert not (places / "lib" / "box" / "upper" / "ran").exists()
