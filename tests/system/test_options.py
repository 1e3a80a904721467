"""Options and words that haconiwa's users know, and what is shown of a container."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.kernel import cgroup
from tests.conftest import Hako

Writer = Callable[..., Path]
SLEEP = ("--", "sleep", "1000")


def test_new_writes_a_file_that_is_found(hako: Hako, places: Path) -> None:
    for words in (("new", "dev"), ("init", "dev.haco"), ("new", "-n", "x", "dev.haco.py")):
        assert hako(*words).stdout == "dev.haco.py\n"
        assert "well described" in hako("check").stdout  # without FILE
        (places / "dev.haco.py").unlink()
    assert hako("new", "plain.py").stdout == "plain.py\n"
    assert "names a folder" in hako("new", "dev/", status=2).stderr
    hako("new", "--root", "there", "rooted")
    assert f"config.chroot_to({str(places / 'there')!r})" in (places / "rooted.haco.py").read_text()


@pytest.mark.parametrize("words", [("--template", "t", "x"), ("--template=t",)])
def test_options_that_are_not_carried_out_yet(hako: Hako, words: tuple[str, ...]) -> None:
    told = hako("new", *words, status=2).stderr
    assert told == f"hako: new: {words[0].partition('=')[0]} is not supported yet\n"
    shown = hako("new", "--help").stdout
    assert "--global" in shown
    assert "template" not in shown


def test_the_options_of_haconiwa(hako: Hako, box: Writer) -> None:
    path = box("config.daemonize()")
    assert hako("run", "--no-daemon", path, "--", "echo", "seen").stdout == "seen\n"
    hako("start", path, *SLEEP)
    assert hako("attach", "--uid", "1000", "--gid", "10", path, "--", "id").stdout.startswith("uid=1000")
    (found,) = json.loads(hako("ps", "--json").stdout)["containers"]
    for pid in (found["pid"], found["supervisor_pid"]):
        assert "nothing has changed" in hako("reload", "-t", str(pid), path).stdout
    assert "supervisor 1" in hako("reload", "--target", "1", path, status=125).stderr
    hako("kill", path)


def test_steps_and_archives_by_haconiwas_options(hako: Hako, write_file: Writer, busybox: Path, places: Path) -> None:
    body = f'b = config.bootstrap\nb.strategy = "shell"\nb.code = "cp -a {busybox}/. $ROOTFS"\n'
    for name in ("one", "two", "three"):
        body += f'config.provision.run_shell("echo x >> /{name}", name={name!r}, always={name == "three"})\n'
    path = write_file(body)
    hako("create", path)
    hako("provision", "-r", "one,two", path)
    hako("archive", "-d", "x.tar", "-O", "--exclude=./bin,--exclude=./one --exclude=./two", path)
    with tarfile.open(places / "x.tar") as archive:
        members = archive.getnames()
    assert "./three" in members
    assert not {"./bin/busybox", "./one", "./two"} & set(members)
    assert (places / "lib" / "box" / "one").read_text() == "x\nx\n"
    assert (places / "lib" / "box" / "three").read_text() == "x\n"
    assert "--dry-run is the dry run" in hako("archive", "-n", path, "-d", "x.tar", path, status=125).stderr
    hako("rm", "--rootfs", path)


def test_metadata_is_shown(hako: Hako, box: Writer) -> None:
    path = box('config.metadata.update(team="shop\\n", ports=[80, 443])')
    hako("start", "-D", path, *SLEEP)
    head, line = hako("ps").stdout.splitlines()
    assert head.split()[-1] == "METADATA"
    assert line.endswith(r"team=shop\n,ports=[80, 443]")
    assert r"metadata        team=shop\n,ports=[80, 443]" in hako("status", path).stdout
    hako("kill", path)
    hako("start", "-D", box(name="none"), *SLEEP)
    assert hako("ps").stdout.splitlines()[1].endswith("  -")
    hako("kill", "-n", "none")


HOST = cgroup.find_hierarchies()


@pytest.mark.skipif(
    "memory" not in HOST.v1 or "pids" not in HOST.v1, reason="this kernel has no v1 controller memory or pids"
)
def test_check_finds_parameters_that_cannot_be_set(hako: Hako, box: Writer) -> None:
    other = Path(HOST.v1["memory"]) / f"other-{os.getpid()}"  # the root of a hierarchy lacks some
    other.mkdir()
    try:
        for name, told in (
            ("memory.usage_in_bytes", "'memory.usage_in_bytes' can only be read"),
            ("memory.limit_in_byte", "is unknown to this kernel (did you mean 'memory.limit_in_bytes'?)"),
            ("memory.max", "is unknown to this kernel (config.limit(memory=) is for both versions)"),
            ("memry.limit_in_bytes", "this host has no v1 cgroup controller 'memry'"),
        ):
            path = box(f'config.cgroup["{name}"] = 1')
            for words in (("check", path), ("start", path, "--", "true")):
                assert told in hako(*words, status=125).stderr
        hako("check", box('config.cgroup["memory.limit_in_bytes"] = 1'))
    finally:
        other.rmdir()


def test_check_asks_the_kernel_about_options_of_mounts(hako: Hako, box: Writer) -> None:
    for options, told in (("mode=1777,siez=1m", "Unknown parameter 'siez'"), ("size=x", "Bad value for 'size'")):
        path = box(f'config.add_mount_point("tmpfs", to="/tmp", fs="tmpfs", options="{options}")')
        assert told in hako("check", path, status=125).stderr
    hako("check", box('config.add_mount_point("tmpfs", to="/tmp", fs="tmpfs", options="noexec,size=1m,mode=1777")'))
    told = hako("check", box('config.lxcfs_root = "/no/such"'), status=125).stderr
    assert "lxcfs is not mounted on /no/such (apt-get install lxcfs)" in told
