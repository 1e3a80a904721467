"""Who ends a container waits until its supervisor has undone everything, and not for the rest of that process."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hakoniwa.kernel.processes import signals
from hakoniwa.kernel.processes.pidfd import identify
from hakoniwa.known import OVER
from hakoniwa.known.glance import Running
from hakoniwa.places import folder_of
from hakoniwa.run import end

# Stands for a supervisor: it opens the FIFO as one does, says so, and at the next line writes to it or not; the line after ends it.
SUPERVISOR = 'exec 3<>"$0"; echo; read line; [ -z "$line" ] || printf . >&3; echo; read line'

Process = subprocess.Popen[bytes]


@pytest.fixture
def fifo(places: Path) -> Path:
    """What the supervisor of a container writes to."""
    folder = Path(folder_of("box"))
    folder.mkdir(mode=0o700, parents=True)
    os.mkfifo(folder / OVER)
    return folder / OVER


@pytest.fixture
def begin() -> Iterator[Callable[..., Process]]:
    """Begin a process, which ends with the test."""
    begun: list[Process] = []

    def begin(*command: str) -> Process:
        begun.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


@pytest.fixture
def supervisor(begin: Callable[..., Process], fifo: Path) -> Process:
    """One that has the FIFO open."""
    process = begin("/bin/sh", "-c", SUPERVISOR, str(fifo))
    say(process)
    return process


def say(process: Process, line: str | None = None) -> None:
    """Say a line, if it is one, and hear the next one."""
    assert process.stdin
    assert process.stdout
    if line is not None:
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
    assert process.stdout.readline() == b"\n"


def running(init: Process, supervisor: Process) -> Running:
    """What is known of the container."""
    return Running(
        name="box",
        barn="box",
        init=identify(init.pid),
        supervisor=identify(supervisor.pid),
        barn_process=None,
        cgroups=(),
        background=True,
    )


def test_it_waits_until_everything_is_undone(
    begin: Callable[..., Process], supervisor: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(end, "_CLEANING", 0.01)
    found = running(begin("/bin/sleep", "1000"), supervisor)
    (failure,) = end.end([found], end.Ending(signal=signals.SIGKILL))
    assert "the supervisor has not ended yet" in str(failure)


def test_it_does_not_wait_for_the_rest_of_the_supervisor(begin: Callable[..., Process], supervisor: Process) -> None:
    found = running(begin("/bin/sleep", "1000"), supervisor)
    say(supervisor, "over")
    assert end.end([found], end.Ending(signal=signals.SIGKILL)) == []
    assert supervisor.poll() is None


def test_several_may_wait(begin: Callable[..., Process], supervisor: Process) -> None:
    found = running(begin("/bin/sleep", "1000"), supervisor)
    with ThreadPoolExecutor() as pool:
        ends = [pool.submit(end.end, [found], end.Ending(signal=signals.SIGKILL)) for _ in range(4)]
        say(supervisor, "over")
        supervisor.kill()
        assert [done.result() for done in ends] == [[]] * 4


def test_a_supervisor_that_is_killed_has_ended_before(begin: Callable[..., Process], supervisor: Process) -> None:
    """It has let go of the FIFO a moment before: what reads its state then would take it for one that lives."""
    found = running(begin("/bin/sleep", "1000"), supervisor)
    with ThreadPoolExecutor() as pool:
        done = pool.submit(end.end, [found], end.Ending(signal=signals.SIGKILL))
        supervisor.kill()
        assert done.result() == []
    assert not found.supervisor.lives()


def test_one_without_a_fifo_is_waited_for(begin: Callable[..., Process], supervisor: Process, fifo: Path) -> None:
    fifo.unlink()
    found = running(begin("/bin/sleep", "1000"), supervisor)
    supervisor.kill()
    assert end.end([found], end.Ending(signal=signals.SIGKILL)) == []
    assert not found.supervisor.lives()
