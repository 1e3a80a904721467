"""All that an ordinary user does without root, with ranges in /etc/subuid and without."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import HAKO
from tests.ordinary import COUNT, FIRST, UID, Ordinary, user
from tests.system.test_rootfs import await_line

__all__ = ["user"]

MOUNTS = 'config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")\n'
HOST = 'config.bootstrap.strategy = "host"\n' + MOUNTS


def test_from_a_new_file_to_its_removal(user: Ordinary) -> None:
    user.hako("new", "dev.haco.py")
    user.hako("check", "dev.haco.py")
    user.hako("create", "dev.haco.py")
    user.hako("start", "-D", "dev.haco.py", "--", "sleep", "1000")
    assert "running" in user.hako("ps").stdout
    script = "id -u; stat -c %u /proc/1; touch /tmp/x /etc/new; readlink /proc/self/ns/user /proc/1/ns/user"
    found = user.hako("attach", "dev.haco.py", "--", "sh", "-c", script).stdout.split()
    assert found[:2] == ["0", "0"]
    assert found[2] == found[3] != os.readlink("/proc/self/ns/user")
    assert user.hako("attach", "dev.haco.py", "--", "false", status=1).stdout == ""
    user.hako("kill", "dev.haco.py")
    user.hako("rm", "--rootfs", "dev.haco.py")
    assert sorted(os.listdir(user.home / "data" / "hakoniwa")) == [".boxes", ".containers"]
    assert user.hako("gc").stdout == "nothing was left\n"


def test_many_ids_where_they_are_granted_and_one_where_not(user: Ordinary) -> None:
    path = user.write(HOST)
    script = "cat /proc/self/uid_map; cat /proc/self/setgroups"
    found = user.hako("start", "-b", path, "--", "sh", "-c", script).stdout.split()
    assert found == [*f"0 {UID} 1 1 {FIRST} {COUNT - 1}".split(), "allow"]
    user.grant("")
    found = user.hako("start", path, "--", "sh", "-c", script).stdout.split()
    assert found == [*f"0 {UID} 1".split(), "deny"]
    told = user.hako("start", user.write(HOST + "config.uid = 5", "other"), "-b", "--", "true", status=125).stderr
    assert "is not mapped in the user namespace" in told
    assert "an ordinary user needs ranges in /etc/subuid" in told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("daemon:zz:3\n", "/etc/subuid:1: 'daemon:zz:3' cannot be understood"),
        ("daemon:1:0\n", "/etc/subuid:1: the range 1:0 is not one of ids"),
    ],
)
def test_a_malformed_subuid(user: Ordinary, line: str, told: str) -> None:
    user.grant(line)
    assert told in user.hako("start", "-b", user.write(HOST), "--", "true", status=125).stderr


def test_a_range_that_is_too_small_or_not_ours(user: Ordinary) -> None:
    user.grant(f"daemon:{FIRST}:10\n")
    found = user.hako("start", "-b", user.write(HOST), "--", "cat", "/proc/self/uid_map").stdout.split()
    assert found == f"0 {UID} 1 1 {FIRST} 10".split()
    body = HOST + f"config.namespace.set_gid_mapping(min=0, max=10, offset={FIRST})\n"
    for last, offset in ((20, FIRST), (1, 0), (1, 500)):
        more = f"config.namespace.set_uid_mapping(min=0, max={last}, offset={offset})"
        told = user.hako("start", user.write(body + more), "--", "true", status=125).stderr
        assert f"uids {offset} to {offset + last} of the host are not yours to map" in told
        assert f"gives you {FIRST}:10" in told


def test_a_map_of_the_file_s_own(user: Ordinary) -> None:
    body = HOST + "for m in (config.namespace.set_uid_mapping, config.namespace.set_gid_mapping):\n"
    body += f"    m(min=0, max=0, offset={UID})\n    m(min=100, max=109, offset={FIRST})\n"
    found = user.hako("start", "-b", user.write(body), "--", "cat", "/proc/self/uid_map").stdout.split()
    assert found == f"0 {UID} 1 100 {FIRST} 10".split()


def test_a_rootfs_is_built_with_the_ids_that_it_is_started_with(user: Ordinary) -> None:
    body = 'config.bootstrap.strategy = "shell"\n'
    body += (
        'config.bootstrap.code = "cd $ROOTFS; mkdir bin; cp /bin/busybox bin/stat; chown 105:105 bin/stat"\n' + MOUNTS
    )
    body += "for m in (config.namespace.set_uid_mapping, config.namespace.set_gid_mapping):\n"
    body += f"    m(min=0, max=0, offset={UID})\n    m(min=100, max=109, offset={FIRST})\n"
    path = user.write(body)
    user.hako("create", path)
    assert os.stat(user.home / "data" / "hakoniwa" / "home-box" / "bin" / "stat").st_uid == FIRST + 5
    assert user.hako("start", path, "--", "stat", "-c", "%u", "/bin/stat").stdout == "105\n"
    user.hako("rm", "--rootfs", path)


def test_the_own_id_is_the_container_s_root(user: Ordinary) -> None:
    body = HOST + "for m in (config.namespace.set_uid_mapping, config.namespace.set_gid_mapping):\n"
    told = user.hako("start", "-b", user.write(body + f"    m(min=0, max=9, offset={FIRST})\n"), status=125).stderr
    assert "an ordinary user's own id must be the container's 0" in told
    assert f"set_uid_mapping(min=0, max=0, offset={UID})" in told


def test_a_user_namespace_of_one_s_own_process_is_entered(user: Ordinary) -> None:
    path = user.write(HOST + 'config.namespace.enter("user", via="ns")')
    user.hako("create", user.write(HOST))
    script = "unshare --user --map-root-user sleep 1000 & p=$!; while [ $(readlink /proc/$p/ns/user) = $(readlink /proc/self/ns/user) ];"
    script += (
        f" do :; done; ln -sf /proc/$p/ns/user ns; {HAKO} start {path} -- sh -c 'id -u; readlink /proc/self/ns/user';"
    )
    script += " readlink /proc/$p/ns/user; kill $p"
    user.write(HOST + 'config.namespace.enter("user", via="ns")')
    found = user.run("sh", "-c", script).stdout.split()
    assert found[0] == "0"
    assert found[1] == found[2]


BUILDS = {
    "shell": 'config.bootstrap.code = "cd $ROOTFS; mkdir bin; cp -a /bin/busybox bin/sh; chown 5:7 bin/sh"',
    "recipe": 'config.bootstrap.recipe = "busybox"',
    "tarball": 'config.bootstrap.archive_path = "box.tar.gz"',
}


@pytest.mark.parametrize("strategy", list(BUILDS))
def test_every_way_to_build(user: Ordinary, busybox: Path, strategy: str) -> None:
    subprocess.run(["tar", "-czf", user.home / "box.tar.gz", "-C", busybox, "."], check=True)
    body = f'config.bootstrap.strategy = "{strategy}"\n{BUILDS[strategy]}\n{MOUNTS}'
    path = user.write(body)
    user.hako("create", path)
    rootfs = user.home / "data" / "hakoniwa" / "home-box"
    assert os.stat(rootfs).st_uid == UID
    if strategy == "shell":
        assert os.stat(rootfs / "bin" / "sh").st_uid == FIRST + 4
    assert user.hako("start", path, "--", "sh", "-c", "echo fine; exit 7", status=7).stdout == "fine\n"
    user.hako("rm", "--rootfs", path)
    assert not rootfs.exists()


def test_layers_provisioning_snapshots_and_archives(user: Ordinary) -> None:
    body = f'config.bootstrap.strategy = "recipe"\nconfig.bootstrap.recipe = "busybox"\n{MOUNTS}p = config.provision\n'
    body += "p.run_shell('echo step > /step; chown 7:9 /step; rm /bin/su; id -u; ls /dev /sys | wc -l', name='one')\n"
    body += "p.copy('box.haco.py', '/etc/', uid=5)\np.run_python(lambda: print('python'), name='two', always=True)\n"
    path = user.write(body)
    told = user.hako("create", path).stderr
    assert "one: 0\n" in told
    assert "two: python\n" in told
    script = "cat /step; stat -c '%u %g' /step /etc/box.haco.py; ls /bin/su 2>/dev/null; echo own > /own; rm -r /usr"
    assert user.hako("start", path, "--", "/bin/sh", "-c", script, status=None).stdout == "step\n7 9\n5 0\n"
    assert os.stat(user.home / "data" / "hakoniwa" / "home-box" / "upper" / "own").st_uid == UID
    user.hako("snapshot", path, "kept")
    user.hako("start", path, "--", "/bin/sh", "-c", "rm /own /step")
    user.hako("rollback", path, "kept")
    assert user.hako("start", path, "--", "/bin/sh", "-c", "cat /own; ls /usr 2>&1 || true").stdout.startswith(
        "own\nls: /usr:"
    )
    assert "two: python" in user.hako("provision", path).stderr
    user.hako("archive", path, "-d", "box.tar.gz")
    packed = user.write(
        'config.bootstrap.strategy = "tarball"\nconfig.bootstrap.archive_path = "box.tar.gz"\n', "packed"
    )
    user.hako("create", packed)
    assert user.hako("start", packed, "--", "/bin/sh", "-c", "stat -c %u /step; cat /own").stdout == "7\nown\n"
    for one in (path, packed):
        user.hako("rm", "--rootfs", one)
    user.hako("cache", "prune")
    assert json.loads(user.hako("cache", "ls", "--json").stdout)["cache"] == []


@pytest.mark.parametrize("body", ['"debootstrap"\nb.debian_release = "bookworm"', '"lxc"\nb.os_type = "busybox"'])
def test_strategies_that_take_root(user: Ordinary, body: str) -> None:
    path = user.write(f"b = config.bootstrap\nb.strategy = {body}")
    assert "takes root (without root: git, host, " in user.hako("create", path, status=125).stderr


def test_a_build_that_fails_leaves_nothing(user: Ordinary) -> None:
    path = user.write(
        'config.bootstrap.strategy = "shell"\nconfig.bootstrap.code = "touch $ROOTFS/x; chown 9 $ROOTFS/x; exit 3"'
    )
    assert "bootstrap code failed with exit status 3" in user.hako("create", path, status=125).stderr
    assert os.listdir(user.home / "data" / "hakoniwa") == []


def test_files_on_a_shared_folder_are_the_user_s(user: Ordinary) -> None:
    path = user.write(HOST + 'config.add_mount_point(".", to="/work", idmap=True)')
    user.hako("start", "-b", path, "--", "touch", "/work/made")
    assert os.stat(user.home / "made").st_uid == UID
    told = user.hako(
        "start", user.write(HOST + 'config.add_mount_point("/etc", to="/work", idmap=True)'), "--", "true", status=125
    ).stderr
    assert "mapping ids on a mount takes root" in told


def test_clocks_network_and_priorities_of_one_s_own(user: Ordinary) -> None:
    body = HOST + 'config.namespace.unshare("net", "cgroup")\nconfig.namespace.time_offset(boottime=864000)\n'
    path = user.write(body.replace(', "cgroup"', "") + "config.resource.oom_score_adj = 500\nconfig.resource.nice = 3")
    script = "cat /proc/self/oom_score_adj; cut -d. -f1 /proc/uptime; nice; grep -c : /proc/net/dev"
    adj, up, nice, links = user.hako("start", "-b", path, "--", "sh", "-c", script).stdout.split()
    assert (adj, nice, links) == ("500", "3", "1")
    assert int(up) > 864000


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("config.limit(pids=5)", "no cgroup is delegated to you: systemd-run --user --scope -p Delegate=yes"),
        ('config.cgroup["cpu.shares"] = 5', "no cgroup is delegated to you"),
        ('config.namespace.unshare("cgroup")', "no cgroup is delegated to you"),
        ("config.resource.oom_score_adj = -500", "a lower value than the caller's needs cap_sys_resource"),
        ("config.resource.nice = -5", "that takes cap_sys_nice"),
        ('config.namespace.enter("net", via="/proc/1/ns/net")', "Permission denied"),
        ('config.namespace.unshare("net", persist_in="net")', "cannot keep the net namespace"),
    ],
)
def test_what_takes_root_says_so(user: Ordinary, line: str, told: str) -> None:
    path = user.write(HOST + line)
    done = user.hako("start", "-b", path, "--", "true", status=125)
    assert told in done.stderr, done.stderr
    assert "box.haco.py:" in done.stderr


def test_nothing_of_root_s_can_be_reached(user: Ordinary) -> None:
    path = user.write(HOST)
    script = "cat /etc/shadow; ls /root; echo x >> /etc/hosts; rm /usr/bin/env; mount -o remount,rw /; ls /home"
    done = user.hako("start", "-b", path, "--", "sh", "-c", script, status=None)
    assert "$" not in done.stdout
    assert os.path.exists("/usr/bin/env")


def test_accounts_can_be_changed_in_the_host_s_copy(user: Ordinary) -> None:
    user.grant_nothing()
    path = user.write(HOST)
    assert user.hako("start", "-b", path, "--", "sh", "-c", "useradd inner; id -un inner").stdout == "inner\n"


def test_a_reload_tells_of_what_has_changed_alone(user: Ordinary) -> None:
    body = HOST + 'config.support_reload("resource")\nconfig.resource.set_limit("NOFILE", {})'
    path = user.write(body.format(100))
    user.hako("start", "-b", "-D", path, "--", "sleep", "1000")
    user.write(body.format(90))
    told = user.hako("reload", path).stdout
    assert "NOFILE" in told
    assert "restart" not in told
    assert user.hako("reload", path).stdout.count("\n") <= 1
    user.hako("kill", path)


def test_what_a_build_prints_is_neither_lost_nor_doubled(user: Ordinary) -> None:
    body = """
print("file")
def fill(boot):
    print("fill")
    (boot.rootfs / "bin").mkdir()
config.bootstrap.strategy = "python"
config.bootstrap.code = fill
@config.bootstrap.postprocess
def last(boot):
    print("last", end="")
"""
    assert user.hako("create", user.write(body)).stdout == "file\nfill\nlast"


def test_a_signal_to_the_command_ends_a_build(user: Ordinary) -> None:
    """Another process does the work, as root of a user namespace."""
    code = 'config.bootstrap.strategy = "shell"\nconfig.bootstrap.code = "echo started >&2; exec sleep 1000"'
    build = user.background(HAKO, "create", user.write(code))
    await_line(build, b"bootstrap code: started")
    build.send_signal(signal.SIGTERM)
    _, err = build.communicate(timeout=20)
    assert (build.returncode, err.splitlines()[-1]) == (143, b"hako: interrupted")
    left = [path.name for path in (user.home / "data" / "hakoniwa").rglob("*building*")]
    assert left == []
