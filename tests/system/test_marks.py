"""What is known of a rootfs and cannot be read: it is told, it passes for nothing else, and it stops no work on others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import LONGEST, Hako
from tests.system.test_kills import DYING, PLAIN, STACK, mark, set_mark
from tests.system.test_rootfs import await_line

Writer = Callable[..., Path]

DAMAGES = ["", "{", "[]", '{"schema": 1}', "null"]


def mark_of(places: Path, name: str) -> Path:
    (found,) = (places / "lib" / ".boxes").glob(f"*%2F{name}@*.json")
    return found


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_mark(hako: Hako, write_file: Writer, places: Path, damage: str) -> None:
    path, other = write_file(STACK), write_file(STACK, "other")
    for file in (path, other):
        hako("create", file)
    set_mark(hako, other, "one")
    hako("snapshot", other, "one")
    place = mark_of(places, "box")
    place.write_text(damage)
    # A rootfs on layers does not pass for a plain folder.
    for command in (("start",), ("snapshot",), ("provision",), ("archive", "-d", "out.tar"), ("create",)):
        words = [*command, path, "one"] if command[0] == "snapshot" else [*command, path]
        assert f"what is known of the rootfs {places}/lib/box is damaged: {place}" in hako(*words, status=125).stderr
    # The others are none the worse.
    hako("rollback", other, "one")
    assert mark(hako, other) == "one"
    hako("cache", "ls")
    assert "snapshots are kept" not in hako("cache", "prune").stderr
    told = hako("gc", status=125).stderr
    assert f"mark {place}: it cannot be read" in told
    hako("snapshot", "--delete", other, "one")
    hako("rm", "--rootfs", other)
    assert mark_of(places, "box") == place
    hako("create", "--rebuild", path)
    assert hako("gc").stdout.startswith(("unfinished snapshot", "nothing"))
    hako("start", path, "--", "sh", "-c", ":")


def test_removing_what_has_a_damaged_mark(hako: Hako, write_file: Writer, places: Path) -> None:
    path = write_file(STACK)
    hako("create", path)
    mark_of(places, "box").write_text("")
    assert "is damaged" in hako("rm", "--rootfs", path).stderr
    assert not (places / "lib" / "box").exists()
    assert os.listdir(places / "lib" / ".boxes") == []


def test_a_damaged_mark_of_what_has_gone(hako: Hako, write_file: Writer, places: Path) -> None:
    hako("create", write_file(PLAIN))
    place = mark_of(places, "box")
    place.write_text("")
    (places / "lib" / "box").rename(places / "lib" / "moved")
    assert hako("gc").stdout == f"mark {place}\n"
    assert not place.exists()


def test_a_clone_of_which_the_mark_is_damaged_keeps_its_layers(hako: Hako, write_file: Writer, places: Path) -> None:
    path, other = write_file(STACK), write_file(STACK, "other")
    hako("create", path)
    set_mark(hako, path, "one")
    hako("clone", path, other)
    place = mark_of(places, "other")
    content = place.read_text()
    place.write_text("")
    assert "snapshots are kept, since marks of rootfs cannot be read" in hako("rm", "--rootfs", path).stderr
    hako("cache", "prune")
    hako("gc", status=125)
    place.write_text(content)
    hako("create", "--rebuild", path)  # the layer that can be built again
    assert mark(hako, other) == "one"


def test_what_a_layer_says_of_itself_is_printed_escaped(hako: Hako, write_file: Writer, places: Path) -> None:
    path = write_file(STACK)
    hako("create", path)
    (layer,) = (places / "lib" / ".layers").iterdir()
    facts = json.loads((layer / "layer.json").read_text())
    (layer / "layer.json").write_text(json.dumps({**facts, "what": "\x1b]0;evil\x07\u202e"}))
    hako("rm", "--rootfs", path)
    for words in (("cache", "ls"), ("cache", "prune", "--dry-run"), ("cache", "prune")):
        printed = hako(*words).stdout
        assert r"\x1b]0;evil\x07\u202e" in printed
        assert "\x1b" not in printed


def stopped(hako: Hako, places: Path, call: str, *words: str | Path) -> tuple[subprocess.Popen[bytes], Path]:
    """Run a command that waits after its first call of a name, and wait until it does so."""
    fifo = places / "fifo"
    os.mkfifo(fifo)
    argv = [sys.executable, "-I", DYING, "stop", call, str(fifo), *map(str, words)]
    process = subprocess.Popen(argv, cwd=hako.folder, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    os.close(os.open(fifo, os.O_RDONLY))
    return process, fifo


def let_go(process: subprocess.Popen[bytes], fifo: Path) -> tuple[int, str]:
    os.close(os.open(fifo, os.O_WRONLY))
    fifo.unlink()
    told = process.communicate(timeout=LONGEST)[1].decode()
    return process.returncode, told


def records(places: Path) -> list[str]:
    return sorted(os.listdir(places / "lib" / ".containers"))


@pytest.mark.parametrize("kind", [STACK, PLAIN], ids=["layers", "plain"])
@pytest.mark.parametrize("command", ["create", "clone"])
def test_rm_stopped_beside_create(hako: Hako, write_file: Writer, places: Path, kind: str, command: str) -> None:
    """Once a rootfs is out of its place, another may be made there; what is removed then is not the record of that."""
    source, path = write_file(kind, "source"), write_file(kind)
    hako("create", source)
    hako("create", path)
    words = ("clone", source, path) if command == "clone" else ("create", path)
    process, fifo = stopped(hako, places, "rename", "rm", "--rootfs", path)
    told = hako(*words, status=125).stderr
    assert f"the rootfs {places}/lib/box is in use" in told
    assert let_go(process, fifo) == (0, "")
    hako(*words)
    assert "box.json" in records(places)
    # After that moment it is being removed aside.
    process, fifo = stopped(hako, places, "rmdir", "rm", "--rootfs", path)
    hako(*words)
    assert let_go(process, fifo) == (0, "")
    assert "box.json" in records(places)
    hako("start", path, "--", "sh", "-c", ":")
    hako("rm", "--rootfs", path)
    assert records(places) == ["source.json"]


def test_rm_beside_a_build(hako: Hako, write_file: Writer, places: Path) -> None:
    """What is being built is not taken away from under it."""
    body = 'config.bootstrap.strategy = "shell"\nconfig.bootstrap.code = '
    code = f"mkdir $ROOTFS/bin; cp /bin/busybox $ROOTFS/bin/sh; echo here; read x < {places}/go"
    path = write_file(body + repr(code))
    hako("create", write_file(PLAIN))  # so that it has a record
    hako("rm", write_file(PLAIN))
    (places / "lib" / "box").rename(places / "lib" / "before")
    write_file(body + repr(code))
    os.mkfifo(places / "go")
    build = hako.background("create", path)
    await_line(build, b"bootstrap code: here")
    assert "is in use" in hako("rm", "--rootfs", path, status=125).stderr
    with open(places / "go", "w") as go:
        go.write("x\n")
    build.communicate(timeout=LONGEST)
    assert build.returncode == 0
    assert records(places) == ["box.json"]
    hako("rm", "--rootfs", path)
    assert records(places) == []
