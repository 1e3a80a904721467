"""Which containers a command line means, where the file is not executed."""

from __future__ import annotations

import os

from hakoniwa import state
from hakoniwa.errors import HakoError
from hakoniwa.options import Given, Option, usage_error
from hakoniwa.statefile import Made, State

PID = Option(
    flags=("-t", "--target"),
    value="PID",
    help="the container by the host's pid of its first process, or of its supervisor",
)


def selected(given: Given) -> list[State | Made]:
    """The known containers of FILE, of `-n NAME`, or of `-t PID`. Raises HakoError where there is none."""
    if target := given.value("target"):
        return [_by_pid(target)]
    states = state.select(given.file, given.value("name"))
    if given.file is not None and given.value("name") is not None:
        states = [found for found in states if found.file == os.path.realpath(given.file)]
        if not states:
            raise HakoError(f"no container {given.value('name')!r} of this file is known", where=given.file)
    return states


def alive(given: Given) -> list[State]:
    """Those of them that run."""
    return [found for found in selected(given) if found.status == "running"]


def _by_pid(text: str) -> State:
    if not text.isdecimal():
        raise usage_error(f"a pid must be a number, not {text!r}", "-t")
    for found in state.every(recorded=False):
        if found.status == "running" and int(text) in (found.init.pid, found.supervisor.pid):
            return found
    raise HakoError(f"no container has a first process or supervisor {text}", hint="hako ps shows their pids")
