"""Hooks beside the container: on clocks and on signals, whatever they do."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Hako

Writer = Callable[..., Path]

# A hook tells by a line through a FIFO, which a test can wait on.
HEAD = "import os, sys, time, threading\ndef tell(word):\n    with open(FIFO, 'a') as fifo: fifo.write(word + '\\n')\n"
SLEEP = ("--", "sleep", "1000")


class Ears:
    """The reading end of that FIFO."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.head = f"FIFO = {str(path)!r}\n{HEAD}"
        self._file = os.fdopen(os.open(path, os.O_RDWR), "r")

    def hear(self, count: int = 1) -> list[str]:
        return [self._file.readline().strip() for _ in range(count)]

    def close(self) -> None:
        self._file.close()


@pytest.fixture
def ears(places: Path) -> Ears:
    return Ears(places / "fifo")


@pytest.fixture
def run(hako: Hako, box: Writer, ears: Ears) -> Callable[[str], int]:
    """Start a container with these hooks; the pid of its supervisor."""

    def start(body: str) -> int:
        hako("start", "-D", box(body, head=ears.head), *SLEEP)
        (known,) = json.loads(hako("ps", "--json").stdout)["containers"]
        pid: int = known["supervisor_pid"]
        return pid

    return start


Run = Callable[[str], int]


@pytest.fixture(autouse=True)
def ended(hako: Hako, ears: Ears, no_leaks: None) -> object:
    """End the container before the look-out for leaks."""
    yield
    ears.close()
    hako("kill", "-n", "box")


def log(hako: Hako) -> str:
    return hako("logs", "-n", "box").stdout


def test_async_hooks_once_and_at_intervals(run: Run, ears: Ears) -> None:
    run(
        """
count = 0
@config.add_async_hook(msec=1)
def once(base): tell("once " + base.name)
@config.after_spawn(msec=50, interval_msec=10, limit_count=3)
def thrice(base):
    global count
    count += 1
    tell(f"thrice {count}")
@config.add_async_hook(sec=0.2)
def end(base): tell("end")
"""
    )
    assert ears.hear(5) == ["once box", "thrice 1", "thrice 2", "thrice 3", "end"]


def test_async_def(run: Run, ears: Ears) -> None:
    body = "@config.add_async_hook()\nasync def f(base):\n    import asyncio\n    await asyncio.sleep(0)\n    tell('async')"
    run(body)
    assert ears.hear() == ["async"]


def test_timers_do_not_drift(run: Run, ears: Ears) -> None:
    run("@config.add_timer_hook(every=0.02)\ndef f(base): tell(repr(time.monotonic()))")
    moments = [float(word) for word in ears.hear(26)]
    behind = [moment - moments[0] - 0.02 * index for index, moment in enumerate(moments)]
    assert abs(behind[-1]) < 0.02, "one interval late after twenty-five"


def test_signal_handlers(run: Run, ears: Ears) -> None:
    supervisor = run(
        """
@config.add_signal_handler("USR1")
def one(base): tell("one")
@config.add_handler(["SIGUSR2", "ttin"])
def two(base, sig): tell("two " + sig)
"""
    )
    for number, word in ((signal.SIGUSR1, "one"), (signal.SIGUSR2, "two USR2"), (signal.SIGTTIN, "two TTIN")):
        os.kill(supervisor, number)
        assert ears.hear() == [word]
    os.kill(supervisor, signal.SIGTTOU)  # has no handler, and harms nothing
    os.kill(supervisor, signal.SIGUSR1)
    assert ears.hear() == ["one"]


def test_a_slow_hook_delays_nobody_and_never_overlaps_itself(run: Run, ears: Ears, hako: Hako) -> None:
    supervisor = run(
        """
@config.add_timer_hook(every=0.01)
def slow(base):
    tell("slow begins")
    time.sleep(1.5)
    tell("slow ends")
@config.add_signal_handler("USR1")
def quick(base): tell("quick")
"""
    )
    assert ears.hear() == ["slow begins"]
    os.kill(supervisor, signal.SIGUSR1)
    assert ears.hear(3) == ["quick", "slow ends", "slow begins"]
    assert "timer hook: was busy, and has missed " in log(hako)


@pytest.mark.parametrize(
    "line",
    [
        "1 / 0",
        "sys.exit(3)",
        "print('x' * 1_000_000)",
        "threading.Thread(target=time.sleep, args=(1000,)).start()",
        "time.sleep(1000)",
        "while True: pass",
        "os.fork()",
    ],
)
def test_a_hook_that_misbehaves_harms_nobody(run: Run, ears: Ears, hako: Hako, line: str) -> None:
    supervisor = run(
        f"""
@config.add_async_hook()
def bad(base):
    tell("bad")
    {line}
@config.add_signal_handler("USR1")
def good(base): tell("good")
"""
    )
    assert ears.hear() == ["bad"]
    os.kill(supervisor, signal.SIGUSR1)
    assert ears.hear() == ["good"]
    hako("kill", "-n", "box")
    if line in ("1 / 0", "sys.exit(3)"):
        assert "box.haco.py:12: async hook: " in log(hako)
        assert "in bad" in log(hako)


def test_a_stopped_supervisor_passes_over_what_it_has_missed(run: Run, ears: Ears) -> None:
    supervisor = run("@config.add_timer_hook(every=0.02)\ndef f(base): tell(repr(time.monotonic()))")
    ears.hear(2)
    os.kill(supervisor, signal.SIGSTOP)
    ears_closed_until = time.monotonic() + 0.3
    while time.monotonic() < ears_closed_until:
        pass
    os.kill(supervisor, signal.SIGCONT)
    moments = [float(word) for word in ears.hear(6)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert sum(gap < 0.005 for gap in gaps) <= 2, "missed ticks were made up for"
