"""Namespaces that a barn shares among its containers: there before them, pinned without a process, gone with the barn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hakoniwa.kernel.pidfd import wait_end
from tests.conftest import LONGEST, Hako

Writer = Callable[..., Path]
Barns = Callable[..., subprocess.CompletedProcess[str]]

SLEEPERS = """
config.init_command = ["/bin/sleep", "1000"]
with config.define() as c: c.name = "one"
with config.define() as c: c.name = "two"
"""


@pytest.fixture
def barns(hako: Hako, places: Path) -> Iterator[Barns]:
    """Do something with a barn; those that are left are ended."""

    def run(*words: object, status: int = 0, **said: Any) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "tests.system.barns", *map(str, words), json.dumps(said)]
        done = subprocess.run(
            argv,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=LONGEST,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    yield run
    for name in os.listdir(places / "run" / ".barns") if (places / "run" / ".barns").is_dir() else []:
        try:
            end(barn_process(places, name))
        except (FileNotFoundError, ProcessLookupError):
            continue


def record_of(places: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((places / "run" / ".barns" / name / "barn.json").read_text())
    return found


def barn_process(places: Path, name: str) -> int:
    pid: int = record_of(places, name)["process"]["pid"]
    return pid


def end(pid: int, number: int = signal.SIGTERM) -> None:
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, number)
    assert wait_end(pidfd, 10)
    os.close(pidfd)


def inside(hako: Hako, name: str, script: str) -> str:
    return hako("attach", "-n", name, "--", "sh", "-c", script).stdout


def links(pid: int, *kinds: str) -> list[str]:
    return [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in kinds]


def test_network_ipc_and_host_name_are_shared(hako: Hako, box: Writer, barns: Barns, places: Path) -> None:
    path = box(SLEEPERS)
    made = barns("make", path, namespaces=["net", "ipc", "uts"], hostname="pod")
    one, two = json.loads(made.stdout)["running"].values()
    assert links(one, "net", "ipc", "uts") == links(two, "net", "ipc", "uts") != links(os.getpid(), "net", "ipc", "uts")
    assert links(one, "pid", "mnt") != links(two, "pid", "mnt")
    assert inside(hako, "one", "hostname; ip link show lo") == inside(hako, "two", "hostname; ip link show lo")
    assert "LOOPBACK,UP" in inside(hako, "one", "ip link show lo")
    assert inside(hako, "two", "hostname") == "pod\n"
    hako("kill", path)
    assert not (places / "run" / ".barns" / "box").exists()


def test_a_shared_pid_namespace_has_a_first_process_that_can_do_nothing(
    hako: Hako, box: Writer, barns: Barns, places: Path
) -> None:
    path = box(SLEEPERS)
    barns("make", path, namespaces=["pid", "net"])
    seen = inside(hako, "one", "ps -o pid,args")
    assert seen.count("/bin/sleep") == 2
    assert "idle" in seen
    first = record_of(places, "box")["first"]["pid"]
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
    assert not (places / "run" / ".barns" / "box").exists()


def test_a_user_namespace_is_shared(hako: Hako, box: Writer, barns: Barns) -> None:
    path = box(SLEEPERS)
    made = barns("make", path, namespaces=["user", "net", "pid", "uts", "ipc"])
    one, two = json.loads(made.stdout)["running"].values()
    assert links(one, "user", "net", "pid") == links(two, "user", "net", "pid")
    assert inside(hako, "one", "id -u; touch /tmp/made; cat /proc/self/uid_map").split()[0] == "0"
    assert Path(f"/proc/{one}/uid_map").read_text() == Path(f"/proc/{two}/uid_map").read_text()
    assert Path(f"/proc/{one}/uid_map").read_text().split()[1] != "0"
    hako("kill", path)


def test_clocks_and_a_cgroup_namespace_are_shared(hako: Hako, box: Writer, barns: Barns) -> None:
    path = box(SLEEPERS)
    made = barns("make", path, namespaces=["time", "cgroup"], ahead=1_000_000.0)
    one, two = json.loads(made.stdout)["running"].values()
    assert links(one, "time", "cgroup") == links(two, "time", "cgroup") != links(os.getpid(), "time", "cgroup")
    assert Path(f"/proc/{one}/timens_offsets").read_text().split()[1] == "1000000"
    hako("kill", path)


def test_an_empty_barn_keeps_its_namespaces_without_a_process(
    hako: Hako, box: Writer, barns: Barns, places: Path
) -> None:
    kept = places / "netns" / "kept"
    barns("make", box(), namespaces=["net", "uts"], persisted={"net": str(kept)}, empty=True)
    barn = barn_process(places, "box")
    files = [os.readlink(f"/proc/{barn}/fd/{name}").split(":")[0] for name in os.listdir(f"/proc/{barn}/fd")]
    assert "net" in files
    assert "uts" in files
    assert not Path(f"/proc/{barn}/task/{barn}/children").read_text()
    done = subprocess.run(["nsenter", f"--net={kept}", "ip", "link"], capture_output=True, text=True, check=True)
    assert "LOOPBACK,UP" in done.stdout
    end(barn)
    assert not kept.exists()
    assert not (places / "run" / ".barns" / "box").exists()


def test_what_a_killed_barn_had_is_cleared_once_nobody_needs_it(
    hako: Hako, box: Writer, barns: Barns, places: Path
) -> None:
    kept, path = places / "netns" / "kept", box(SLEEPERS)
    said = {"namespaces": ["net", "pid"], "persisted": {"net": str(kept)}}
    barns("make", path, **said)
    first = os.pidfd_open(record_of(places, "box")["first"]["pid"])
    end(barn_process(places, "box"), signal.SIGKILL)
    assert inside(hako, "one", "hostname") == "one\n"  # the containers live on
    assert hako("gc").stdout == "nothing was left\n"
    told = barns("make", path, status=125, **said).stderr
    assert "the process of barn 'box' was killed, and one two still run in what it shared" in told
    hako("kill", path)
    assert "barn box: namespace " in hako("gc").stdout
    assert wait_end(first, 10)
    os.close(first)
    assert not kept.exists()
    assert not (places / "run" / ".barns").exists()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('config.namespace.unshare("net", persist_in="/tmp/x")', "can be kept at a path by that alone"),
        ("config.namespace.time_offset(monotonic=5)", "the time namespace is its barn's, which decides about it"),
    ],
)
def test_what_contradicts_the_barn_is_refused(box: Writer, barns: Barns, body: str, told: str) -> None:
    assert told in barns("make", box(body), namespaces=["net", "time"], status=125).stderr
