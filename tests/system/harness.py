"""Runs `hako start` with one place at which something is to go wrong: tests have it go wrong there.

harness.py child N WORDS...        the first process stops before step N, tells through descriptor 100, and goes on
                                   when descriptor 101 lets it
harness.py supervisor NAME WORDS   the supervisor kills itself where it would call its method NAME
harness.py made MODULE.NAME WORDS  the supervisor kills itself where it would call a function of run/start/MODULE.py
harness.py network MODULE.ROOM.NAME WORDS   the same for a function of a module that one of those uses, once it is done
harness.py front NAME WORDS        the supervisor kills its parent before it calls its method NAME
harness.py starter NAME WORDS      who starts a container is killed in the place, or at the end, of a call of its own
harness.py patience SECONDS WORDS  a reload waits so long for its file
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from hakoniwa import cli
from hakoniwa.kernel.processes import process
from hakoniwa.run import supervisor
from hakoniwa.run.process import report
from hakoniwa.run.reload import loader as loading
from hakoniwa.run.start import starter
from hakoniwa.steps import step as steps
from hakoniwa.steps.step import Context, Step

TOLD, LET = 100, 101

kind, place, *words = sys.argv[1:]


def stop_at_step(number: int) -> None:
    """Have the first process wait before its step `number`."""
    count = 0
    original, close = steps._guarded, process.close_all_but

    def guarded(step: Step, action: Callable[[Context], None], context: Context) -> None:
        nonlocal count
        if action.__name__ == "apply":
            if count == number:
                os.write(TOLD, b"x")
                os.read(LET, 1)
            count += 1
        original(step, action, context)

    steps._guarded = guarded
    process.close_all_but = lambda keep: close({*keep, TOLD, LET})


def die_at_method(name: str) -> None:
    """Have the supervisor kill itself instead of calling a method."""
    assert hasattr(supervisor.Supervisor, name)
    setattr(supervisor.Supervisor, name, lambda *_arguments, **_options: os.kill(os.getpid(), 9))


def die_at_function(path: str) -> None:
    """Have the supervisor kill itself instead of calling a function that a module of a start knows by this name."""
    module, name = path.split(".")
    owner = importlib.import_module(f"hakoniwa.run.start.{module}")
    assert hasattr(owner, name)
    setattr(owner, name, lambda *_arguments, **_options: os.kill(os.getpid(), 9))


def die_after_function(path: str) -> None:
    """Have the supervisor kill itself once it has called a function of a module that a module of a start uses."""
    module, room, name = path.split(".")
    owner = getattr(importlib.import_module(f"hakoniwa.run.start.{module}"), room)
    original = getattr(owner, name)

    def call(*arguments: object, **options: object) -> None:
        original(*arguments, **options)
        os.kill(os.getpid(), 9)

    setattr(owner, name, call)


def kill_the_front_at_method(name: str) -> None:
    """Have the supervisor kill its parent, and go on once there is no such process any more."""
    original = getattr(supervisor.Supervisor, name)

    def go_on_alone(*arguments: object, **options: object) -> object:
        front = os.getppid()
        os.kill(front, 9)
        while os.path.exists(f"/proc/{front}"):
            os.sched_yield()
        return original(*arguments, **options)

    setattr(supervisor.Supervisor, name, go_on_alone)


def kill_the_starter(name: str) -> None:
    """Have it kill itself in the place of the function that it waits by, or once it has cloned the first process."""

    def die(*_arguments: object) -> None:
        os.kill(os.getpid(), 9)

    if name == "read_to_end":
        setattr(report, name, die)
        return

    def go(self: starter.Starter, supervisor: int, _writer: int) -> None:
        self.first.clone(parent=supervisor)
        die()

    starter.Starter._go = go  # type: ignore[assignment,method-assign]


if kind == "child":
    stop_at_step(int(place))
elif kind == "made":
    die_at_function(place)
elif kind == "network":
    die_after_function(place)
elif kind == "starter":
    kill_the_starter(place)
elif kind == "front":
    kill_the_front_at_method(place)
elif kind == "patience":
    loading.LONGEST = float(place)
else:
    die_at_method(place)
sys.argv[1:] = words
cli.main()
