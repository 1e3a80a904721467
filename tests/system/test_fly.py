"""The flavour `fly`: a root of its own, and nothing else that keeps it apart from the host."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.kernel.processes.pidfd import wait_end
from tests.conftest import LONGEST, Hako
from tests.ordinary import Ordinary, user

__all__ = ["user"]

Writer = Callable[..., Path]

FLY = 'config.flavour = "fly"\n'
SHARED = ("net", "pid", "ipc", "uts", "user", "cgroup", "time")
SLEEP = ("--", "sleep", "1000")


def known(hako: Hako) -> dict[str, object]:
    (found,) = json.loads(hako("ps", "-a", "--json").stdout)["containers"]
    return dict(found)


def namespaces(text: str) -> dict[str, str]:
    """Lines of `readlink` by the kind of the namespace."""
    return {line.partition(":")[0]: line for line in text.split()}


def test_everything_but_the_mounts_is_the_host_s(hako: Hako, box: Writer) -> None:
    script = "for name in /proc/self/ns/*; do readlink $name; done; hostname; ls /"
    lines = hako("start", box(FLY), "--", "sh", "-c", script).stdout
    found = namespaces(lines)
    for name in SHARED:
        assert found[name] == os.readlink(f"/proc/self/ns/{name}")
    assert found["mnt"] != os.readlink("/proc/self/ns/mnt")
    assert os.uname().nodename in lines.split()
    assert "boot" not in lines.split()


def test_its_mounts_are_nobody_else_s_and_go_with_it(hako: Hako, box: Writer, places: Path) -> None:
    (places / "volume").mkdir()
    (places / "volume" / "file").write_text("seen\n")
    body = f'config.add_mount_point({str(places / "volume")!r}, to="/mnt")\n'
    body += 'config.add_mount_point("tmpfs", to="/tmp", fs="tmpfs")\n'
    before = Path("/proc/self/mountinfo").read_text()
    path = box(FLY + body)
    hako("start", "-D", path, "--", "sh", "-c", "cat /mnt/file; mount -t tmpfs x /root; sleep 1000")
    assert Path("/proc/self/mountinfo").read_text() == before
    assert "/mnt" in hako("attach", path, "--", "cat", "/proc/self/mountinfo").stdout
    hako("kill", path)
    assert Path("/proc/self/mountinfo").read_text() == before


def test_who_it_is_and_what_it_may_is_as_for_every_container(hako: Hako, box: Writer) -> None:
    body = 'config.uid = "alice"\nconfig.environ["A"] = "b"\nconfig.workdir = "/tmp"\n'
    body += 'config.resource.set_limit("NOFILE", 50, 60)\nconfig.resource.nice = 5\n'
    script = (
        "id -u; echo $A; pwd; ulimit -n; grep -E 'NoNewPrivs|Seccomp:|CapEff' /proc/self/status; cat /proc/self/stat"
    )
    found = hako("start", box(FLY + body), "--", "sh", "-c", script).stdout.split()
    assert found[:4] == ["1000", "b", "/tmp", "50"]
    assert found[4:10] == ["CapEff:", "0" * 16, "NoNewPrivs:", "1", "Seccomp:", "2"]
    assert found[10:][18] == "5"  # the nice value, `man 5 proc_pid_stat`


def test_a_limit_of_its_cgroup_holds(hako: Hako, box: Writer) -> None:
    found = hako("start", box(FLY + "config.limit(pids=50)"), "--", "cat", "/proc/self/cgroup").stdout
    assert "/hakoniwa-box" in found


def test_attach_and_kill_find_it(hako: Hako, box: Writer) -> None:
    path = box(FLY)
    hako("start", "-D", path, *SLEEP)
    pid = str(known(hako)["pid"])
    assert known(hako)["status"] == "running"
    script = f"readlink /proc/{pid}/ns/mnt; readlink /proc/self/ns/mnt; readlink /proc/self/ns/pid; ls /; cat /proc/{pid}/cmdline"
    found = hako("attach", path, "--", "sh", "-c", script).stdout
    assert len({line for line in found.split() if line.startswith("mnt")}) == 1
    assert os.readlink("/proc/self/ns/pid") in found
    assert "boot" not in found.split()
    assert "sleep\x001000" in found  # by the host's pid
    hako("kill", path)
    assert known(hako)["status"] == "stopped"


def command_lines() -> list[str]:
    """Those of all processes."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found.append((folder / "cmdline").read_text().replace("\0", " ").strip())
        except OSError:
            continue
    return found


def test_all_that_it_has_started_ends_with_it(hako: Hako, box: Writer) -> None:
    path = box(FLY)
    script = "setsid sleep 1001 & (setsid sh -c 'trap \"\" TERM HUP; sleep 1002' &); echo $$; exec sleep 1000"
    hako("start", "-D", path, "--", "sh", "-c", script)
    hako("attach", path, "--", "sh", "-c", "setsid sleep 1003 > /dev/null 2>&1 & exit 0")
    asleep = [f"sleep {number}" for number in (1000, 1001, 1002, 1003)]
    latest = time.monotonic() + LONGEST
    while not set(asleep) <= set(command_lines()):  # nothing hides them from the host, once the shells are that far
        assert time.monotonic() < latest
    hako("kill", path)
    shown = command_lines()
    assert not set(asleep) & set(shown)
    hako("start", path, "--", "sh", "-c", "setsid sleep 1004 & exit 3", status=3)  # nor does its own end leave any
    assert "sleep 1004" not in command_lines()


def test_what_a_killed_supervisor_leaves_is_cleared(hako: Hako, box: Writer) -> None:
    path = box(FLY)
    hako("start", "-D", path, "--", "sh", "-c", "setsid sleep 1000 & exec sleep 1000")
    found = known(hako)
    pidfd = os.pidfd_open(int(str(found["pid"])))
    os.kill(int(str(found["supervisor_pid"])), signal.SIGKILL)
    assert wait_end(pidfd, 10)
    os.close(pidfd)
    assert "cleared what a killed supervisor had left: cgroup" in hako("kill", path).stderr


def test_it_is_a_setting_like_any_other(hako: Hako, box: Writer) -> None:
    path = box(FLY)
    spec = hako("inspect", "--spec", path).stdout
    (described,) = json.loads(spec)["containers"]
    assert described["flavour"] == "fly"
    assert hako(
        "start", "--spec", "-", "--", "readlink", "/proc/self/ns/pid", input=spec
    ).stdout.strip() == os.readlink("/proc/self/ns/pid")
    shown = hako("start", "--dry-run", path).stdout
    assert "enter the root (chroot)" in shown
    assert "host name" not in shown


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('config.namespace.unshare("net")', "a fly container has no net namespace of its own"),
        ('config.namespace.unshare("pid", "user")', "a fly container has no pid namespace of its own"),
        ("config.namespace.time_offset(boottime=5)", "a fly container has no time namespace of its own"),
        ('config.namespace.use_netns("x")', "a fly container has the net namespace of the host, and no other"),
        ('config.hostname = "other"', "a fly container has the host's name, and no hostname of its own"),
        ('config.mount_independent("cgroup")', "a fly container has none of its own"),
    ],
)
def test_what_it_cannot_have_is_told(hako: Hako, box: Writer, body: str, told: str) -> None:
    path = box(FLY + body)
    done = hako("check", path, status=125)
    line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if body in text)
    assert f"box.haco.py:{line}: {told}" in done.stderr.replace(
        "a cgroup file system needs a cgroup namespace, and ", ""
    )


def test_a_flavour_that_is_unknown_is_told_with_those_that_are_known(hako: Hako, box: Writer) -> None:
    told = hako("check", box('config.flavour = "flies"'), status=125).stderr
    assert "one of container fly" in told
    assert "'flies'" in told
    spec = json.loads(hako("inspect", "--spec", box(FLY)).stdout)
    spec["containers"][0]["namespaces"]["own"] = ["mount", "pid"]
    told = hako("start", "--spec", "-", input=json.dumps(spec), status=125).stderr
    assert "namespaces.own.pid: a fly container has no pid namespace of its own" in told
    del spec["containers"][0]["namespaces"]  # what is not said is as a fly container has it
    assert hako("start", "--spec", "-", "--", "echo", "x", input=json.dumps(spec)).stdout == "x\n"


def test_an_ordinary_user_cannot_have_one(user: Ordinary) -> None:
    told = user.hako("start", user.write(FLY), "--", "true", status=125).stderr
    assert "a fly container takes root, since it has no user namespace" in told
