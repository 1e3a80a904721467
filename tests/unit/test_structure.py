"""How the code hangs together: which way imports point, and what a start loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import hakoniwa

PACKAGE = Path(hakoniwa.__file__).parent
EXAMPLES = sorted((PACKAGE.parent / "examples").glob("*.haco.py"))

# From the bottom up. A module imports from its own floor and from those below it.
FLOORS = [
    ["record", "errors", "harmless", "earlier", "undo", "fastjson", "quickimport", "log"],
    ["kernel"],
    ["trust"],
    ["places", "spec", "options"],
    ["ids", "rewritable", "seccomp"],
    ["hostpaths"],
    ["statefile"],
    ["state", "boxes"],
    ["ranges"],
    ["haco"],
    ["steps"],
    ["plan", "hostroot"],
    ["run"],
    ["checking"],
    ["rootfs"],
    ["commands"],
    ["cli", "__main__"],
]
EXCEPTIONS = {
    ("kernel", "errors"),
    ("haco", "seccomp"),
    ("state", "haco"),  # the check of a name
}


def _floor(module: str) -> int:
    (found,) = [index for index, floor in enumerate(FLOORS) if module in floor]
    return found


def _imports(path: Path) -> set[str]:
    """The modules and packages just below `hakoniwa` that a file imports at run time."""
    found = set()
    tree = ast.parse(path.read_text())
    checked = {id(node) for block in ast.walk(tree) if _is_type_checking(block) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in checked and node.module:
            parts = node.module.split(".")
            if parts[0] == "hakoniwa":
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return {name for name in found if name not in ("__version__", "Haconiwa")}


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    up = {name for name in _imports(path) if _floor(name) > _floor(own) and (own, name) not in EXCEPTIONS}
    assert not up


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 450
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


SHOW = "import sys; before = set(sys.modules); import {}; print(*sorted(set(sys.modules) - before))"

# What `hako start` may load besides our own: nothing that costs a millisecond.
ALLOWED = {
    *("__future__", "_ctypes", "_json", "_prctl", "fcntl", "gc", "marshal", "select", "time"),
    *("abc", "_abc", "os", "os.path", "posixpath", "genericpath", "stat", "_stat", "_collections_abc", "errno"),
}


@pytest.mark.parametrize("command", ["start", "attach"])
def test_what_the_hot_commands_load(command: str) -> None:
    code = SHOW.format(f"hakoniwa.cli, hakoniwa.options, hakoniwa.commands.{command}")
    paths = f"import sys; sys.path[:0] = {[str(PACKAGE.parent), *(p for p in sys.path if 'site-packages' in p)]!r}; "
    done = subprocess.run([sys.executable, "-ISc", paths + code], capture_output=True, text=True, check=True)
    foreign = {name for name in done.stdout.split() if name.split(".")[0] != "hakoniwa"}
    assert foreign <= ALLOWED, f"loaded as well: {foreign - ALLOWED}"


def test_the_launcher_finds_every_module_in_the_bundle() -> None:
    hako = Path(sys.executable).with_name("hako")
    text = hako.read_text()
    assert text.startswith(f"#!{sys.executable} -IS\n")
    code = text.removesuffix("main()\n")
    code += "print(*{type(m.__spec__.loader).__name__ for n, m in sys.modules.items() if n.startswith('hakoniwa')})"
    done = subprocess.run([sys.executable, "-ISc", code, "start"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "_BundleFinder", "sources are newer than the bundle: run `make install`"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_well_described(path: Path, write_file: Callable[..., Path]) -> None:
    from hakoniwa.haco.loader import load

    assert load(str(path), "check").containers
