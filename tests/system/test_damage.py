"""Files of ours that cannot be read: each is told by its name, keeps no other container from being used, and is cleared."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hakoniwa.known import SCHEMA
from tests.conftest import Hako

Writer = Callable[..., Path]
Damage = Callable[[str], str | bytes]

SLEEP = ("--", "sleep", "1000")


def changed(**changes: Any) -> Damage:
    """The same file with some values changed (None: taken out)."""

    def damage(text: str) -> str:
        state = json.loads(text)
        for name, value in changes.items():
            *way, last = name.split("__")
            place = state
            for step in way:
                place = place[step]
            if value is None:
                del place[last]
            else:
                place[last] = value
        return json.dumps(state)

    return damage


DAMAGES: dict[str, Damage] = {
    "empty": lambda text: "",
    "cut off": lambda text: text[: len(text) // 10],
    "cut off in a string": lambda text: '{"schema": 1, "na',
    "no UTF-8": lambda text: b"\xff\xfe",
    "a list": lambda text: "[]",
    "nested deeply": lambda text: "[" * 100_000,
    "nested deeply inside": changed(metadata={"a": json.loads("[" * 300 + "]" * 300)}),
    "without a schema": changed(schema=None),
    "without a definition": changed(definition=None),
    "without metadata": changed(metadata=None),
    "without a status": changed(status=None),
    "without a boot": changed(boot_id=None),
    "without a first process": changed(pid=None),
    "without a pid": changed(supervisor_pid=None),
    "a pid that is none": changed(supervisor_pid=2**63, status="running"),
    "a pid that is a text": changed(supervisor_pid="1", status="running"),
    "a status that is none": changed(status="\x1b[31mfine"),
    "a field that is none": changed(surprise=1),
    "another's name": changed(name="sound"),
    "a file that is none": changed(file=3),
}


def in_head(damage: Damage) -> Damage:
    """Damage of the first line alone."""

    def damage_line(text: str) -> str:
        line, end, rest = text.partition(",\n")
        assert end
        damaged = damage(line + "}")
        assert isinstance(damaged, str)
        return damaged.removesuffix("}") + end + rest

    return damage_line


DAMAGES |= {
    f"{name} in the first line": in_head(DAMAGES[name])
    for name in (
        *("cut off", "nested deeply inside", "without metadata", "without a status", "without a boot"),
        *("without a first process", "without a pid", "a pid that is none", "a pid that is a text"),
        *("a status that is none", "a field that is none", "another's name", "a file that is none"),
    )
}


def listed(hako: Hako, *words: str) -> list[str]:
    return [container["name"] for container in json.loads(hako("ps", "--json", *words).stdout)["containers"]]


@pytest.fixture
def sound(hako: Hako, box: Writer) -> Iterator[Path]:
    """A container that runs beside the damaged one."""
    path = box(name="sound")
    hako("start", "-D", path, *SLEEP)
    yield path
    hako("kill", "-n", "sound", status=None)


def spoil(file: Path, damage: Damage) -> None:
    content = damage(file.read_text())
    file.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_state_is_told_skipped_and_cleared(
    hako: Hako, box: Writer, sound: Path, places: Path, damage: Damage
) -> None:
    hako("start", box(), "--", "true")
    file = places / "run" / "box" / "state.json"
    spoil(file, damage)
    for words in (["ps"], ["ps", "-a"], ["ps", "-a", "--json"]):
        told = hako(*words)
        assert "box" not in told.stdout
        assert "cannot be read" in told.stderr
        assert "\x1b" not in told.stderr
    told = hako("attach", "-n", "sound", "--", "true")
    assert told.stderr == "", "one that is named is not looked for among the others"
    for command in ("status", "attach"):
        assert "box" not in hako(command, sound, *(["--", "true"] if command == "attach" else [])).stdout
    assert f"box: what is known of it cannot be read: {file}: " in hako("ps").stderr
    for command in ("status", "kill", "rm", "inspect"):
        assert "hako gc clears it" in hako(command, "-n", "box", status=125).stderr
    hako("kill", sound)
    hako("rm", sound)
    told = hako("gc")
    assert "box: a state that could not be read: " in told.stdout
    assert not file.parent.exists()
    assert hako("gc").stdout == "nothing was left\n"
    assert hako("ps", "-a").stderr == ""


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "".join(text.partition("\n")[:2]),
        lambda text: text[:-1],
        lambda text: text.replace('"filters": ', '"filter": '),
        lambda text: text.replace('"user_namespace": false', '"user_namespace": 0'),
    ],
    ids=["nothing follows", "cut off at the end", "a field that is none", "another kind"],
)
def test_damage_after_the_first_line_is_told_by_what_reads_it(
    hako: Hako, box: Writer, places: Path, damage: Damage
) -> None:
    path = box()
    hako("start", path, "--", "true")
    file = places / "run" / "box" / "state.json"
    spoil(file, damage)
    shown = hako("ps", "-a")
    assert "stopped (0)" in shown.stdout
    assert shown.stderr == ""
    assert hako("status", path).stderr == ""
    for command in ("status", "kill", "rm", "inspect"):
        assert "hako gc clears it" in hako(command, "-n", "box", status=125).stderr
    assert "cannot be read" in hako("kill", path).stderr
    assert "box: a state that could not be read: " in hako("gc").stdout
    assert not file.parent.exists()


@pytest.mark.parametrize("name", ["cut off", "without a boot", "another's name", "a pid that is a text"])
def test_a_container_starts_over_a_damaged_state(hako: Hako, box: Writer, places: Path, name: str) -> None:
    path = box()
    hako("start", path, "--", "true")
    spoil(places / "run" / "box" / "state.json", DAMAGES[name])
    assert hako("start", path, "--", "echo", "again").stdout == "again\n"
    assert listed(hako, "-a") == ["box"]


def test_who_has_a_damaged_state_and_runs_is_told_with_its_supervisor(
    hako: Hako, box: Writer, sound: Path, places: Path
) -> None:
    path = box()
    hako("start", "-D", path, *SLEEP)
    (supervisor,) = (
        c["supervisor_pid"] for c in json.loads(hako("ps", "--json").stdout)["containers"] if c["name"] == "box"
    )
    spoil(places / "run" / "box" / "state.json", changed(boot_id=None))
    assert listed(hako) == ["sound"]
    told = hako("kill", "-n", "box", status=125).stderr
    assert f"its supervisor lives: kill {supervisor} ends it" in told
    assert "box" not in hako("gc").stdout, "nothing of a container that runs is cleared"
    ending = os.pidfd_open(supervisor)
    os.kill(supervisor, signal.SIGTERM)
    hako("kill", "-n", "sound")
    from hakoniwa.kernel.processes.pidfd import wait_end

    assert wait_end(ending, 20)
    os.close(ending)
    assert listed(hako, "-a") == ["box", "sound"], "at its end it was written down anew"


def test_what_a_killed_supervisor_has_left_is_cleared_as_far_as_it_can_be_told(
    hako: Hako, box: Writer, places: Path
) -> None:
    path = box('config.namespace.share("pid")\nconfig.container_pid_file = "box.pid"', mounts="devtmpfs")
    hako("start", "-D", path, "--", "sh", "-c", "setsid sleep 1000 & sleep 1000")
    (known,) = json.loads(hako("ps", "--json").stdout)["containers"]
    os.kill(known["supervisor_pid"], 9)
    spoil(places / "run" / "box" / "state.json", changed(boot_id=None))
    told = hako("gc").stdout
    assert "box: cgroup /sys/fs/cgroup" in told
    assert not (places / "box.pid").exists()


def test_a_state_of_a_later_version_is_left_alone(hako: Hako, box: Writer, sound: Path, places: Path) -> None:
    path = box()
    hako("start", path, "--", "true")
    file = places / "run" / "box" / "state.json"
    spoil(file, changed(schema=SCHEMA + 1, surprise=[]))
    assert f"it is of schema {SCHEMA + 1}, which a later version of hakoniwa has written" in hako("ps").stderr
    hako("gc", status=None)
    assert file.exists()
    assert "later version" in hako("start", path, "--", "true", status=125).stderr
    hako("rm", "-n", "sound", status=None)


def test_a_state_of_an_earlier_version_is_used(hako: Hako, box: Writer, places: Path) -> None:
    path = box()
    hako("start", "-D", path, *SLEEP)
    missing = dict.fromkeys(("barn_process", "command", "assigned_cgroup", "persisted", "devpts", "error", "exit"))
    spoil(places / "run" / "box" / "state.json", changed(**missing))
    assert hako("attach", path, "--", "hostname").stdout == "box\n"
    assert "nothing" not in hako("kill", path).stderr
    assert hako("ps", "-a").stderr == ""


@pytest.mark.parametrize("damage", ["cut off", "without a definition", "a field that is none", "a list"])
def test_a_damaged_record_of_what_was_created(hako: Hako, write_file: Writer, places: Path, damage: str) -> None:
    body = 'config.bootstrap.strategy = "recipe"\nconfig.bootstrap.recipe = "busybox"\nconfig.name = "{}"'
    one, two = (write_file(body.format(name), name) for name in ("one", "two"))
    hako("create", one)
    hako("create", two)
    spoil(places / "lib" / ".containers" / "one.json", DAMAGES[damage])
    told = hako("ps", "-a", "--json")
    assert [container["name"] for container in json.loads(told.stdout)["containers"]] == ["two"]
    assert "one: what is known of it cannot be read: " in told.stderr
    assert hako("start", one, "--", "echo", "fine").stdout == "fine\n", "the rootfs is not the record"
    hako("rm", "--rootfs", two)
    assert "one: a record that could not be read: " in hako("gc").stdout
    assert not (places / "lib" / ".containers" / "one.json").exists()


def test_what_is_no_container_at_all(hako: Hako, sound: Path, places: Path) -> None:
    run = places / "run"
    (run / "file").write_text("x")
    (run / "link").symlink_to("sound")
    (run / "unremovable").mkdir(mode=0o700)
    (run / "unremovable" / "state.json").mkdir()
    (run / "pipe").mkdir(mode=0o700)
    os.mkfifo(run / "pipe" / "state.json")
    assert listed(hako, "-a") == ["sound"]
    hako("kill", sound)
    hako("gc", status=None)
    assert not (run / "pipe").exists()
