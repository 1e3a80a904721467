"""Reload: what is applied to the running container, what is told, and a control socket that nobody can block."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.kernel.cgroup import find_hierarchies
from hakoniwa.kernel.processes.pidfd import wait_end
from hakoniwa.known import listing
from hakoniwa.known.statefile import State
from tests.conftest import Hako, wait_for_log

Writer = Callable[..., Path]

HARNESS = Path(__file__).with_name("harness.py")
ALL = 'config.support_reload("cgroup", "resource", "hooks")\n'
SLEEP = ("--", "sleep", "1000")
HOST = find_hierarchies()
with_pids = pytest.mark.skipif("pids" not in HOST.v1, reason="this kernel has no v1 controller pids")


@pytest.fixture(autouse=True)
def ended(hako: Hako, no_leaks: None) -> object:
    yield
    hako("kill", "-n", "box", status=None)  # some have other names


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
        assert json.loads(clients[0].makefile().readline())["refusals"]
    for client in clients:
        client.close()


@pytest.mark.parametrize("count", [8, 40])
def test_clients_that_say_nothing_keep_nobody_waiting(
    hako: Hako, box: Writer, places: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    path = box(ALL)
    hako("start", "-D", path, *SLEEP)
    monkeypatch.chdir(places / "run" / "box")
    clients = [socket.socket(socket.AF_UNIX) for _ in range(count)]
    for client in clients:
        client.connect("control.sock")
    assert hako("reload", path).stdout == "box: nothing has changed\n"
    for client in clients:
        client.close()


def test_a_stopped_supervisor_keeps_nobody_waiting(hako: Hako, box: Writer) -> None:
    path = box(ALL)
    hako("start", "-D", path, *SLEEP)
    pid = supervisor(hako)
    os.kill(pid, signal.SIGSTOP)
    told = hako("reload", path, status=125).stderr
    assert f"the supervisor of container 'box' does not answer: it is stopped (kill -CONT {pid})" in told
    os.kill(pid, signal.SIGCONT)
    assert hako("reload", path).stdout == "box: nothing has changed\n"


def test_a_supervisor_that_never_answers(
    hako: Hako, box: Writer, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hakoniwa.errors import HakoError
    from hakoniwa.run.control import asking

    hako("start", "-D", box(ALL), *SLEEP)
    (known,) = (one for one in listing.every() if isinstance(one, State))
    monkeypatch.chdir(places / "run" / "box")
    os.rename("control.sock", "kept")
    monkeypatch.setattr(asking, "PATIENCE", 0.6)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind("control.sock")
        deaf.listen(0)
        for _ in range(3):  # the first is taken, the others find the queue full
            with pytest.raises(HakoError, match=r"does not answer: it has not in 0\.6 s \(its pid is "):
                asking.ask(known, "reload")
    os.rename("kept", "control.sock")


HANGS = {"in Python": "while True: pass", "in a call": "import threading; threading.Event().wait()"}


@pytest.mark.parametrize("code", HANGS.values(), ids=HANGS)
def test_a_file_that_hangs_keeps_no_later_reload_waiting(hako: Hako, box: Writer, places: Path, code: str) -> None:
    path = box(ALL)
    words = [sys.executable, "-I", str(HARNESS), "patience", "0.5", "start", "-D", str(path), *SLEEP]
    subprocess.run(words, cwd=places, check=True, timeout=30)
    for limit in (90, 80):
        box(ALL + code)
        told = hako("reload", path, status=125).stderr
        assert f"{path}: the file has not come to its end after 0.5 s (nothing has changed" in told
        box(ALL + f'config.resource.set_limit("NOFILE", {limit})')
        assert f"limit NOFILE: {limit}:{limit}: applied" in hako("reload", path).stdout
    assert hako("attach", path, "--", "hostname").stdout == "box\n"


def test_reloads_that_hang_are_few(hako: Hako, box: Writer, places: Path) -> None:
    path = box(ALL)
    words = [sys.executable, "-I", str(HARNESS), "patience", "0.1", "start", "-D", str(path), *SLEEP]
    subprocess.run(words, cwd=places, check=True, timeout=30)
    box(ALL + "while True: pass")
    for _ in range(8):
        assert "has not come to its end" in hako("reload", path, status=125).stderr
    box(ALL + "import threading; threading.Event().wait()")
    for _ in range(4):
        assert "has not come to its end" in hako("reload", path, status=125).stderr
    assert "4 earlier reloads have not come to an end" in hako("reload", path, status=125).stderr
    assert hako("attach", path, "--", "hostname").stdout == "box\n"


def test_a_container_that_runs_goes_on_without_a_control_socket(hako: Hako, box: Writer, places: Path) -> None:
    path = box()
    hako("start", path, "--", "true")
    in_the_way = places / "run" / "box" / "control.sock"
    in_the_way.mkdir()
    front = hako.background("start", path, "--", "sh", "-c", "read word; echo $word", stdin=subprocess.PIPE)
    assert front.stdin is not None
    assert front.stderr is not None
    assert b"cannot hear requests: cannot make the control socket of 'box'" in front.stderr.readline()
    in_the_way.rmdir()
    assert front.communicate(b"fine\n", timeout=30) == (b"fine\n", b"")


# Nothing that runs out takes a container down

STARVING = """
import os, resource, threading
held = []

@config.add_general_hook("before_start_wait")
def few(base):
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096))

@config.add_signal_handler("USR1")
def take(base):
    try:
        while True:
            held.append(os.dup(1))
    except OSError as error:
        base.log(f"taken: {error.strerror}")

@config.add_signal_handler("USR2")
def free(base):
    while held:
        os.close(held.pop())
    threading.stack_size(0)
    base.log("freed")

@config.add_signal_handler("TTIN")
def no_threads(base):
    threading.stack_size(1 << 46)  # more than there are addresses: pthread_create fails
    base.log("no threads")
"""


def test_a_reload_while_no_descriptor_is_left(hako: Hako, box: Writer) -> None:
    path = box(ALL + STARVING)
    hako("start", "-D", path, *SLEEP)
    pid = supervisor(hako)
    os.kill(pid, signal.SIGUSR1)
    wait_for_log(hako, path, "taken: Too many open files")
    waiting = hako.background("reload", path)
    wait_for_log(hako, path, "cannot take a request: Too many open files")
    os.kill(pid, signal.SIGHUP)
    wait_for_log(hako, path, "reload: ")
    assert hako("attach", path, "--", "hostname").stdout == "box\n"
    os.kill(pid, signal.SIGUSR2)
    wait_for_log(hako, path, "freed")
    assert waiting.communicate(timeout=30) == (b"box: nothing has changed\n", b"")
    assert supervisor(hako) == pid


def test_the_end_while_no_descriptor_is_left(hako: Hako, box: Writer) -> None:
    path = box(STARVING)
    hako("start", "-D", path, "--", "sh", "-c", "trap 'exit 3' TERM; sleep 1000 & wait")
    pid = supervisor(hako)
    os.kill(pid, signal.SIGUSR1)
    wait_for_log(hako, path, "taken: Too many open files")
    ending = os.pidfd_open(pid)
    os.kill(pid, signal.SIGTERM)
    assert wait_end(ending, 20)
    os.close(ending)
    assert "stopped (3)" in hako("status", path).stdout


def test_a_limit_that_is_below_what_is_waited_for(hako: Hako, box: Writer) -> None:
    path = box(
        STARVING.replace("held.append(os.dup(1))", "resource.setrlimit(resource.RLIMIT_NOFILE, (2, 2)); os.dup(1)")
    )
    hako("start", "-D", path, "--", "sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; sleep 1000 & wait")
    wait_for_log(hako, path, "up")
    pid = supervisor(hako)
    os.kill(pid, signal.SIGUSR1)
    wait_for_log(hako, path, "taken: Too many open files")
    os.kill(pid, signal.SIGUSR1)  # to wake it
    wait_for_log(hako, path, "cannot wait for what happens, and looks for it: Invalid argument")
    assert hako("attach", path, "--", "hostname").stdout == "box\n"
    ending = os.pidfd_open(pid)
    os.kill(pid, signal.SIGTERM)
    assert wait_end(ending, 20)
    os.close(ending)
    assert "bye" in hako("logs", path).stdout


def test_a_reload_while_no_thread_can_be_started(hako: Hako, box: Writer) -> None:
    path = box(ALL + STARVING)
    hako("start", "-D", path, *SLEEP)
    pid = supervisor(hako)
    os.kill(pid, signal.SIGTTIN)
    wait_for_log(hako, path, "no threads")
    for _ in range(10):
        told = hako("reload", path, status=125).stderr
        assert "the supervisor cannot answer: can't start new thread" in told
    os.kill(pid, signal.SIGHUP)
    wait_for_log(hako, path, "cannot reload: can't start new thread")
    os.kill(pid, signal.SIGUSR2)
    wait_for_log(hako, path, "freed")
    assert hako("reload", path).stdout == "box: nothing has changed\n"
    assert supervisor(hako) == pid


def test_hooks_that_a_reload_cannot_start_leave_the_old_ones(hako: Hako, box: Writer) -> None:
    path = box(ALL + HOOK.format("old"))
    hako("start", "-D", path, *SLEEP)
    limit = 'config.resource.set_limit("NOFILE", 77)\n'
    box(ALL + limit + "import threading; threading.stack_size(1 << 46)\n" + HOOK.format("new"))
    told = hako("reload", path, status=125).stderr
    assert "cannot have hooks beside the container: RuntimeError: can't start new thread" in told
    os.kill(supervisor(hako), signal.SIGUSR1)
    wait_for_log(hako, path, "old")
    assert hako("attach", path, "--", "sh", "-c", "ulimit -n").stdout != "77\n"


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
