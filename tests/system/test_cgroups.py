"""Control groups of both versions: values, limits that hold, errors, and removal whatever state they are in."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.kernel import cgroup
from hakoniwa.kernel.processes.pidfd import wait_end
from tests.conftest import Hako

Writer = Callable[..., Path]

HOST = cgroup.find_hierarchies()
SLEEP = ("--", "sleep", "1000")


def needs(*controllers: str, version: int = 1) -> pytest.MarkDecorator:
    """Skip where the host has no such controller."""
    have = HOST.v1 if version == 1 else HOST.v2_controllers
    lacking = [name for name in controllers if name not in have]
    return pytest.mark.skipif(bool(lacking), reason=f"this kernel has no v{version} controller {' '.join(lacking)}")


def group(controller: str, name: str = "box") -> Path:
    return Path(HOST.v1[controller]) / f"hakoniwa-{name}"


def known(hako: Hako) -> dict[str, int]:
    (found,) = json.loads(hako("ps", "--json").stdout)["containers"]
    pids: dict[str, int] = found
    return pids


@needs("cpu", "memory")
def test_v1_parameters_are_set_and_the_container_is_in_the_groups(hako: Hako, box: Writer) -> None:
    path = box('config.cgroup["cpu.shares"] = 512\nconfig.cgroup["memory.limit_in_bytes"] = 64 * 1024**2')
    hako("start", "-D", path, *SLEEP)
    assert (group("cpu") / "cpu.shares").read_text() == "512\n"
    assert (group("memory") / "memory.limit_in_bytes").read_text() == f"{64 * 1024**2}\n"
    for controller in ("cpu", "memory"):
        assert (group(controller) / "cgroup.procs").read_text() == f"{known(hako)['pid']}\n"
    inside = hako("attach", path, "--", "cat", "/proc/self/cgroup").stdout
    assert inside.count("/hakoniwa-box") == 2
    hako("kill", path)
    assert not group("cpu").exists()


@needs("pids")
def test_a_limit_holds(hako: Hako, box: Writer) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done 2>&1; true"
    done = hako("start", box("config.limit(pids=5)"), "--", "sh", "-c", script, status=None)
    assert "can't fork" in done.stdout + done.stderr


@needs("memory", "cpu", "pids")
def test_limit_takes_the_hierarchy_that_the_host_has(hako: Hako, box: Writer) -> None:
    path = box('config.limit(memory="32M", cpus=0.5, pids=20)')
    hako("start", "-D", path, *SLEEP)
    assert (group("memory") / "memory.limit_in_bytes").read_text() == f"{32 * 1024**2}\n"
    assert (group("cpu") / "cpu.cfs_quota_us").read_text() == "50000\n"
    assert (group("pids") / "pids.max").read_text() == "20\n"
    hako("kill", path)


@needs("pids")
def test_the_name_of_the_group(hako: Hako, box: Writer) -> None:
    path = box('config.cgroup["pids.max"] = 9\nconfig.cgroup.name = "other"')
    hako("start", "-D", path, *SLEEP)
    assert group("pids", "other").is_dir()
    hako("kill", path)


@needs("hugetlb", version=2)
def test_v2_parameters(hako: Hako, box: Writer) -> None:
    path = box('config.cgroup.v2["hugetlb.2MB.max"] = 4 * 1024**2\nconfig.cgroup.v2["cgroup.max.depth"] = 3')
    hako("start", "-D", path, *SLEEP)
    folder = Path(str(HOST.v2)) / "hakoniwa-box"
    assert (folder / "hugetlb.2MB.max").read_text() == f"{4 * 1024**2}\n"
    assert (folder / "cgroup.max.depth").read_text() == "3\n"
    assert (folder / "cgroup.procs").read_text() == f"{known(hako)['pid']}\n"
    assert "0::/hakoniwa-box" in hako("attach", path, "--", "cat", "/proc/self/cgroup").stdout
    hako("kill", path)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('config.cgroup["nope.x"] = 1', "this host has no v1 cgroup controller 'nope' (v1: "),
        ('config.cgroup.v2["nope.x"] = 1', "this host has no v2 cgroup controller 'nope' (v1: "),
        pytest.param(
            'config.cgroup["pids.mx"] = 1',
            "cgroup parameter 'pids.mx' is unknown to this kernel (did you mean 'pids.max'?)",
            marks=needs("pids"),
        ),
        pytest.param(
            'config.cgroup["pids.max"] = "lots"',
            "cannot write 'lots' to /sys/fs/cgroup/pids/hakoniwa-box/pids.max: Invalid argument",
            marks=needs("pids"),
        ),
    ],
)
def test_what_the_host_does_not_offer_or_refuses(hako: Hako, box: Writer, body: str, told: str) -> None:
    done = hako("start", box(body), "--", "true", status=125)
    assert told in done.stderr
    hako("start", box(), "--", "true")


@needs("pids", "memory")
def test_groups_of_a_killed_supervisor_are_cleared(hako: Hako, box: Writer) -> None:
    path = box("config.limit(pids=50)")
    hako("start", "-D", path, *SLEEP)
    found = known(hako)
    init = os.pidfd_open(found["pid"])
    os.kill(found["supervisor_pid"], signal.SIGKILL)
    wait_end(init, 10)
    os.close(init)
    assert group("pids").is_dir()
    assert "cleared what a killed supervisor had left: cgroup" in hako("start", path, "--", "true").stderr
    assert not group("pids").exists()


@needs("freezer")
@pytest.mark.parametrize("how", ["kill", "supervisor"])
def test_a_frozen_container_ends(hako: Hako, box: Writer, how: str) -> None:
    path = box('config.cgroup["freezer.state"] = "THAWED"')
    hako("start", "-D", path, *SLEEP)
    (group("freezer") / "freezer.state").write_text("FROZEN")
    hako("kill", path, *(["--supervisor"] if how == "supervisor" else []))
    assert not group("freezer").exists()


@needs("memory")
def test_a_group_with_groups_below_it_is_removed(hako: Hako, box: Writer) -> None:
    path = box('config.cgroup["memory.swappiness"] = 10')
    hako("start", "-D", path, *SLEEP)
    (group("memory") / "below" / "deeper").mkdir(parents=True)
    hako("kill", path)
    assert not group("memory").exists()


@needs("pids", "memory")
def test_hooks_read_and_write_parameters(hako: Hako, box: Writer, places: Path) -> None:
    body = f"""
config.limit(pids=50, memory="64M")
@config.add_general_hook("before_start_wait")
def f(base):
    base.cgroup["pids.max"] = base.cgroup["pids.max"] + 1
    open({str(places / "facts")!r}, "w").write(repr([base.cgroup["pids.max"], base.cgroup["memory.oom_control"]]))
    base.cgroup["pids.mx"]
"""
    done = hako("start", box(body), "--", "true")
    assert (places / "facts").read_text().startswith("[51, 'oom_kill_disable 0\\n")
    assert "the container's cgroup has no parameter 'pids.mx' (did you mean 'pids.max'?)" in done.stderr


def test_a_container_without_a_group(hako: Hako, box: Writer) -> None:
    path = box('@config.add_general_hook("before_start_wait")\ndef f(base): base.cgroup["pids.max"]')
    assert (
        "container 'box' has no cgroup (set a parameter or a limit in its file)"
        in hako("start", path, "--", "true").stderr
    )


@pytest.mark.skipif(HOST.v2 is None, reason="this kernel has no v2 hierarchy mounted")
def test_a_group_that_is_removed_under_a_running_container(hako: Hako, box: Writer) -> None:
    path = box('config.cgroup.v2["cgroup.max.depth"] = 5')
    hako("start", "-D", path, "--", "sleep", "1000")
    group = Path(str(HOST.v2)) / "hakoniwa-box"
    for pid in (group / "cgroup.procs").read_text().split():
        (Path(str(HOST.v2)) / "cgroup.procs").write_text(pid)
    group.rmdir()
    told = hako("attach", path, "--", "true", status=125).stderr
    assert "the cgroup" in told
    assert "is gone" in told
    hako("kill", path)
    hako("start", path, "--", "true")


@pytest.mark.skipif(HOST.v2 is None, reason="this kernel has no v2 hierarchy mounted")
def test_a_group_that_is_only_joined(hako: Hako, box: Writer) -> None:
    group = Path(str(HOST.v2)) / f"theirs-{os.getpid()}" / "box"
    body = f'config.cgroup.name = "{group.parent.name}/box"\nconfig.cgroup.v2.assign_only = True'
    told = hako("start", box(body), "--", "true", status=125).stderr
    assert f"there is no v2 cgroup {group} (a path is one that is there already" in told
    group.mkdir(parents=True)
    (group / "cgroup.max.depth").write_text("7")
    path = box(body)
    try:
        hako("start", "-D", path, "--", "sleep", "1000")
        assert str(known(hako)["pid"]) in (group / "cgroup.procs").read_text().split()
        shown = hako("attach", path, "--", "grep", "^0::", "/proc/self/cgroup").stdout
        assert shown == f"0::/{group.parent.name}/box\n"
        hako("kill", path)
        assert (group / "cgroup.max.depth").read_text() == "7\n"
    finally:
        group.rmdir()
        group.parent.rmdir()


@pytest.mark.skipif(HOST.v2 is None, reason="this kernel has no v2 hierarchy mounted")
@pytest.mark.parametrize("name", ["box", "given"])
def test_a_group_without_parameters_is_made_and_removed(hako: Hako, box: Writer, name: str) -> None:
    path = box("config.cgroup.v2.assign_only = True" + (f"\nconfig.cgroup.name = {name!r}" if name != "box" else ""))
    made = Path(str(HOST.v2)) / f"hakoniwa-{name}"
    hako("start", "-D", path, *SLEEP)
    assert (made / "cgroup.procs").read_text() == f"{known(hako)['pid']}\n"
    assert f"/hakoniwa-{name}" in hako("attach", path, "--", "grep", "^0::", "/proc/self/cgroup").stdout
    hako("kill", path)
    assert not made.exists()


@needs("cpu")
@pytest.mark.skipif(HOST.v2 is None, reason="this kernel has no v2 hierarchy mounted")
def test_a_joined_group_of_v2_beside_parameters_of_v1(hako: Hako, box: Writer) -> None:
    theirs = Path(str(HOST.v2)) / f"theirs-{os.getpid()}"
    theirs.mkdir()
    body = f"config.cgroup.name = {theirs.name!r}\nconfig.cgroup.v2.assign_only = True\n"
    try:
        path = box(body + 'config.cgroup["cpu.shares"] = 512')
        hako("start", "-D", path, *SLEEP)
        for folder in (theirs, group("cpu")):
            assert (folder / "cgroup.procs").read_text() == f"{known(hako)['pid']}\n"
        hako("kill", path)
        told = hako("start", box(body + 'config.namespace.share("pid")', mounts=False), "--", "true", status=125).stderr
        assert f"the cgroup {theirs} is there already, and a container without a pid namespace" in told
    finally:
        theirs.rmdir()


@needs("cpuset")
@pytest.mark.parametrize("parameter", ["cpuset.cpus", "cpuset.mems"])
def test_a_cpuset_gets_from_its_parent_what_the_file_leaves_out(hako: Hako, box: Writer, parameter: str) -> None:
    parent = group("cpuset").parent
    (given,) = {"cpuset.cpus", "cpuset.mems"} - {parameter}
    found = hako("start", box(f'config.cgroup["{parameter}"] = "0"'), "--", "cat", "/proc/self/cgroup").stdout
    assert "/hakoniwa-box" in found
    hako("start", "-D", box(f'config.cgroup["{parameter}"] = "0"'), *SLEEP)
    assert (group("cpuset") / parameter).read_text() == "0\n"
    assert (group("cpuset") / given).read_text() == (parent / given).read_text() != "\n"
    hako("kill", "-n", "box")
