"""Signals to each process of a barn, many commands at once, a full disk under the log: nothing hangs, the others go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hakoniwa.kernel.processes.pidfd import wait_end
from tests.conftest import Hako

Writer = Callable[..., Path]

PAIR = """
config.init_command = ["/bin/sleep", "1000"]
with config.define() as c: c.name = "one"
with config.define() as c: c.name = "two"
"""


def known(hako: Hako, *words: str) -> dict[str, dict[str, object]]:
    containers = json.loads(hako("ps", "--json", *words).stdout)["containers"]
    return {container["name"]: container for container in containers}


def barn_of(supervisor: int) -> int:
    return int(Path(f"/proc/{supervisor}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def pair(hako: Hako, box: Writer) -> Iterator[dict[str, int]]:
    """Two containers in the background; the pids of the processes around the first."""
    path = box(PAIR)
    hako("start", "-D", path)
    one = known(hako)["one"]
    supervisor = int(str(one["supervisor_pid"]))
    yield {"first process": int(str(one["pid"])), "supervisor": supervisor, "barn": barn_of(supervisor)}
    hako("kill", path)
    hako("rm", path)


def end_of(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    assert wait_end(pidfd, 10)
    os.close(pidfd)


@pytest.mark.parametrize(
    ("who", "number", "left"),
    [
        ("first process", signal.SIGKILL, ["two"]),
        ("supervisor", signal.SIGKILL, ["two"]),
        ("barn", signal.SIGKILL, ["one", "two"]),
        ("supervisor", signal.SIGTERM, ["two"]),
        ("supervisor", signal.SIGINT, ["two"]),
        ("barn", signal.SIGTERM, []),
    ],
)
def test_a_signal_to_one_process(
    hako: Hako, pair: dict[str, int], who: str, number: signal.Signals, left: list[str]
) -> None:
    others = [int(str(known(hako)["two"]["supervisor_pid"]))] if not left else []
    os.kill(pair[who], number)
    for pid in [pair["first process"] if "one" not in left else pair[who], *others]:
        try:
            end_of(pid)
        except ProcessLookupError:
            continue
    if "one" not in left:
        try:
            end_of(pair["supervisor"])
        except ProcessLookupError:
            pass
    assert sorted(known(hako)) == left


@pytest.mark.parametrize("who", ["first process", "supervisor", "barn"])
def test_stopped_and_continued(hako: Hako, pair: dict[str, int], who: str) -> None:
    os.kill(pair[who], signal.SIGSTOP)
    assert sorted(known(hako)) == ["one", "two"]
    assert hako("attach", "-n", "two", "--", "hostname").stdout == "two\n"
    os.kill(pair[who], signal.SIGCONT)
    hako("kill", "-n", "one")
    assert sorted(known(hako)) == ["two"]


def test_a_stopped_container_is_killed(hako: Hako, pair: dict[str, int]) -> None:
    os.kill(pair["first process"], signal.SIGSTOP)
    hako("kill", "-n", "one")
    assert sorted(known(hako)) == ["two"]


def test_the_supervisor_of_a_container_that_is_killed_is_stopped(hako: Hako, pair: dict[str, int]) -> None:
    pid = pair["supervisor"]
    ending = os.pidfd_open(pid)
    os.kill(pid, signal.SIGSTOP)
    told = hako("kill", "-n", "one", status=125).stderr
    assert f"one: the supervisor is stopped, and clears nothing (kill -CONT {pid})" in told
    end_of(pair["first process"])  # a zombie until its parent goes on
    os.kill(pid, signal.SIGCONT)
    assert wait_end(ending, 10)
    os.close(ending)
    assert sorted(known(hako)) == ["two"]


def test_fifty_starts_and_kills_at_the_same_moment(hako: Hako, box: Writer) -> None:
    files = [box(name=f"box{number}") for number in range(50)]
    for words in (("start", "-D"), ("kill",)):
        tail = ["--", "sleep", "1000"] if words[0] == "start" else []
        running = [hako.background(*words, file, *tail) for file in files]
        ended = [(process.communicate(timeout=50), process.returncode) for process in running]
        assert [status for _, status in ended] == [0] * 50, ended
        assert len(known(hako)) == (50 if words[0] == "start" else 0)


def test_starts_and_kills_of_one_name_at_the_same_moment(hako: Hako, box: Writer) -> None:
    path = box()
    running = []
    for _ in range(25):
        running += [hako.background("start", "-D", path, "--", "sleep", "1000"), hako.background("kill", path)]
    for process in running:
        _, err = process.communicate(timeout=50)
        assert process.returncode in (0, 125)
        assert b"Traceback" not in err
    hako("kill", path)
    assert known(hako) == {}
    assert hako("start", path, "--", "echo", "fine").stdout == "fine\n"


def test_a_log_on_a_full_disk_blocks_nobody(hako: Hako, box: Writer, places: Path) -> None:
    log = places / "log"
    log.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(log)], check=True)
    try:
        path = box()
        hako("start", "-D", path, "--", "sh", "-c", "seq 1 500000; exit 7")
        hako("logs", "-f", path)
        assert known(hako, "-a")["box"]["exit"] == {"code": 7, "signal": None}
        hako("rm", path)
    finally:
        subprocess.run(["umount", str(log)], check=True)
