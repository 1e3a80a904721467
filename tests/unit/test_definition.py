"""What was asked for, as hashes; where marks lie; and the words of commands that take more than a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hakoniwa.errors import HakoError
from hakoniwa.fastjson import read_document
from hakoniwa.haco.loader import load
from hakoniwa.known import markglance, marks
from hakoniwa.known.markglance import glance
from hakoniwa.known.marks import Mark
from hakoniwa.options import Command, Option, read
from hakoniwa.rootfs.store.layers import MOST_LAYERS
from hakoniwa.rootfs.store.registry import every_mark, is_marked, is_stale, remove_stale_marks, salvage_mark, write_mark
from hakoniwa.rootfs.tools.digests import asked, file_digest, step_digest, step_id
from hakoniwa.rootfs.tools.progress import size
from hakoniwa.spec.records import Container, Outline

Writer = Callable[..., Path]

SHELL = 'config.bootstrap.strategy = "shell"\n'
MARK: dict[str, Any] = {
    "asked": "x",
    "form": "plain",
    "layers": (),
    "steps": {},
    "provisioning": None,
    "snapshots": {},
}


@pytest.fixture
def described(write_file: Writer) -> Callable[..., Container]:
    def describe(body: str, head: str = "") -> Container:
        (container,) = load(str(write_file(body, head=head)), "check").containers
        return container

    return describe


def test_files_that_ask_for_the_same_have_one_hash(described: Callable[..., Container]) -> None:
    body = SHELL + 'config.bootstrap.code = "one"'
    assert asked(described(body)) == asked(described(body + "\nconfig.uid = 3\nconfig.provision.run_shell('x')"))


@pytest.mark.parametrize(
    "other",
    [
        SHELL + 'config.bootstrap.code = "two"',
        SHELL + 'config.bootstrap.code = "one"\nconfig.rootfs_owner(uid=1, gid=1)',
        SHELL + 'config.bootstrap.code = "one"\nconfig.bootstrap.postprocess(lambda boot: None)',
        'config.bootstrap.strategy = "recipe"\nconfig.bootstrap.recipe = "busybox"',
    ],
)
def test_files_that_ask_for_something_else_have_another(described: Callable[..., Container], other: str) -> None:
    assert asked(described(SHELL + 'config.bootstrap.code = "one"')) != asked(described(other))


def test_a_function_is_told_by_its_text_and_what_it_has_closed_over(described: Callable[..., Container]) -> None:
    head = "def make(n):\n    def f():\n        return n\n    return f\n"
    body = "config.provision.run_python(make({}))"

    def digest(number: int, head: str) -> str:
        return step_digest(described(body.format(number), head).build.provision.steps[0])

    assert digest(1, head) == digest(1, "x = 5\n" + head)
    assert digest(1, head) != digest(2, head)
    assert digest(1, head) != digest(1, head.replace("return n", "return n + 1"))


def test_a_copy_is_told_by_its_content(described: Callable[..., Container], places: Path) -> None:
    (places / "tree").mkdir()
    (places / "tree" / "file").write_text("one")

    def digest(body: str = "config.provision.copy('tree', '/x')") -> str:
        return step_digest(described(body).build.provision.steps[0])

    first = digest()
    os.utime(places / "tree" / "file", (1, 1))
    assert digest() == first
    found = {first, digest("config.provision.copy('tree', '/y')"), digest("config.provision.copy('tree', '/x', uid=1)")}
    (places / "tree" / "file").chmod(0o600)
    found.add(digest())
    (places / "tree" / "file").write_text("two")
    found.add(digest())
    (places / "tree" / "link").symlink_to("/nowhere")
    found.add(digest())
    assert len(found) == 6


def test_a_step_is_remembered_by_its_name_or_by_what_it_does(described: Callable[..., Container]) -> None:
    named, bare = described("p = config.provision\np.run_shell('a', name='n')\np.run_shell('a')").build.provision.steps
    assert (named.label, bare.label) == ("n", "step 2")
    assert step_id(named, "h") == "name n"
    assert step_id(bare, "h") == "step h"
    assert step_digest(named) == step_digest(bare)


def test_the_digest_of_a_file_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    path, cache = tmp_path / "file", tmp_path / "cache"
    path.write_text("one")
    first = file_digest(str(path), str(cache))
    (note,) = cache.iterdir()
    note.write_text(note.read_text().replace(first, "f" * 64))
    assert file_digest(str(path), str(cache)) == "f" * 64  # remembered, not computed
    path.write_text("two!")
    assert file_digest(str(path), str(cache)) not in (first, "f" * 64)


def test_a_mark_belongs_to_a_path_and_an_inode(places: Path) -> None:
    long = places / ("deep" * 40) / ("er" * 60)
    for folder in (places / "a", places / "a%2Fb", places / "a" / "b", long):
        folder.mkdir(parents=True)
        write_mark(str(folder), Mark(**MARK, name=folder.name))
    assert marks.read(str(places / "a%2Fb")) == marks.read(str(places / "a%2Fb"))
    for folder in (places / "a" / "b", long):
        found = marks.read(str(folder))
        assert found is not None
        assert found.name == folder.name
    assert len(every_mark()[0]) == 4
    (places / "a" / "b").rmdir()
    (places / "filler").mkdir()
    (places / "a" / "b").mkdir()
    if marks.read(str(places / "a" / "b")) is None:  # unless the inode was given out again
        remove_stale_marks(str(places / "a" / "b"))
        assert len(every_mark()[0]) == 3
    remove_stale_marks(str(places / "a"))
    found = marks.read(str(places / "a"))
    assert found is not None
    assert found.name == "a"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"schema": 2}',
        *(json.dumps({**MARK, "schema": 1, "path": "/elsewhere"} | change) for change in ({}, {"path": 3})),
    ],
)
def test_a_mark_that_cannot_be_read(places: Path, content: str) -> None:
    folder = places / "box"
    folder.mkdir()
    write_mark(str(folder), Mark(**MARK))
    (mark,) = (places / "lib" / ".boxes").iterdir()
    mark.write_text(content)
    _must_be_damaged(folder, mark)


@pytest.mark.parametrize(
    "change",
    [
        *({key: None} for key in MARK if key != "provisioning"),
        {"provisioning": 3},
        {"failed": []},
        {"form": "stick"},
        {"layers": ["../x"]},
        {"layers": [""]},
        {"layers": [[]]},
        {"steps": {"name x": 3}},
        {"snapshots": {"one": None}},
        {"snapshots": {"one": {**MARK}}},
        {"snapshots": {"one": {**MARK, "layers": "abc", "created_at": "now"}}},
    ],
)
def test_a_mark_in_which_something_is_wrong(places: Path, change: dict[str, object]) -> None:
    folder = places / "box"
    folder.mkdir()
    write_mark(str(folder), Mark(**MARK))
    (mark,) = (places / "lib" / ".boxes").iterdir()
    mark.write_text(json.dumps({**json.loads(mark.read_text()), **change}))
    _must_be_damaged(folder, mark)


def _must_be_damaged(folder: Path, mark: Path) -> None:
    with pytest.raises(HakoError, match="is damaged"):
        marks.read(str(folder))
    assert salvage_mark(str(folder)) is None
    assert is_marked(str(folder))
    assert every_mark() == ([], [str(mark)])
    assert not is_stale(str(mark))
    folder.rmdir()
    assert is_stale(str(mark))
    assert marks.read(str(folder)) is None


GLANCED = {
    "name": "box",
    "layers": ["one", "two"],
    "said": {"bootstrap": {"strategy": "'host'"}, "steps": {}},
    "provisioning": "n",
}


def marked(places: Path, **content: object) -> str:
    """A folder whose mark says this, as an earlier version has written it."""
    folder = places / "box"
    folder.mkdir()
    write_mark(str(folder), Mark(**MARK))
    (mark,) = (places / "lib" / ".boxes").iterdir()
    mark.write_text(json.dumps({**MARK, **content, "schema": 1, "path": str(folder)}))
    return str(folder)


def test_a_start_glances_at_the_mark_that_others_read(places: Path) -> None:
    folder = marked(places, **GLANCED)
    seen, mark = glance(folder), marks.read(folder)
    assert seen is not None
    assert mark is not None
    for field in GLANCED:
        assert getattr(seen, field) == getattr(mark, field)
    assert seen.layers == ("one", "two")
    assert glance(str(places)) is None


def host_mark(**changes: Any) -> Mark:
    said = Outline(bootstrap={"strategy": "'host'"}, steps={})
    return Mark(**{**MARK, "form": "host", "name": "box", "said": said, **changes})


def test_the_mark_of_a_host_rootfs_takes_no_scanner(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = places / "box"
    folder.mkdir()
    write_mark(str(folder), host_mark())
    monkeypatch.setattr(markglance, "read_document", None)
    seen = glance(str(folder))
    assert seen is not None
    assert (seen.name, seen.layers, seen.provisioning) == ("box", (), None)
    assert seen.said == host_mark().said
    folder.rename(places / "other")
    (mark,) = (places / "lib" / ".boxes").iterdir()
    mark.rename(markglance.file_of(str(places / "other"), os.stat(places / "other").st_ino))
    with pytest.raises(HakoError, match=r"is damaged: .*: it is of "):
        glance(str(places / "other"))


@pytest.mark.parametrize(
    "changes",
    [
        {"provisioning": "one"},
        {"failed": "one"},
        {"steps": {"one": "x"}},
        {"layers": ("one",)},
        {"asked": 'a"b'},
        {"asked": "a\\b"},
        {"asked": "\n"},
        {"said": None},
        {"said": Outline(bootstrap={}, steps={})},
        {"said": Outline(bootstrap={"strategy": "'host'", "x": "1"}, steps={})},
        {"said": Outline(bootstrap={"other": "'host'"}, steps={})},
        {"said": Outline(bootstrap={"strategy": "'host'"}, steps={"one": "x"})},
    ],
)
def test_any_other_mark_is_read_as_json(places: Path, changes: dict[str, Any]) -> None:
    folder = places / "box"
    folder.mkdir()
    mark = host_mark(**changes)
    write_mark(str(folder), mark)
    seen = glance(str(folder))
    assert seen is not None
    assert (seen.name, seen.layers, seen.said, seen.provisioning) == (
        mark.name,
        mark.layers,
        mark.said,
        mark.provisioning,
    )
    (file,) = (places / "lib" / ".boxes").iterdir()
    assert markglance._read_usual(file.read_bytes()) is None


def test_a_damaged_mark_of_a_host_rootfs_is_told(places: Path) -> None:
    """Whatever becomes of one byte, the mark says the same by either way, or is refused."""
    folder = places / "box"
    folder.mkdir()
    write_mark(str(folder), host_mark())
    (file,) = (places / "lib" / ".boxes").iterdir()
    content = file.read_bytes()
    for at in range(len(content)):
        for byte in (b'"', b"\\", b"\n", b"x", b"\xff", b""):
            damaged = content[:at] + byte + content[at + 1 :]
            read = markglance._read_usual(damaged)
            if read is not None:
                whole = read_document(damaged, markglance.SCHEMA)
                assert {word: whole.get(word) for word in read} == read


def test_a_mark_of_an_earlier_version(places: Path) -> None:
    """It has neither said nor failed."""
    folder = marked(places, name="box")
    mark, seen = marks.read(folder), glance(folder)
    assert mark is not None
    assert seen is not None
    assert (mark.said, mark.failed, seen.said) == (None, None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"name": 3},
        {"layers": "abc"},
        {"layers": ["../x"]},
        {"layers": None},
        {"provisioning": 3},
        {"said": 7},
        {"said": {"bootstrap": {}}},
        {"said": {"bootstrap": {}, "steps": {"one": 3}}},
    ],
)
def test_a_mark_that_a_start_cannot_use(places: Path, change: dict[str, object]) -> None:
    folder = marked(places, **{**GLANCED, **change})
    for look in (glance, marks.read):
        with pytest.raises(HakoError, match="is damaged"):
            look(folder)


def test_words_after_the_file(tmp_path: Path) -> None:
    file = tmp_path / "box.haco.py"
    file.write_text("")
    command = Command(
        name="x", summary="", words=("NAME",), options=(Option(flags=("--o",), value="V", help="", repeated=True),)
    )
    assert read(command, [str(file), "one"]).words == ("one",)
    assert read(command, [str(file)]).file == str(file)
    assert read(command, [str(file)]).words == ()
    assert read(command, ["one"]).file is None
    assert read(command, ["one", "--o", "a", "--o=b"]).values("o") == ["a", "b"]
    with pytest.raises(HakoError, match="too many arguments"):
        read(command, ["a", "b", "c"])


def test_layers_fit_into_the_option() -> None:
    assert len(":".join(str(number) for number in range(100, 100 + MOST_LAYERS))) <= 255


def test_sizes() -> None:
    assert [size(n) for n in (0, 1023, 1024, 5 << 20, 3 << 40)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "5.0 MiB",
        "3072.0 GiB",
    ]
