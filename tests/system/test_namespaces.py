"""Namespaces of every kind: own, entered, kept, and with other clocks; and what an attached command is in."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hakoniwa.kernel.processes.process import NAMESPACES
from tests.conftest import Hako

Writer = Callable[..., Path]
FILES = {name: {"mount": "mnt"}.get(name, name) for name in NAMESPACES}
EVERY = "uts ipc pid net user cgroup time"


def own(pid: int | str = "self") -> dict[str, str]:
    return {name: os.readlink(f"/proc/{pid}/ns/{file}") for name, file in FILES.items()}


SHOW = "for n in mnt uts ipc pid net user cgroup time; do readlink /proc/self/ns/$n; done"


def shown(text: str) -> dict[str, str]:
    order = ["mount", "uts", "ipc", "pid", "net", "user", "cgroup", "time"]
    return dict(zip(order, text.split(), strict=True))


def test_all_eight_are_the_container_s_own_and_attach_joins_exactly_them(hako: Hako, box: Writer) -> None:
    path = box(f"config.namespace.unshare(*'{EVERY}'.split())")
    hako("start", "-D", path, "--", "sleep", "1000")
    inside = shown(hako("attach", path, "--", "sh", "-c", SHOW).stdout)
    first = shown(hako("attach", path, "--", "sh", "-c", SHOW.replace("self", "1")).stdout)
    assert inside == first
    assert not set(inside.values()) & set(own().values())
    hako("kill", path)


def test_what_is_shared_is_not_joined(hako: Hako, box: Writer) -> None:
    path = box('config.namespace.share("ipc", "uts")')
    hako("start", "-D", path, "--", "sleep", "1000")
    inside, host = shown(hako("attach", path, "--", "sh", "-c", SHOW).stdout), own()
    assert {name for name in inside if inside[name] == host[name]} == {"uts", "ipc", "net", "user", "cgroup", "time"}
    hako("kill", path)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process in namespaces of its own, which a container may enter."""
    words = ["unshare", "--fork", "--kill-child", "--pid", "--uts", "--ipc", "--net", "--time", "--mount"]
    script = "hostname elsewhere; mount -t tmpfs mark /mnt; touch /mnt/mark; echo ready; exec sleep 1000"
    process = subprocess.Popen([*words, "sh", "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def child_of(process: subprocess.Popen[bytes]) -> int:
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def test_namespaces_of_another_process_are_entered(hako: Hako, box: Writer, bystander: subprocess.Popen[bytes]) -> None:
    pid = child_of(bystander)
    body = "".join(
        f'config.namespace.enter("{name}", via="/proc/{pid}/ns/{name}")\n' for name in "uts ipc net pid".split()
    )
    body += 'config.add_mount_point("/proc", to="/mnt")'
    path = box(body)
    hako("start", "-D", path, "--", "sleep", "1000")
    inside, theirs = shown(hako("attach", path, "--", "sh", "-c", SHOW).stdout), own(pid)
    assert all(inside[name] == theirs[name] for name in ("uts", "ipc", "net", "pid"))
    assert hako("attach", path, "--", "hostname").stdout == "elsewhere\n"
    assert "sleep 1000" in hako("attach", path, "--", "ps").stdout
    hako("kill", path)
    assert bystander.poll() is None  # it is not ours to end


def test_the_mounts_of_an_entered_namespace_are_a_copy(
    hako: Hako, box: Writer, bystander: subprocess.Popen[bytes]
) -> None:
    pid = child_of(bystander)
    before = Path(f"/proc/{pid}/mountinfo").read_text()
    body = f'config.namespace.enter("mount", via="/proc/{pid}/ns/mnt")\nconfig.add_mount_point("/mnt", to="/mnt")'
    assert hako("start", box(body), "--", "ls", "/mnt").stdout == "mark\n"
    assert Path(f"/proc/{pid}/mountinfo").read_text() == before


def test_a_user_namespace_is_entered_with_what_belongs_to_it(hako: Hako, box: Writer) -> None:
    words = ["unshare", "--user", "--map-root-user", "sh", "-c", "echo ready; exec sleep 1000"]
    other = subprocess.Popen(words, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        other.stdout.readline()
        path = box(f'config.namespace.enter("user", via="/proc/{other.pid}/ns/user")')
        hako("start", "-D", path, "--", "sleep", "1000")
        inside = shown(hako("attach", path, "--", "sh", "-c", SHOW).stdout)
        assert inside["user"] == own(other.pid)["user"]
        assert hako("attach", path, "--", "sh", "-c", "id -u; touch /x; stat -c %u /x").stdout == "0\n0\n"
        hako("kill", path)
    finally:
        other.kill()
        other.communicate()


def test_a_user_namespace_of_its_own_beside_entered_ones(
    hako: Hako, box: Writer, bystander: subprocess.Popen[bytes]
) -> None:
    pid = child_of(bystander)
    body = "".join(f'config.namespace.enter("{name}", via="/proc/{pid}/ns/{name}")\n' for name in "net uts ipc".split())
    path = box(body + 'config.namespace.unshare("user")')
    hako("start", "-D", path, "--", "sleep", "1000")
    inside, theirs = shown(hako("attach", path, "--", "sh", "-c", SHOW).stdout), own(pid)
    assert all(inside[name] == theirs[name] for name in ("uts", "ipc", "net"))
    assert inside["user"] not in (theirs["user"], own()["user"])
    told = hako("attach", path, "--", "hostname", "mine", status=1).stderr
    assert "not permitted" in told  # it is not the container's to name
    hako("kill", path)


def test_a_named_network_namespace(hako: Hako, box: Writer) -> None:
    name = f"hakotest{os.getpid()}"
    file, made = Path("/run/netns") / name, not os.path.exists("/run/netns")
    file.parent.mkdir(exist_ok=True)  # as `ip netns add` does it, which also leaves a mount there
    file.touch()
    subprocess.run(["unshare", f"--net={file}", "true"], check=True)
    try:
        found = hako("start", box(f'config.namespace.use_netns("{name}")'), "--", "cat", "/proc/net/dev").stdout
        assert "lo:" in found
        assert "eth" not in found
    finally:
        subprocess.run(["umount", file], check=True)
        file.unlink()
        if made:
            file.parent.rmdir()
    told = hako("start", box(f'config.namespace.use_netns("{name}")'), "--", "true", status=125).stderr
    assert f"cannot enter the net namespace /run/netns/{name}: No such file or directory (ip netns add {name})" in told


@pytest.mark.parametrize(
    ("name", "via", "what"),
    [
        ("net", "/etc/passwd", "it is no namespace"),
        ("net", "/dev/null", "it is no namespace"),
        ("net", "/proc/self/ns/uts", "it is a uts namespace"),
        ("uts", "/proc/1/no/such", "No such file or directory"),
        ("pid", "/tmp", "it is no namespace"),
    ],
)
def test_a_path_that_is_no_such_namespace(hako: Hako, box: Writer, name: str, via: str, what: str) -> None:
    body = f'config.namespace.enter("{name}", via="{via}")'
    mounts = 'config.add_mount_point("/proc", to="/proc")' if name == "pid" else ""
    path = box(f"{body}\n{mounts}", mounts=not mounts)
    told = hako("start", path, "--", "true", status=125).stderr
    assert f"cannot enter the {name} namespace {via}: {what}" in told
    assert "box.haco.py:" in told


def test_a_namespace_is_kept_used_again_and_released(hako: Hako, box: Writer, places: Path) -> None:
    kept = places / "kept" / "net"
    path = box(f'config.namespace.unshare("net", persist_in={str(kept)!r})')
    first = hako("start", path, "--", "readlink", "/proc/self/ns/net").stdout.strip()
    show = ["nsenter", f"--net={kept}", "readlink", "/proc/self/ns/net"]
    assert subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip() == first
    other = box(f'config.namespace.enter("net", via={str(kept)!r})', "other")
    assert hako("start", other, "--", "readlink", "/proc/self/ns/net").stdout.strip() == first
    second = hako("start", path, "--", "readlink", "/proc/self/ns/net").stdout.strip()
    assert subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip() == second  # in its place
    hako("rm", path)
    assert not kept.exists()


def test_what_lies_where_a_namespace_is_to_be_kept_is_left_alone(hako: Hako, box: Writer, places: Path) -> None:
    (places / "taken").write_text("mine")
    body = f'config.namespace.unshare("uts", persist_in={str(places / "fine")!r})\n'
    body += f'config.namespace.unshare("net", persist_in={str(places / "taken")!r})'
    told = hako("start", box(body), "--", "true", status=125).stderr
    assert "cannot keep the net namespace" in told
    assert "something else is there" in told
    assert (places / "taken").read_text() == "mine"
    assert not (places / "fine").exists()


def test_clocks_that_are_ahead(hako: Hako, box: Writer) -> None:
    day = 86400
    path = box(f"config.namespace.time_offset(boottime={365 * day}, monotonic=1.5)")
    hako("start", "-D", path, "--", "sleep", "1000")
    up = float(hako("attach", path, "--", "cat", "/proc/uptime").stdout.split()[0])
    assert 0 <= up - 365 * day - time.clock_gettime(time.CLOCK_BOOTTIME) + 60 < 120
    offsets = hako("attach", path, "--", "cat", "/proc/self/timens_offsets").stdout.split()
    assert offsets == ["monotonic", "1", "500000000", "boottime", str(365 * day), "0"]
    hako("kill", path)
    told = hako("start", box("config.namespace.time_offset(monotonic=-1e9)"), "--", "true", status=125).stderr
    assert "cannot set the clocks" in told
    assert "a clock cannot be set below 0" in told


def test_message_queues_of_the_container_s_own(hako: Hako, box: Writer) -> None:
    for extra in ("", '\nconfig.namespace.unshare("user")'):
        path = box(f'config.mount_independent("mqueue"){extra}')
        assert "mqueue" in hako("start", path, "--", "cat", "/proc/mounts").stdout
        hako("start", path, "--", "touch", "/dev/mqueue/x")


# Priorities


def test_priorities_are_those_of_the_file_for_attached_commands_too(hako: Hako, box: Writer) -> None:
    path = box('r = config.resource\nr.nice = 7\nr.sched = "batch"\nr.oom_score_adj = 321')
    hako("start", "-D", path, "--", "sleep", "1000")
    show = "cat /proc/{0}/oom_score_adj; cut -d' ' -f19,41 /proc/{0}/stat"
    for pid in ("1", "self"):
        assert hako("attach", path, "--", "sh", "-c", show.format(pid)).stdout == "321\n7 3\n"
    hako("kill", path)


def test_lxcfs_files_take_the_place_of_those_of_proc(hako: Hako, box: Writer, places: Path) -> None:
    (places / "lxcfs" / "proc").mkdir(parents=True)
    (places / "lxcfs" / "proc" / "meminfo").write_text("MemTotal: 42 kB\n")
    (places / "lxcfs" / "proc" / "nothing-like-it").write_text("x")
    body = f"config.lxcfs_root = {str(places / 'lxcfs')!r}"
    for extra in ("", '\nconfig.namespace.unshare("user")'):
        assert hako("start", box(body + extra), "--", "cat", "/proc/meminfo").stdout == "MemTotal: 42 kB\n"
    told = hako("start", box('config.lxcfs_root = "/no/such"'), "--", "true", status=125).stderr
    assert "lxcfs is not mounted on /no/such: No such file or directory (apt-get install lxcfs)" in told
