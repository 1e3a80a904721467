"""A host with systemd, a pure v2 hierarchy with all controllers, and AppArmor (tests/vm/run)."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.kernel import cgroup
from tests.conftest import HAKO, Hako, wait_for_log

Writer = Callable[..., Path]
ROOT = Path("/sys/fs/cgroup")
GROUP = ROOT / "hakoniwa-box"


def test_the_host_is_what_it_should_be() -> None:
    host = cgroup.find_hierarchies()
    assert host.v1 == {}
    assert host.v2 == "/sys/fs/cgroup"
    assert {"cpu", "memory", "pids"} <= set(host.v2_controllers)
    assert Path("/proc/1/comm").read_text() == "systemd\n"
    assert Path("/sys/module/apparmor/parameters/enabled").read_text() == "Y\n"


def test_limits_are_written(hako: Hako, box: Writer) -> None:
    path = box('config.limit(memory="64M", cpus=0.5, pids=8)\nconfig.cgroup.v2["memory.swap.max"] = 0')
    hako("start", "-D", path, "--", "sleep", "1000")
    assert (GROUP / "memory.max").read_text() == f"{64 << 20}\n"
    assert (GROUP / "cpu.max").read_text() == "50000 100000\n"
    assert (GROUP / "pids.max").read_text() == "8\n"
    assert hako("attach", path, "--", "grep", "^0::", "/proc/self/cgroup").stdout == "0::/hakoniwa-box\n"
    hako("kill", path)
    assert not GROUP.exists()


def test_hooks_on_memory_events(hako: Hako, box: Writer) -> None:
    body = """
config.limit(memory="48M")
config.cgroup.v2["memory.swap.max"] = 0

@config.add_cgroup_hook(type="oom")
def out(base):
    base.log(f"out of memory, {base.cgroup['memory.max']}")

@config.add_cgroup_hook(type="memory_pressure", level="low")
def short(base):
    base.log("short of memory")
"""
    path = box(body)
    hako(
        "start",
        "-D",
        path,
        "--",
        "sh",
        "-c",
        "while :; do head -c 104857600 /dev/zero | tail > /dev/null; sleep 0.1; done",
    )
    wait_for_log(hako, path, "out of memory, 50331648")
    wait_for_log(hako, path, "short of memory")
    hako("kill", path)


def test_its_own_group_alone_is_shown(hako: Hako, box: Writer) -> None:
    body = 'config.mount_independent("cgroup")\nconfig.limit(pids=50)\n'
    script = "cat /proc/self/cgroup; ls /sys/fs/cgroup | grep -c slice; cat /sys/fs/cgroup/pids.max; echo 9 > /sys/fs/cgroup/pids.max"
    done = hako("start", box(body), "--", "sh", "-c", script, status=None)
    assert done.stdout.split() == ["0::/", "0", "50"]
    assert "Read-only file system" in done.stderr
    done = hako("start", box(body + 'config.namespace.unshare("user", "net")'), "--", "sh", "-c", script, status=None)
    assert done.stdout.split() == ["0::/", "0", "50"]
    assert "Permission denied" in done.stderr


def scope(*words: str, **properties: str) -> list[str]:
    named = [f"-p{name}={value}" for name, value in properties.items()]
    return ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", *named, "--", *words]


def environment() -> list[str]:
    return [f"{key}={value}" for key, value in os.environ.items() if key.startswith("HAKONIWA")]


def test_groups_lie_in_what_systemd_has_delegated(hako: Hako, box: Writer) -> None:
    path = box('config.limit(memory="64M", pids=20)')
    script = f"{HAKO} start -D {path} -- sleep 1000; {HAKO} inspect {path} > /dev/null; {HAKO} ps --json; cat /proc/self/cgroup;"
    script += f" {HAKO} attach {path} -- cat /proc/self/cgroup; cat /sys/fs/cgroup/system.slice/t.service/hakoniwa-box/memory.max;"
    script += f" {HAKO} kill {path}; ls -d /sys/fs/cgroup/system.slice/t.service/hako*"
    words = scope("env", *environment(), "sh", "-c", script, Delegate="yes")
    words.insert(1, "--unit=t.service")
    done = subprocess.run(words, capture_output=True, text=True)
    assert "0::/system.slice/t.service/hakoniwa-box" in done.stdout, done
    assert f"{64 << 20}" in done.stdout
    assert "0::/system.slice/t.service/hakoniwa.callers" in done.stdout
    assert not GROUP.exists()


ROOTLESS = """
from hakoniwa import Haconiwa
with Haconiwa.define() as config:
    config.bootstrap.strategy = "host"
    config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm", "cgroup")
    config.limit(memory="64M", pids=50)
"""


@pytest.mark.parametrize("how", ["service", "user scope"])
def test_limits_of_an_ordinary_user(hako: Hako, how: str) -> None:
    alice = pwd.getpwnam("alice")
    file = Path(alice.pw_dir) / "box.haco.py"
    file.write_text(ROOTLESS)
    show = "cat /sys/fs/cgroup/memory.max; cat /proc/self/cgroup; mkdir /sys/fs/cgroup/sub && echo made; echo 1 > /sys/fs/cgroup/pids.max"
    inner = [str(HAKO), "start", "-b", str(file), "--", "sh", "-c", show]
    if how == "service":
        words = scope(*inner, User="alice", Delegate="yes", WorkingDirectory=alice.pw_dir)
    else:
        run = f"XDG_RUNTIME_DIR=/run/user/{alice.pw_uid}"
        user = ["systemd-run", "--user", "--scope", "--quiet", "-pDelegate=yes", "--", *inner]
        words = ["setpriv", f"--reuid={alice.pw_uid}", f"--regid={alice.pw_gid}", "--init-groups", "env", "-i"]
        words += [f"HOME={alice.pw_dir}", run, "PATH=/usr/bin:/bin", *user]
    done = subprocess.run(words, capture_output=True, text=True, cwd=alice.pw_dir)
    assert f"{64 << 20}\n0::/\nmade\n" in done.stdout, done
    assert "rmission denied" not in done.stdout
    subprocess.run(["rm", "-rf", *Path(alice.pw_dir).glob(".local"), *Path(alice.pw_dir).glob(".cache")], check=True)


@pytest.mark.parametrize("prefix", [[], ["systemd-run", "--user", "--scope", "--quiet", "--"]])
def test_without_delegation_an_ordinary_user_is_told_the_way(hako: Hako, prefix: list[str]) -> None:
    alice = pwd.getpwnam("alice")
    file = Path(alice.pw_dir) / "box.haco.py"
    file.write_text(ROOTLESS)
    words = ["setpriv", f"--reuid={alice.pw_uid}", f"--regid={alice.pw_gid}", "--init-groups", "env", "-i"]
    words += [f"HOME={alice.pw_dir}", f"XDG_RUNTIME_DIR=/run/user/{alice.pw_uid}", "PATH=/usr/bin:/bin"]
    words += [*prefix, str(HAKO), "start", "-b", str(file), "--", "true"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=alice.pw_dir)
    assert done.returncode == 125
    assert "systemd-run --user --scope -p Delegate=yes hako start" in done.stderr
    subprocess.run(["rm", "-rf", *Path(alice.pw_dir).glob(".local"), *Path(alice.pw_dir).glob(".cache")], check=True)


def test_a_group_that_is_only_joined(hako: Hako, box: Writer) -> None:
    group = ROOT / "theirs" / "box"
    group.mkdir(parents=True)
    (ROOT / "theirs" / "cgroup.subtree_control").write_text("+pids")
    (group / "pids.max").write_text("33")
    path = box('config.cgroup.name = "theirs/box"\nconfig.cgroup.v2.assign_only = True')
    try:
        hako("start", "-D", path, "--", "sleep", "1000")
        (found,) = json.loads(hako("ps", "--json").stdout)["containers"]
        assert str(found["pid"]) in (group / "cgroup.procs").read_text().split()
        assert hako("attach", path, "--", "grep", "^0::", "/proc/self/cgroup").stdout == "0::/theirs/box\n"
        hako("kill", path)
        assert (group / "pids.max").read_text() == "33\n"
    finally:
        group.rmdir()
        group.parent.rmdir()


# AppArmor

PROFILE = """
abi <abi/3.0>,
profile hakoniwa-test flags=(attach_disconnected,mediate_deleted) {
  file,
  capability,
  signal,
  deny /etc/secret rw,
  deny /proc/sys/** w,
}
profile hakoniwa-narrow flags=(attach_disconnected) {
  /bin/** mrix,
  /** r,
}
"""


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("apparmor") / "profile"
    file.write_text(PROFILE)
    subprocess.run(["apparmor_parser", "--replace", "--skip-cache", file], check=True)


@pytest.mark.parametrize("extra", ["", 'config.namespace.unshare("user")', "config.no_new_privs = False"])
def test_a_profile_binds_the_program_and_attached_commands(
    hako: Hako, box: Writer, rootfs: Path, profiles: None, extra: str
) -> None:
    (rootfs / "etc" / "secret").write_text("secret")
    path = box(f'config.apparmor = "hakoniwa-test"\n{extra}')
    hako("start", "-D", path, "--", "sleep", "1000")
    show = "cat /proc/self/attr/current; cat /etc/secret"
    for command in ("start", "attach"):
        file = box(f'config.apparmor = "hakoniwa-test"\n{extra}', "other") if command == "start" else path
        done = hako(command, file, "--", "sh", "-c", show, status=None)
        assert done.stdout == "hakoniwa-test (enforce)\n"
        assert "Permission denied" in done.stderr
    hako("kill", path)


def test_a_profile_that_allows_no_more_than_the_program(hako: Hako, box: Writer, profiles: None) -> None:
    """The change happens when the program is executed, and not before: what sets the container up is not bound."""
    assert hako("start", box('config.apparmor = "hakoniwa-narrow"'), "--", "echo", "fine").stdout == "fine\n"
    done = hako("start", box('config.apparmor = "hakoniwa-narrow"'), "--", "touch", "/x", status=1)
    assert "Permission denied" in done.stderr


def test_a_profile_that_is_not_loaded(hako: Hako, box: Writer, profiles: None) -> None:
    told = hako("start", box('config.apparmor = "hakoniwa-tset"'), "--", "true", status=125).stderr
    assert "the AppArmor profile 'hakoniwa-tset' is not loaded (did you mean 'hakoniwa-test'?)" in told
