"""`quickos` and `quickpath` against `os` and `os.path`, in whose place the modules in the bundle have them."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hakoniwa
from hakoniwa.bundle import quickos, quickpath

PACKAGE = Path(hakoniwa.__file__).parent
TEXTS = [
    "",
    "/",
    "//",
    "a",
    "/a",
    "a/",
    "a//b",
    "/a/../b",
    "./a/.",
    "..",
    "../..",
    "//a//b/",
    "/a/b.c",
    "ä/ö",
    "\udcff/x",
]
OWN = {name for name, value in vars(quickpath).items() if inspect.isfunction(value) and not name.startswith("_")}


@pytest.mark.parametrize("name", ["split", "dirname", "basename", "isabs", "normpath", "abspath", "realpath"])
def test_paths_are_taken_apart_alike(name: str) -> None:
    for text in TEXTS:
        assert getattr(quickpath, name)(text) == getattr(os.path, name)(text), text
    assert getattr(quickpath, name)(Path("a/b")) == getattr(os.path, name)(Path("a/b"))


def test_paths_are_joined_alike() -> None:
    for first in TEXTS:
        assert quickpath.join(first) == os.path.join(first)
        for second in TEXTS:
            assert quickpath.join(first, second) == os.path.join(first, second)
            assert quickpath.join(first, second, "c") == os.path.join(first, second, "c")


def test_what_is_there_is_seen_alike(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    for name, target in [
        ("link", "folder"),
        ("wrong", "nowhere"),
        ("one", "two"),
        ("two", "one"),
        ("out", "/dev/null"),
    ]:
        (tmp_path / name).symlink_to(target)
    names = ["", "folder", "folder/file", "pipe", "link", "link/inner", "link/inner/..", "folder/..", "folder/none/x"]
    names += ["wrong", "wrong/x", "one", "one/x", "out", "none", "folder/file/x", "pipe/../folder", "a\0b"]
    for name in names:
        path = f"{tmp_path}/{name}"
        for asked in ("exists", "lexists", "isdir", "isfile", "islink", "realpath"):
            if not (asked == "realpath" and "\0" in name):
                assert getattr(quickpath, asked)(path) == getattr(os.path, asked)(path), (asked, name)
    assert quickpath.samestat(os.stat(tmp_path), os.stat(tmp_path / "folder" / ".."))
    assert not quickpath.samestat(os.stat(tmp_path), os.stat(tmp_path / "folder"))
    (reader, writer) = os.pipe()
    os.close(writer)
    assert quickpath.exists(reader)
    os.close(reader)
    assert not quickpath.exists(reader)


def test_relative_paths_begin_at_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ["a", "../a", ".", ""]:
        assert quickpath.abspath(text) == os.path.abspath(text)
        assert quickpath.realpath(text) == os.path.realpath(text)


def test_text_and_bytes_are_as_for_the_kernel() -> None:
    for text in TEXTS:
        assert quickos.fsencode(text) == os.fsencode(text)
        assert quickos.fsdecode(os.fsencode(text)) == os.fsdecode(os.fsencode(text))
        assert quickos.fsencode(os.fsencode(text)) == os.fsencode(text)
        assert quickos.fsdecode(text) == os.fsdecode(text)


def test_everything_else_is_that_of_os() -> None:
    for name in dir(os):
        if not name.startswith("_") and name not in ("path", "fsencode", "fsdecode"):
            assert getattr(quickos, name) == getattr(os, name), name
    assert quickos._exit is os._exit
    assert quickpath.commonpath is os.path.commonpath
    with pytest.raises(AttributeError):
        quickos.nothing  # noqa: B018


ENVIRONMENT = """
import sys
sys.path.insert(0, {project!r})
from hakoniwa.bundle import quickos
print(quickos.environ["A"], quickos.environ.get("B"), quickos.environ.get("C", "x"), "A" in quickos.environ, "B" in quickos.environ)
try:
    quickos.environ["B"]
except KeyError:
    print("os" in sys.modules, quickos.PathLike.__name__, "os" in sys.modules)
import os
os.environ["B"] = "later"
print(quickos.environ["B"], quickos.environ is os.environ)
"""


def test_the_environment_is_that_of_os_once_there_is_one() -> None:
    words = [sys.executable, "-ISc", ENVIRONMENT.format(project=str(PACKAGE.parent))]
    done = subprocess.run(words, env={"A": "\udcffä"}, capture_output=True, check=True)
    first = b"\xff\xc3\xa4 None x True False"
    told = done.stdout.splitlines()
    assert told[0].replace(b"\\udcff", b"\xff") == first
    assert told[1:] == [b"False PathLike True", b"later True"]


# What may take `os` itself, and so its time, because few starts do it.
SELDOM = {
    "hakoniwa.places": {"path.expanduser"},  # of an ordinary user
    "hakoniwa.spec.rules.checks": {"PathLike"},
}


def test_what_the_bundle_uses_of_os_is_in_quickos() -> None:
    """Not least because the first process of a container could not import anything any more."""
    launcher = Path(sys.executable).with_name("hako").read_text().removesuffix("main()\n")
    code = f"{launcher}\nprint(*(name for part in parts for name in part[3]))"
    names = subprocess.run([sys.executable, "-ISc", code], capture_output=True, text=True, check=True).stdout.split()
    assert len(names) > 60
    for name in names:
        place = PACKAGE.parent.joinpath(*name.split("."))
        tree = ast.parse((place / "__init__.py" if place.is_dir() else place.with_suffix(".py")).read_text())
        checked = {id(node) for block in ast.walk(tree) if is_type_checking(block) for node in ast.walk(block)}
        used = {ast.unparse(node)[3:] for node in ast.walk(tree) if is_of_os(node) and id(node) not in checked}
        lacking = {
            word
            for word in used
            if word != "path" and word not in vars(quickos) and word.removeprefix("path.") not in OWN
        }
        assert lacking - SELDOM.get(name, set()) <= {"environ"}, name
        named = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert name == "hakoniwa.bundle.quickpath" or not named & {"os", "os.path"}, name


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def is_of_os(node: ast.AST) -> bool:
    """`os.name`, and `os.path.name`."""
    if not isinstance(node, ast.Attribute):
        return False
    return ast.unparse(node.value) in ("os", "os.path")
