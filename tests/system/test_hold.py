"""A start in two phases: `start --hold` sets everything up, `release` has the program executed; whatever ends it in between
leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.kernel.processes.pidfd import wait_end
from tests.conftest import HAKO, Hako, wait_for_log

Writer = Callable[..., Path]

SLEEP = ("--", "sleep", "1000")


def known(hako: Hako, *words: str) -> list[dict[str, object]]:
    containers: list[dict[str, object]] = json.loads(hako("ps", "--json", *words).stdout)["containers"]
    return containers


def held(hako: Hako, path: Path, *words: str) -> dict[str, object]:
    hako("start", "-D", "--hold", path, *(words or SLEEP))
    (container,) = known(hako)
    assert container["status"] == "created"
    return container


def wait_for_end(pid: object) -> None:
    try:
        pidfd = os.pidfd_open(int(str(pid)))
    except ProcessLookupError:
        return
    assert wait_end(pidfd, 10)
    os.close(pidfd)


def test_held_and_released_in_the_background(hako: Hako, box: Writer) -> None:
    path = box()
    told = hako("start", "-D", "--hold", path, "--", "sh", "-c", "echo begun; exec sleep 1000").stdout
    (container,) = known(hako)
    assert (container["status"], f"{container['name']} {container['pid']}\n") == ("created", told)
    assert hako("logs", path).stdout == ""
    assert "created" in hako("status", path).stdout
    assert hako("release", path).stdout == ""
    (running,) = known(hako)
    assert (running["status"], running["pid"]) == ("running", container["pid"])
    wait_for_log(hako, path, "begun")
    assert hako("attach", path, "--", "hostname").stdout == "box\n"
    hako("kill", path)


def test_held_and_released_in_the_foreground(hako: Hako, box: Writer) -> None:
    path = box()
    front = hako.background("start", "--hold", path, "--", "sh", "-c", "echo begun; exit 7")
    while not known(hako):
        pass
    assert known(hako)[0]["status"] == "created"
    hako("release", "-n", "box")
    assert front.communicate(timeout=20) == (b"begun\n", b"")
    assert front.returncode == 7


def test_nothing_of_the_program_is_there_before_and_all_else_is(hako: Hako, box: Writer) -> None:
    path = box('config.container_pid_file = "box.pid"\nconfig.add_mount_point("tmpfs", to="/tmp", fs="tmpfs")')
    container = held(hako, path)
    pid = int(str(container["pid"]))
    assert (path.parent / "box.pid").read_text() == f"{container['supervisor_pid']}\n"
    mounts = Path(f"/proc/{pid}/mountinfo").read_text()
    assert " /tmp " in mounts
    assert " /dev/pts " in mounts
    assert "\nCapEff:\t00000000200405fb\n" not in mounts
    status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert int(status["CapEff"], 16) & 1 << 21 == 0  # cap_sys_admin
    hako("kill", path)


@pytest.mark.parametrize("words", [("-D",), ()], ids=["background", "foreground"])
def test_a_program_that_cannot_be_executed_is_told_to_who_releases_it(
    hako: Hako, box: Writer, words: tuple[str, ...]
) -> None:
    path = box()
    front = hako.background("start", "--hold", *words, path, "--", "nowhere")
    while not known(hako):
        pass
    error = "hako: box: there is no program 'nowhere' inside"
    assert hako("release", path, status=127).stderr.startswith(error)
    _, told = front.communicate(timeout=20)
    assert front.returncode == (0 if words else 127)
    assert told.decode().startswith(error) is not bool(words)
    assert known(hako) == []


@pytest.mark.parametrize("who", ["pid", "supervisor_pid"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_signal_to_a_held_one_leaves_nothing(hako: Hako, box: Writer, who: str, number: signal.Signals) -> None:
    path = box('config.limit(pids=50)\nconfig.container_pid_file = "box.pid"')
    container = held(hako, path)
    os.kill(int(str(container[who])), number)
    for one in ("pid", "supervisor_pid"):
        wait_for_end(container[one])
    assert known(hako) == []
    (ended,) = known(hako, "-a")
    lost = number == signal.SIGKILL and who == "supervisor_pid"
    assert ended["status"] == ("dead" if lost else "stopped")
    if lost:
        hako("gc")
    else:
        assert ended["exit"]
        assert ended["exit"]["code"] == 128 + (number if who == "pid" else signal.SIGTERM)  # type: ignore[index]
    assert not (path.parent / "box.pid").exists()
    assert hako("start", path, "--", "echo", "again").stdout == "again\n"


@pytest.mark.parametrize("pid", ["", 'config.namespace.share("pid")'], ids=["own", "shared"])
def test_kill_ends_a_held_one_at_once(hako: Hako, box: Writer, pid: str) -> None:
    path = box(pid, mounts=False)
    held(hako, path)
    hako("kill", path, "-T", "1000")
    (ended,) = known(hako, "-a")
    assert (ended["status"], ended["exit"]) == ("stopped", {"code": 143, "signal": None})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_end_of_a_front_that_holds(hako: Hako, box: Writer, number: signal.Signals) -> None:
    for body in ("", 'config.container_pid_file = "box.pid"'):
        path = box(body)
        front = hako.background("start", "--hold", path, *SLEEP)
        while not known(hako):
            pass
        (container,) = known(hako)
        front.send_signal(number)
        front.communicate(timeout=20)
        assert front.returncode == (-9 if number == signal.SIGKILL else 143)
        for one in ("pid", "supervisor_pid"):
            wait_for_end(container[one])
        assert known(hako) == []
        assert hako("start", path, "--", "echo", "again").stdout == "again\n"


def test_a_held_one_outlives_its_caller_and_is_heard_by_nobody_else(hako: Hako, box: Writer) -> None:
    path = box()
    held(hako, path)  # by a command that is gone
    assert "no container runs: box is held (hako release -n box)" in hako("attach", path, status=125).stderr
    assert "no container runs: box is held (hako release -n box)" in hako("reload", path, status=125).stderr
    assert "box" in hako("start", path, status=125).stderr
    assert "is held already: pid " in hako("start", "-D", path, *SLEEP, status=125).stderr
    assert "container 'box' is held (hako kill -n box)" in hako("rm", path, status=125).stderr
    assert hako("gc").stdout == "nothing was left\n"
    assert json.loads(hako("inspect", path).stdout)
    hako("release", path)
    assert known(hako)[0]["status"] == "running"
    hako("kill", path)


def test_releases_of_what_is_not_held(hako: Hako, box: Writer) -> None:
    path = box()
    assert "no container of this file is known" in hako("release", path, status=125).stderr
    assert "no container 'other' is known" in hako("release", "-n", "other", status=125).stderr
    held(hako, path)
    hako("release", path)
    twice = hako("release", path, status=125).stderr
    assert "no container is held: box runs (it was released already, or started without --hold)" in twice
    hako("kill", path)
    assert "no container is held: box was ended by signal 9" in hako("release", path, status=125).stderr


def test_two_releases_at_the_same_time(hako: Hako, box: Writer) -> None:
    path = box()
    held(hako, path)
    both = [hako.background("release", path) for _ in range(2)]
    told = sorted((process.communicate(timeout=20)[1].decode(), process.returncode) for process in both)
    assert told[0] == ("", 0)
    assert told[1][1] in (0, 125)
    assert told[1][1] == 0 or "not held any more" in told[1][0] or "no container is held" in told[1][0]
    assert known(hako)[0]["status"] == "running"
    hako("kill", path)


def test_wrong_uses(hako: Hako, box: Writer) -> None:
    path = box()
    assert "--wait is about a program that runs" in hako("start", "-D", "--hold", "--wait", path, status=2).stderr
    assert "wait to be released\n" in hako("start", "--dry-run", "--hold", path).stdout
    assert "wait to be released" not in hako("start", "--dry-run", path).stdout


HOOKS = """
def tell(point):
    @config.add_general_hook(point)
    def hook(base):
        print(point, flush=True)
for point in ("before_fork", "after_fork", "after_chroot", "before_start_wait", "teardown_container"):
    tell(point)
@config.add_async_hook(sec=0)
def beside(base):
    print("beside", flush=True)
"""


def test_which_hooks_run_before_the_release(hako: Hako, box: Writer) -> None:
    path = box(HOOKS)
    front = hako.background("start", "--hold", path, "--", "sleep", "1000")
    while not known(hako):
        pass
    assert front.stdout is not None
    before = [front.stdout.readline() for _ in range(3)]
    assert before == [b"before_fork\n", b"after_fork\n", b"after_chroot\n"]
    assert known(hako)[0]["status"] == "created"
    hako("release", path)
    assert [front.stdout.readline() for _ in range(2)] == [b"before_start_wait\n", b"beside\n"]
    hako("kill", path)
    assert front.communicate(timeout=20)[0] == b"teardown_container\n"


def test_all_of_a_barn_are_held(hako: Hako, box: Writer) -> None:
    path = box(
        'config.init_command = ["/bin/sleep", "1000"]\n'
        'with config.define() as c: c.name = "one"\nwith config.define() as c: c.name = "two"'
    )
    hako("start", "-D", "--hold", path)
    assert [one["status"] for one in known(hako)] == ["created"] * 2
    hako("release", "-n", "one")
    assert [one["status"] for one in known(hako)] == ["running", "created"]
    hako("release", path)
    assert [one["status"] for one in known(hako)] == ["running"] * 2
    hako("kill", path)
    assert known(hako) == []


def test_in_a_user_namespace_and_with_a_filter_of_the_file_s_own(hako: Hako, box: Writer) -> None:
    path = box('config.namespace.unshare("user")\nconfig.limit(memory="64M")')
    held(hako, path, "--", "sh", "-c", "id -u; exec sleep 1000")
    hako("release", path)
    wait_for_log(hako, path, "0")
    hako("kill", path)


def test_at_a_terminal(hako: Hako, box: Writer) -> None:
    path = box()
    script = f"""
import os, pty, subprocess, sys
master, slave = pty.openpty()
front = subprocess.Popen([{str(HAKO)!r}, "start", "--hold", {str(path)!r}, "--", "sh", "-c", "tty; read line; echo got $line"],
                         stdin=slave, stdout=slave, stderr=slave)
while '"created"' not in subprocess.run([{str(HAKO)!r}, "ps", "--json"], capture_output=True, text=True).stdout: pass
os.write(master, b"typed ahead\\n")
subprocess.run([{str(HAKO)!r}, "release", {str(path)!r}], check=True)
print(front.wait(20))
print(os.read(master, 4096).decode())
"""
    done = subprocess.run(["python3", "-c", script], cwd=hako.folder, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("0\n"), done.stderr
    assert "/dev/pts/0" in done.stdout
    assert "got typed ahead" in done.stdout


def test_a_held_one_waits_without_waking_up(hako: Hako, box: Writer) -> None:
    container = held(hako, box())
    pids = [int(str(container[one])) for one in ("pid", "supervisor_pid")]
    before = [switches(pid) for pid in pids]
    for _ in range(5):
        assert known(hako)[0]["status"] == "created"  # as long as that takes
    assert [switches(pid) for pid in pids] == before
    hako("kill", "-n", "box")


def switches(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
