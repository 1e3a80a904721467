"""Namespaces that a barn shares among its containers: there before them, pinned without a process, gone with the barn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hakoniwa.kernel.processes.pidfd import wait_end
from tests.barns import Barns, barns, end
from tests.conftest import Hako
from tests.ordinary import UID, Ordinary, user

__all__ = ["barns", "user"]

Writer = Callable[..., Path]

SLEEPERS = """
config.init_command = ["/bin/sleep", "1000"]
with config.define() as c: c.name = "one"
with config.define() as c: c.name = "two"
"""


def inside(hako: Hako, name: str, script: str) -> str:
    return hako("attach", "-n", name, "--", "sh", "-c", script).stdout


def links(pid: int, *kinds: str) -> list[str]:
    return [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in kinds]


def test_network_ipc_and_host_name_are_shared(hako: Hako, box: Writer, barns: Barns, places: Path) -> None:
    path = box(SLEEPERS)
    made = barns("make", path, namespaces=["net", "ipc", "uts"], hostname="pod")
    one, two = made["running"].values()
    assert links(one, "net", "ipc", "uts") == links(two, "net", "ipc", "uts") != links(os.getpid(), "net", "ipc", "uts")
    assert links(one, "pid", "mnt") != links(two, "pid", "mnt")
    assert inside(hako, "one", "hostname; ip link show lo") == inside(hako, "two", "hostname; ip link show lo")
    assert "LOOPBACK,UP" in inside(hako, "one", "ip link show lo")
    assert inside(hako, "two", "hostname") == "pod\n"
    hako("kill", path)
    assert barns.names() == []


def test_a_shared_pid_namespace_has_a_first_process_that_can_do_nothing(
    hako: Hako, box: Writer, barns: Barns, places: Path
) -> None:
    path = box(SLEEPERS)
    barns("make", path, namespaces=["pid", "net"])
    seen = inside(hako, "one", "ps -o pid,args")
    assert seen.count("/bin/sleep") == 2
    assert "idle" in seen
    first = barns.record("box")["first"]["pid"]
    status = Path(f"/proc/{first}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    assert "CapBnd:\t0000000000000000" in status
    assert "Seccomp:\t2" in status
    assert os.listdir(f"/proc/{first}/root") == os.listdir(f"/proc/{first}/fd") == []
    inside(hako, "two", "kill -9 1")  # nothing: it is the first process
    inside(hako, "two", "(sleep 0.1 &)")  # an orphan, which is reaped
    hako("kill", "-n", "one")
    assert [name for name in ("one", "two") if name in hako("ps").stdout] == ["two"]
    hako("kill", "-n", "two")
    assert barns.names() == []


def test_a_user_namespace_is_shared(hako: Hako, box: Writer, barns: Barns) -> None:
    path = box(SLEEPERS)
    made = barns("make", path, namespaces=["user", "net", "pid", "uts", "ipc"])
    one, two = made["running"].values()
    assert links(one, "user", "net", "pid") == links(two, "user", "net", "pid")
    assert inside(hako, "one", "id -u; touch /tmp/made; cat /proc/self/uid_map").split()[0] == "0"
    assert Path(f"/proc/{one}/uid_map").read_text() == Path(f"/proc/{two}/uid_map").read_text()
    assert Path(f"/proc/{one}/uid_map").read_text().split()[1] != "0"
    hako("kill", path)


def test_clocks_and_a_cgroup_namespace_are_shared(hako: Hako, box: Writer, barns: Barns) -> None:
    path = box(SLEEPERS)
    made = barns("make", path, namespaces=["time", "cgroup"], ahead=1_000_000.0)
    one, two = made["running"].values()
    assert links(one, "time", "cgroup") == links(two, "time", "cgroup") != links(os.getpid(), "time", "cgroup")
    assert Path(f"/proc/{one}/timens_offsets").read_text().split()[1] == "1000000"
    hako("kill", path)


def test_an_empty_barn_keeps_its_namespaces_without_a_process(
    hako: Hako, box: Writer, barns: Barns, places: Path
) -> None:
    kept = places / "netns" / "kept"
    barns("make", box(), namespaces=["net", "uts"], persisted={"net": str(kept)}, empty=True)
    barn = barns.process("box")
    files = [os.readlink(f"/proc/{barn}/fd/{name}").split(":")[0] for name in os.listdir(f"/proc/{barn}/fd")]
    assert "net" in files
    assert "uts" in files
    assert not Path(f"/proc/{barn}/task/{barn}/children").read_text()
    done = subprocess.run(["nsenter", f"--net={kept}", "ip", "link"], capture_output=True, text=True, check=True)
    assert "LOOPBACK,UP" in done.stdout
    end(barn)
    assert not kept.exists()
    assert barns.names() == []


def test_what_a_killed_barn_had_is_cleared_once_nobody_needs_it(
    hako: Hako, box: Writer, barns: Barns, places: Path
) -> None:
    kept, path = places / "netns" / "kept", box(SLEEPERS)
    said: dict[str, Any] = {"namespaces": ["net", "pid"], "persisted": {"net": str(kept)}}
    barns("make", path, **said)
    first = os.pidfd_open(barns.record("box")["first"]["pid"])
    end(barns.process("box"), signal.SIGKILL)
    assert inside(hako, "one", "hostname") == "one\n"  # the containers live on
    assert hako("gc").stdout == "nothing was left\n"
    told = barns("make", path, status=125, **said)
    assert "the process of barn 'box' was killed, and one two still run in what it shared" in told
    hako("kill", path)
    assert "barn box: namespace " in hako("gc").stdout
    assert wait_end(first, 10)
    os.close(first)
    assert not kept.exists()
    assert barns.names() == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('config.namespace.unshare("net", persist_in="/tmp/x")', "can be kept at a path by that alone"),
        ("config.namespace.time_offset(monotonic=5)", "the time namespace is its barn's, which decides about it"),
    ],
)
def test_what_contradicts_the_barn_is_refused(box: Writer, barns: Barns, body: str, told: str) -> None:
    assert told in barns("make", box(body), namespaces=["net", "time"], status=125)


def test_an_ordinary_user_shares_them_with_a_user_namespace(user: Ordinary) -> None:
    container = {
        "process": {"command": ["sleep", "1000"]},
        "files": {"independent": ["procfs", "devtmpfs"]},
        "build": {"bootstrap": {"strategy": "host"}},
    }
    said: dict[str, Any] = {"schema": 1, "name": "pod", "containers": [container | {"name": name} for name in "ab"]}
    path = user.home / "pod.json"
    path.write_text(json.dumps(said | {"shared": {"namespaces": ["net"]}}))
    told = user.hako("start", "-D", "-b", "--spec", "pod.json", status=125).stderr
    assert 'sharing net takes root, or a shared user namespace (share "user", too)' in told
    path.write_text(json.dumps(said | {"shared": {"namespaces": ["user", "net", "uts"]}}))
    user.hako("start", "-D", "--spec", "pod.json")
    script = "hostname; id -u; readlink /proc/self/ns/net; cat /proc/self/uid_map"
    one, two = (user.hako("attach", "-n", name, "--", "sh", "-c", script).stdout.split() for name in "ab")
    assert one == two
    assert one[:2] == ["pod", "0"]
    assert one[3:6] == ["0", str(UID), "1"]
    user.hako("kill", "-n", "pod")
    user.hako("rm", "--rootfs", "-n", "pod")
