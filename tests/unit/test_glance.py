"""What a glance tells of a container that is to be ended, or a copy of one that is attached to, is what its state says; else nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hakoniwa.haco.loader import load
from hakoniwa.kernel.processes.pidfd import boot_id, start_time
from hakoniwa.known import SCHEMA, copied, glance, joining, state
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


def test_what_an_earlier_version_has_written(written: Callable[..., State], places: Path) -> None:
    """It is passed over if it is of another file, and else has to be read."""
    found = written()
    other = written(name="other")
    path = places / "run" / "other" / "state.json"
    earlier = path.read_bytes().replace(b'"schema": %d' % SCHEMA, b'"schema": 3')
    path.write_bytes(earlier)
    assert glance.name_of_file(found.file) == "box"
    assert glance.name_of_file(other.file) is None
    for content in (earlier.replace(other.file.encode(), found.file.encode()), earlier.replace(b'"file"', b'"f"', 1)):
        path.write_bytes(content)
        assert glance.name_of_file(found.file) is None


# Copies of what a state says, for who runs a further process.

HELD = """
config.environ["A"] = DECEPTIVE
config.uid, config.gid, config.groups = "root", 5, [6, "seven"]
config.resource.set_limit("nofile", 100, 200)
config.resource.nice = 5
config.command.set_stdout(file="/log")
with config.seccomp.filter() as rule:
    rule.errno("mkdir", 13)
""".replace("DECEPTIVE", repr(DECEPTIVE))


class _Finder:
    """What stands for the bundle, which tests are not run from."""

    stamp, changed = bytes(range(20)), False


@pytest.fixture
def finder(places: Path, monkeypatch: pytest.MonkeyPatch) -> _Finder:
    monkeypatch.setenv("HAKONIWA_CACHE_DIR", str(places / "cache"))
    found = _Finder()
    monkeypatch.setattr(joining, "finder_of_bundle", lambda: found)
    return found


@pytest.mark.parametrize("body", ["", HELD])
def test_a_copy_says_what_the_state_says(written: Callable[..., State], finder: _Finder, body: str) -> None:
    found = written(
        body,
        cgroups=("/sys/fs/cgroup/a",),
        assigned_cgroup="/sys/fs/cgroup/b",
        filters=("/f",),
        capabilities=1 << 40,
        devpts=3,
    )
    assert joining.take("box") is joining.take_of_file(found.file) is None
    joining.keep("box")
    target = joining.take("box")
    assert target == joining.take_of_file(found.file) == joining.Target.of(found)
    assert target is not None
    assert target.cgroups == ("/sys/fs/cgroup/a", "/sys/fs/cgroup/b")
    assert (target.init.pid, target.supervisor.pid) == (1, os.getpid())
    assert target.process.command is None  # which its program alone was given, and so were its streams
    assert not target.process.streams


def test_a_copy_is_taken_only_for_the_same_state(
    written: Callable[..., State], finder: _Finder, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = written()
    joining.keep("box")
    for change in ({"status": "stopped"}, {"status": "created"}, {"devpts": 1}, {"supervisor_pid": 1}):
        state.write("box", found.replace(**change))
        assert joining.take("box") is None
        state.write("box", found)
        assert joining.take("box") is not None
    finder.stamp = bytes(20)
    assert joining.take("box") is None
    finder.stamp = _Finder.stamp
    assert joining.take("box") is not None
    finder.changed = True
    assert joining.take("box") is None
    finder.changed = False
    assert joining.take("box") is not None
    monkeypatch.setattr(joining, "finder_of_bundle", lambda: None)
    assert joining.take("box") is None


def test_a_copy_of_another_container(written: Callable[..., State], finder: _Finder) -> None:
    written(), written(name="two", devpts=2)
    joining.keep("box")
    joining.keep("two")
    os.replace(copied.place_of("joining two"), copied.place_of("joining box"))
    assert joining.take("box") is None


@pytest.mark.parametrize("changes", [{"status": "stopped"}, {"status": "created"}, {"supervisor_started": 1}])
def test_what_no_copy_is_taken_of(written: Callable[..., State], finder: _Finder, changes: dict[str, Any]) -> None:
    written(**changes)
    joining.keep("box")
    assert joining.take("box") is None
    joining.keep("none")
    joining.keep("../box")


def test_nothing_is_kept_of_a_damaged_state(written: Callable[..., State], finder: _Finder, places: Path) -> None:
    written()
    path = places / "run" / "box" / "state.json"
    for content in (b"", path.read_bytes()[:-1], b"{}", b"\xff"):
        path.write_bytes(content)
        joining.keep("box")
        assert not Path(copied.place_of("joining box")).exists()
