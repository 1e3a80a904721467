"""What a glance tells of a container that is to be ended is what its state says; else it tells nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hakoniwa.haco.loader import load
from hakoniwa.kernel.processes.pidfd import boot_id, start_time
from hakoniwa.known import SCHEMA, glance, state
from hakoniwa.known.statefile import Made, ProcessRecord, State
from hakoniwa.record import plain
from hakoniwa.run import end

Writer = Callable[..., Path]

# What a file may name as it likes.
DECEPTIVE = (
    ', "boot_id": "x", "pid": 1, "started": 1, "lock": , "cgroups": [], "log": null, "name": "a", "barn": "b",\\n'
)
METADATA = f"""
config.metadata["boot_id"] = "x"
config.metadata["pid"] = 1
config.metadata["supervisor_pid"] = 1
config.metadata["started"] = {{"pid": 1, "started": 1}}
config.metadata["text"] = {DECEPTIVE!r}
config.metadata["deep"] = {{"boot_id": "x", "barn_process": {{"pid": 1, "started": 1}}, "lock": None, "cgroups": [], "log": None}}
config.init_command = ["/bin/sh", {DECEPTIVE!r}, "back\\\\", "boot_id"]
"""


@pytest.fixture
def written(write_file: Writer, places: Path) -> Callable[..., State]:
    """Write the state of a container that runs, supervised by this process."""

    def write(body: str = "", name: str = "box", **changes: Any) -> State:
        (container,) = load(str(write_file(f'config.name = "{name}"\n{body}', name)), "check").containers
        own = ProcessRecord(pid=os.getpid(), started=start_time(os.getpid()))
        made = Made.of(container)
        facts: dict[str, Any] = {
            **{
                field: getattr(made, field)
                for field in ("file", "name", "barn", "rootfs", "created_at", "metadata", "definition")
            },
            "status": "running",
            "boot_id": boot_id(),
            "pid": 1,
            "started": 5,
            "supervisor_pid": own.pid,
            "supervisor_started": own.started,
            "barn_process": own,
            "command": ("sh", DECEPTIVE, "back\\", "boot_id"),
            "capabilities": 0,
            "user_namespace": False,
            "cgroups": (),
            "filters": (),
            "pid_file": None,
            "log": None,
        }
        found = State(**(facts | changes))
        (places / "run" / name).mkdir(parents=True, mode=0o700)
        (places / "run").chmod(0o700)
        state.write(name, found)
        return found

    return write


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"log": "/var/log/hakoniwa/box.log"},
        {"cgroups": ("/sys/fs/cgroup/hakoniwa-box", "/sys/fs/cgroup/memory/hakoniwa-box")},
        {"error": DECEPTIVE, "pid_file": "/a, b"},
    ],
)
def test_it_tells_what_the_state_says(written: Callable[..., State], changes: dict[str, Any]) -> None:
    found = written(METADATA, **changes)
    wanted = end._running(state.read("box") or found)
    assert glance.running_of_name("box") == wanted == end._running(found)
    assert glance.running_of_file(found.file) == wanted
    assert glance.running_of_file(found.file[:-1]) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "created"},
        {"status": "stopped"},
        {"boot_id": "another"},
        {"supervisor_started": 1},
        {"barn_process": None},
        {"cgroups": ("/sys/fs/cgroup/back\\slash",)},
    ],
)
def test_it_tells_nothing_of_others(written: Callable[..., State], changes: dict[str, Any]) -> None:
    found = written(**changes)
    assert glance.running_of_name("box") is None
    assert glance.running_of_file(found.file) is None


def test_it_tells_nothing_of_what_cannot_be_read(written: Callable[..., State], places: Path) -> None:
    found = written()
    path = places / "run" / "box" / "state.json"
    good = path.read_bytes()
    later = good.replace(b'"schema": %d' % SCHEMA, b'"schema": %d' % (SCHEMA + 1))
    without = good.replace(b'"boot_id"', b'"boot"')
    for content in (
        b"",
        without,
        good[:-1],
        good[:200],
        later,
        good.replace(b'"pid": ', b'"pid": -'),
        json.dumps(plain(found)),
    ):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        assert glance.running_of_name("box") is None
        assert glance.running_of_file(found.file) is None
    for name in ("../box", ".", "", "none", "box/"):
        assert glance.running_of_name(name) is None


def test_it_tells_nothing_of_a_file_with_several(written: Callable[..., State], places: Path) -> None:
    one = written(name="one")
    two = written(name="two")
    assert glance.running_of_file(one.file) == end._running(one)
    state.write("two", two.replace(file=one.file))
    assert glance.running_of_file(one.file) is None
    state.write("two", two)
    (places / "run" / "three").mkdir(mode=0o700)  # has it a state, or will it have one?
    assert glance.running_of_file(one.file) is None
