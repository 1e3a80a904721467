"""What is written down of containers, and read again."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hakoniwa
from hakoniwa import record, recordreader
from hakoniwa.errors import Problems
from hakoniwa.haco.loader import load
from hakoniwa.known import SCHEMA, glance, listing, state, statefile
from hakoniwa.known.earlier import bring_up
from hakoniwa.record import Unreadable

Writer = Callable[..., Path]

WRITTEN = Path(__file__).with_name("state-1.json")  # by the first version whose states have records for a shape


def test_what_an_earlier_version_has_written_can_be_read() -> None:
    value = json.loads(WRITTEN.read_text())
    schema = value.pop("schema")
    bring_up(value, schema)
    found = recordreader.read(statefile.State, value)
    assert found.definition.resources.limits[0].soft == 100
    assert found.definition.security.seccomp.filters[0].rules[0].calls == ("mkdir",)
    assert found.definition.whole["hostname"] == "box"


def test_lists_find_what_they_show_of_a_network_in_the_first_line_of_a_state() -> None:
    value = json.loads(WRITTEN.read_text())
    bring_up(value, value.pop("schema"))
    # As the last version without that has written it.
    value["network"] = {"interfaces": [{"name": "eth0", "address": "10.0.0.2/24", "mtu": 0}], "namespace": "shop"}
    value["definition"]["network"] = {
        "policy": {"default": "list", "allowed": [{"network": "10.0.0.1/32", "port": 53}]}
    }
    bring_up(value, 5)
    head = recordreader.read(statefile.State, value)
    assert head.network_shown == {
        "interfaces": [{"name": "eth0", "address": "10.0.0.2/24", "nat": True}],
        "published": [],
        "namespace": "shop",
        "policy": "10.0.0.1:53",
    }
    assert b'"address": "10.0.0.2/24"' in (glance.head_of(statefile.written(head)) or b"")


def test_many_heads_are_read_as_each_by_itself() -> None:
    def head(**changes: Any) -> dict[str, Any]:
        sound = dict.fromkeys(("file", "name", "barn", "rootfs", "created_at", "boot_id", "log"), "")
        return {**sound, "status": "running", "metadata": {}, "boot_id": "b", "pid": 7, "supervisor_pid": 8} | changes

    sound = [head(), head(metadata={"a": [1]}, log=None, status="stopped", exit=None)]
    with pytest.raises(Unreadable, match="are not alike"):
        recordreader.read_alike(statefile.Head, [dict(one) for one in sound])
    sound = [head(exit=None), head(metadata={"a": [1]}, log=None, status="stopped", exit={"code": 1, "signal": None})]
    read = recordreader.read_alike(statefile.Head, [dict(one) for one in sound])
    assert read == [recordreader.read(statefile.Head, one) for one in sound]
    odd: list[Any] = [None, 1.5, [], {"a": {}}]
    wrong: list[Any] = [
        *(head(exit=None) | {name: value} for name in head() if name != "log" for value in odd),
        *(head(exit=None, surprise=1), head(), head(exit={"code": "1", "signal": None}), [], None),
        *(head(exit=None, pid=pid) for pid in (0, -1, 2**63, True)),
    ]
    for one in wrong:
        try:
            recordreader.read(statefile.Head, one)
        except Unreadable:
            for others in ([], [head(exit=None)]):
                with pytest.raises(Unreadable):
                    recordreader.read_alike(statefile.Head, [*map(dict, others), one])


def test_a_record_is_written_whole_or_not_at_all(write_file: Writer, places: Path) -> None:
    (container,) = load(str(write_file('config.metadata["a"] = "x" * 5000')), "check").containers
    made = statefile.Made.of(container)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))  # a disk that is full after 100 bytes
    try:
        with pytest.raises(OSError, match="File too large"):
            state.write_record(made)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert os.listdir(places / "lib" / ".containers") == []
    state.write_record(made)
    assert os.listdir(places / "lib" / ".containers") == [f"{container.name}.json"]
    assert state.read_record(container.name) == made


def test_that_a_container_has_ended_is_seen_at_the_beginning_of_its_state(write_file: Writer, places: Path) -> None:
    (container,) = load(str(write_file('config.metadata["status"] = "stopped"')), "check").containers
    made = statefile.Made.of(container)
    running = statefile.State(
        status="running",
        file=made.file,
        name=made.name,
        barn=made.barn,
        rootfs=made.rootfs,
        created_at=made.created_at,
        metadata=made.metadata,
        definition=made.definition,
        boot_id="",
        pid=1,
        started=1,
        supervisor_pid=1,
        supervisor_started=1,
        capabilities=0,
        user_namespace=False,
        cgroups=(),
        filters=(),
        pid_file=None,
        log=None,
    )
    (places / "run" / container.name).mkdir(parents=True, mode=0o700)
    (places / "run").chmod(0o700)
    path = places / "run" / container.name / "state.json"
    assert not statefile.ended(str(path))
    for status, wanted in [("running", False), ("stopped", True), ("failed", True), ("dead", True)]:
        state.write(container.name, running.replace(status=status))
        assert statefile.ended(str(path)) == wanted
        assert statefile.ended(str(path), file=container.file) == wanted
        assert not statefile.ended(str(path), file=f"{container.file}x")
        assert not statefile.ended(str(path), file=container.file[:-1])
    path.write_text(path.read_text().replace(f'"schema": {SCHEMA}', f'"schema": {SCHEMA + 1}'))
    assert not statefile.ended(str(path))


def test_metadata_that_could_not_be_read_again_is_an_error(write_file: Writer) -> None:
    with pytest.raises(Problems, match=r"metadata.* nested 50 levels deep at most"):
        load(str(write_file('config.metadata["a"] = eval("[" * 60 + "]" * 60)')), "check")
    (container,) = load(str(write_file('config.metadata["a"] = eval("[" * 50 + "]" * 50)')), "check").containers
    written = json.loads(json.dumps(record.plain(statefile.Made.of(container))))
    assert recordreader.read(statefile.Made, written).metadata == container.metadata


ROTATING = """
import os, resource, sys
sys.path[:0] = {path!r}
from hakoniwa.run import output
output.LARGEST = 100
output.divert_output(output.open_log("box"))
pipe = output.LogPipe("box")

def pass_on(text):
    os.write(pipe.writer, text)
    assert pipe.pass_on()

pass_on(b"a" * 90)
resource.setrlimit(resource.RLIMIT_NOFILE, (pipe.writer + 1, 4096))
pass_on(b"b" * 90)
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
pass_on(b"c" * 90)
pass_on(b"d" * 90)
"""


def test_a_log_is_rotated_once_there_is_a_descriptor_for_it(places: Path) -> None:
    code = ROTATING.format(path=[str(Path(hakoniwa.__file__).parent.parent)])
    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=30)
    log = places / "log"
    assert (log / "box.log").read_text() == "d" * 90
    assert (log / "box.log.1").read_text() == "c" * 90


def test_only_what_says_so_is_read(write_file: Writer, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (container,) = load(str(write_file()), "check").containers
    made = statefile.Made.of(container)
    for name in ("one", "two", "three"):
        state.write_record(made.replace(name=name, file=f"/srv/é/{name}.haco.py"))
    earlier = places / "lib" / ".containers" / "three.json"
    earlier.write_text(json.dumps({"schema": 1, "file": "/srv/é/three.haco.py"}))
    read: list[str] = []
    original = state.read_record

    def note(name: str) -> statefile.Made | None:
        read.append(name)
        return original(name)

    monkeypatch.setattr(state, "read_record", note)
    found = listing.every(saying=statefile.said(file="/srv/é/two.haco.py"), tell=False)
    assert [known.name for known in found] == ["two"]
    assert read == ["three", "two"], "what an earlier version has written is read in any case"


def test_what_was_called_created_is_built_today(write_file: Writer, places: Path) -> None:
    (container,) = load(str(write_file("")), "check").containers
    state.write_record(statefile.Made.of(container))
    path = places / "lib" / ".containers" / f"{container.name}.json"
    value = json.loads(path.read_text())
    assert value["status"] == "built"
    path.write_text(json.dumps({**value, "schema": 2, "status": "created"}))
    found = state.read_record(container.name)
    assert found is not None
    assert found.status == "built"
