"""Reload: what is applied to the running container, what is told, and a control socket that nobody can block."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.kernel.cgroup import find_hierarchies
from tests.conftest import Hako, wait_for_log

Writer = Callable[..., Path]

ALL = 'config.support_reload("cgroup", "resource", "hooks")\n'
SLEEP = ("--", "sleep", "1000")
HOST = find_hierarchies()
with_pids = pytest.mark.skipif("pids" not in HOST.v1, reason="this kernel has no v1 controller pids")


@pytest.fixture(autouse=True)
def ended(hako: Hako, no_leaks: None) -> object:
    yield
    hako("kill", "-n", "box")


def supervisor(hako: Hako) -> int:
    (known,) = json.loads(hako("ps", "--json").stdout)["containers"]
    pid: int = known["supervisor_pid"]
    return pid


def parameter(name: str) -> str:
    controller = name.split(".")[0]
    return (Path(HOST.v1[controller]) / "hakoniwa-box" / name).read_text().strip()


@with_pids
def test_cgroup_values_are_changed_added_and_taken_back(hako: Hako, box: Writer) -> None:
    path = box(ALL + 'config.cgroup["pids.max"] = 50\nconfig.cgroup["memory.swappiness"] = 10')
    hako("start", "-D", path, *SLEEP)
    before = (Path(HOST.v1["memory"]) / "memory.swappiness").read_text().strip()
    box(ALL + 'config.cgroup["pids.max"] = 60\nconfig.cgroup["memory.limit_in_bytes"] = 64 * 1024**2')
    told = hako("reload", path).stdout
    assert "box: cgroup pids.max: 50 → 60: applied\n" in told
    assert f"box: cgroup memory.swappiness: 10 → {before}: applied\n" in told
    assert parameter("pids.max") == "60"
    assert parameter("memory.swappiness") == before
    assert parameter("memory.limit_in_bytes") == str(64 * 1024**2)
    assert hako("reload", path).stdout == "box: nothing has changed\n"
    box(ALL + 'config.cgroup["cpu.shares"] = 512\nconfig.cgroup["pids.max"] = "lots"')
    done = hako("reload", path, status=125)
    assert hako("reload", path, status=125).stdout == done.stdout, "what failed is told again"
    assert "box: cgroup cpu.shares: needs a restart: the container is not in that group" in done.stdout
    assert "box: cgroup pids.max: cannot write 'lots' to " in done.stdout


def test_limits_on_every_process(hako: Hako, box: Writer) -> None:
    path = box(ALL + 'config.resource.set_limit("NOFILE", 100, 500)')
    hako("start", "-D", path, "--", "sh", "-c", "sleep 1000 & sleep 1000 & echo up; wait")
    wait_for_log(hako, path, "up")
    box(ALL + 'config.resource.set_limit("NOFILE", 50, 500)\nconfig.resource.set_limit("CORE", 0)')
    told = hako("reload", path).stdout
    assert "box: limit NOFILE: 50:500: applied" in told
    limits = hako(
        "attach", path, "--", "sh", "-c", "for p in /proc/[0-9]*; do grep 'Max open' $p/limits; done; ulimit -n"
    ).stdout
    assert limits.count(" 50 ") >= 3
    assert limits.endswith("50\n")


def test_what_is_not_supported_needs_a_restart(hako: Hako, box: Writer) -> None:
    path = box('config.resource.set_limit("NOFILE", 100)\nconfig.environ["A"] = "1"')
    hako("start", "-D", path, *SLEEP)
    box('\n\nconfig.resource.set_limit("NOFILE", 90)\nconfig.environ["A"] = "2"')
    told = hako("reload", path).stdout.splitlines()
    assert told == ["box: environ: needs a restart", 'box: limits: needs a restart (or support_reload("resource"))']


HOOK = """
@config.add_signal_handler("USR1")
def f(base): base.log("{}")
@config.add_general_hook("after_reload")
def g(base): base.log("reloaded")
"""


def test_another_group_needs_a_restart(hako: Hako, box: Writer) -> None:
    path = box(ALL + 'config.cgroup.v2["cgroup.max.depth"] = 5')
    hako("start", "-D", path, "--", "sleep", "1000")
    box(ALL + 'config.cgroup.v2["cgroup.max.depth"] = 5\nconfig.cgroup.name = "elsewhere"')
    for _ in range(2):  # it is told again, as long as it is so
        assert "cgroup name: needs a restart" in hako("reload", path).stdout
    hako("kill", path)


def test_hooks_are_replaced(hako: Hako, box: Writer) -> None:
    path = box(ALL + HOOK.format("first"))
    hako("start", "-D", path, *SLEEP)
    os.kill(supervisor(hako), signal.SIGUSR1)
    wait_for_log(hako, path, "first")
    box(ALL + HOOK.format("second") + "@config.add_timer_hook(every=0.05)\ndef t(base): base.log('tick')")
    assert hako("reload", path).stdout == "box: hooks: applied\n"
    os.kill(supervisor(hako), signal.SIGUSR1)
    wait_for_log(hako, path, "second")
    wait_for_log(hako, path, "tick")
    log = hako("logs", path).stdout
    assert log.count("first") == 1
    assert log.count("reloaded") == 1
    box(ALL)
    hako("reload", path)
    os.kill(supervisor(hako), signal.SIGUSR1)  # has no handler any more, and harms nothing
    assert hako("reload", path).stdout == "box: nothing has changed\n"


@pytest.mark.parametrize("content", ["broken (", "1 / 0", "config.uid = -1"])
def test_a_file_with_an_error_changes_nothing(hako: Hako, box: Writer, content: str) -> None:
    path = box(ALL + 'config.resource.set_limit("NOFILE", 100)')
    hako("start", "-D", path, *SLEEP)
    box(ALL + f'config.resource.set_limit("NOFILE", 50)\n{content}')
    assert "box.haco.py:" in hako("reload", path, status=125).stderr
    assert hako("attach", path, "--", "sh", "-c", "ulimit -n").stdout == "100\n"


def test_a_container_that_is_not_in_the_file_any_more(hako: Hako, box: Writer) -> None:
    path = box()
    hako("start", "-D", path, *SLEEP)
    path.write_text(path.read_text().replace('"box"', '"other"'))
    assert "container 'box' is not in the file any more (there: other)" in hako("reload", path, status=125).stderr


def test_sighup_means_reload_in_the_background(hako: Hako, box: Writer) -> None:
    path = box(ALL)
    hako("start", "-D", path, *SLEEP)
    box(ALL + 'config.resource.set_limit("NOFILE", 50)')
    os.kill(supervisor(hako), signal.SIGHUP)
    wait_for_log(hako, path, "reload: limit NOFILE: 50:50: applied")


def test_watch_reloads_when_the_file_changes(hako: Hako, box: Writer) -> None:
    path = box(ALL)
    hako("start", "-D", "--watch", path, *SLEEP)
    box(ALL + 'config.resource.set_limit("NOFILE", 50)')
    wait_for_log(hako, path, "reload: limit NOFILE: 50:50: applied")


def test_reload_of_what_does_not_run(hako: Hako, box: Writer) -> None:
    path = box()
    hako("start", path, "--", "true")
    assert "no container runs" in hako("reload", path, status=125).stderr


@pytest.mark.parametrize("sent", [b"", b"garbage\n", b"[1]\n", b'{"command": "shutdown"}\n', b"x" * 100_000_000])
def test_a_client_that_misbehaves_keeps_nobody_waiting(
    hako: Hako, box: Writer, places: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    path = box(ALL)
    hako("start", "-D", path, *SLEEP)
    clients = []
    for _ in range(4):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(20)
        monkeypatch.chdir(places / "run" / "box")  # the path may be longer than a socket's may be
        client.connect("control.sock")
        clients.append(client)
        try:
            client.sendall(sent)
        except OSError:
            pass  # it was not taken whole
    assert hako("reload", path).stdout == "box: nothing has changed\n"
    if sent.endswith(b"\n"):
        assert "error" in json.loads(clients[0].makefile().readline())
    for client in clients:
        client.close()


def test_a_name_of_the_greatest_length(hako: Hako, box: Writer) -> None:
    name = "n" * 63
    path = box(ALL, name=name)
    hako("start", "-D", path, *SLEEP)
    assert "nothing has changed" in hako("reload", path).stdout
    hako("kill", path)


def test_a_hook_that_the_running_container_cannot_have(hako: Hako, box: Writer) -> None:
    path = box(ALL)
    hako("start", "-D", path, *SLEEP)
    box(ALL + '@config.add_cgroup_hook(type="oom")\ndef f(base): pass')
    assert "the container is in no memory cgroup (restart it for this hook)" in hako("reload", path, status=125).stderr
    assert hako("attach", path, "--", "hostname").stdout == "box\n"


def test_a_readiness_hook_that_a_reload_adds_ends_nothing(hako: Hako, box: Writer) -> None:
    path = box(ALL)
    hako("start", "-D", "--wait", path, *SLEEP)
    box(ALL + "@config.add_readiness_hook(timeout=0.05, interval_msec=10)\ndef f(base, ok): return False")
    hako("reload", path)
    wait_for_log(hako, path, "the container was not ready after 0.05 s")
    assert hako("attach", path, "--", "hostname").stdout == "box\n"


def test_reloads_at_the_same_moment(hako: Hako, box: Writer) -> None:
    path = box(ALL)
    hako("start", "-D", path, *SLEEP)
    running = [hako.background("reload", path) for _ in range(6)]
    told = [process.communicate(timeout=30) for process in running]
    assert [process.returncode for process in running] == [0] * 6, told
