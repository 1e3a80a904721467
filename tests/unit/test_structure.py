"""How the code hangs together: which way imports point, and what a start loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import hakoniwa

PACKAGE = Path(hakoniwa.__file__).parent
EXAMPLES = sorted((PACKAGE.parent / "examples").glob("*.haco.py"))

# From the bottom up. A module imports from its own floor and from those below it.
FLOORS = [
    ["record", "recordreader", "errors", "refusal", "fastjson", "log"],
    ["kernel"],
    ["trust"],
    ["places", "spec", "options"],
    ["host", "network", "seccomp"],
    ["known"],
    ["haco"],
    ["steps"],
    ["plan"],
    ["run"],
    ["rootfs"],
    ["commands", "library", "types"],
    ["bundle", "cli", "__main__"],
]

Graph = dict[str, set[str]]


def _name_of(path: Path) -> str:
    return ".".join(("hakoniwa", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {_name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _imported(node: ast.AST) -> set[str]:
    """The modules of ours that a piece of code imports, whichever way. The packages on the way to them do not count."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names} & set(MODULES)
    if isinstance(node, ast.ImportFrom):
        assert not node.level, "imports are absolute"
        inside = {f"{node.module}.{alias.name}": str(node.module) for alias in node.names}
        return {name if name in MODULES else package for name, package in inside.items()} & set(MODULES)
    if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__"):
        # Whatever has a name that begins like the one that is put together.
        (text,) = [node.args[0].values[0]] if isinstance(node.args[0], ast.JoinedStr) else [node.args[0]]
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            return {name for name in MODULES if name.startswith(text.value) and name != text.value}
    return set()


@cache
def _imports(path: Path, *, of_types: bool) -> set[str]:
    """What a file imports, inside functions too; `of_types`: also what only type checkers do."""
    tree = ast.parse(path.read_text())
    checked = {id(node) for block in ast.walk(tree) if _is_type_checking(block) for node in ast.walk(block)}
    nodes = [node for node in ast.walk(tree) if of_types or id(node) not in checked]
    return set().union(*map(_imported, nodes)) - {_name_of(path)}


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _circles(graph: Graph) -> set[frozenset[str]]:
    """The largest sets of which each member leads to every other one."""
    reached: Graph = {}
    for start in graph:
        found: set[str] = set()
        ahead = [start]
        while ahead:
            new = graph[ahead.pop()] - found
            found |= new
            ahead += new
        reached[start] = found
    return {
        frozenset(other for other in reached[name] if name in reached[other]) for name in graph if name in reached[name]
    }


def test_no_file_imports_itself_by_way_of_others() -> None:
    graph = {name: _imports(path, of_types=True) for name, path in MODULES.items()}
    assert not _circles(graph)


def test_no_room_imports_itself_by_way_of_its_neighbours() -> None:
    """Rooms are folders in the same folder. What lies beside them, in that folder, may import from them and be imported."""
    graph: Graph = {}
    for name, path in MODULES.items():
        for other in _imports(path, of_types=True):
            own, theirs = _rooms(name, other)
            if own != theirs:
                graph.setdefault(own, set()).add(theirs)
                graph.setdefault(theirs, set())
    assert not _circles(graph)


def _rooms(name: str, other: str) -> tuple[str, str]:
    """The neighbours that two files lie in, or twice the folder that both lie in where there are none."""
    rooms = [
        file if (PACKAGE.parent / file.replace(".", "/")).is_dir() else file.rpartition(".")[0]
        for file in (name, other)
    ]
    parts = [room.split(".") for room in rooms]
    common = 0
    while common < min(map(len, parts)) and parts[0][common] == parts[1][common]:
        common += 1
    if common == min(map(len, parts)):
        return rooms[0], rooms[0]  # one lies in the other
    first, second = (".".join(part[: common + 1]) for part in parts)
    return first, second


def test_the_test_sees_every_kind_of_import() -> None:
    name = "hakoniwa.kernel.filesystem.mount"
    for line in (
        f"import {name}",
        f"import {name} as m",
        "from hakoniwa.kernel.filesystem import mount",
        f"from {name} import attach",
        f"def f():\n    import {name}",
        'importlib.import_module(f"hakoniwa.kernel.filesystem.m{x}")',
    ):
        assert set().union(*map(_imported, ast.walk(ast.parse(line)))) == {name}, line
    assert _circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}, "e": {"e"}}) == {frozenset("bc"), frozenset("e")}


def _floor(module: str) -> int:
    (found,) = [index for index, floor in enumerate(FLOORS) if module in floor]
    return found


def _top(name: str) -> str:
    """The file or folder just below `hakoniwa` that a module is, or lies in; "" for `hakoniwa` itself."""
    return name.partition(".")[2].partition(".")[0]


def _ways_up() -> set[tuple[str, str]]:
    """Which files and folders just below `hakoniwa` import at run time from a higher floor."""
    found = set()
    for name, path in MODULES.items():
        own = _top(name)
        if own:  # and not `hakoniwa` itself, where programs enter
            others = {_top(other) for other in _imports(path, of_types=False)}
            found |= {(own, other) for other in others if other and _floor(other) > _floor(own)}
    return found


def test_imports_point_down() -> None:
    assert not _ways_up()


def test_every_file_and_folder_has_its_floor() -> None:
    assert {name for floor in FLOORS for name in floor} == {name.split(".")[1] for name in MODULES if "." in name}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 450
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


FOLDERS = sorted({path.parent for path in PACKAGE.rglob("*.py")})
DOZEN = 12


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_folders_stay_small(folder: Path) -> None:
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert len(modules) <= DOZEN, f"make rooms: {sorted(modules)}"


# What `hako` may load of Python's own: nothing that costs a millisecond.
PYTHON_S = {"_ctypes", "_stat", "errno", "fcntl", "gc", "select", "stat"}
# The modules and classes of ours that a command has before it runs, at most. A module takes about a hundredth of an
# empty interpreter's time, a class a thousandth: what is rare is imported by the function that uses it.
MOST = {"start": (84, 142), "attach": (60, 78), "kill": (24, 19), "version": (15, 13)}

COUNTING = """
import builtins, sys
made = 0
build = builtins.__build_class__
def count(*arguments, **options):
    global made
    made += 1
    return build(*arguments, **options)
builtins.__build_class__ = count
before = set(sys.modules)
{launcher}
print(made, *sorted(set(sys.modules) - before))
"""


@pytest.mark.parametrize("command", MOST)
def test_what_the_quick_commands_load(command: str) -> None:
    launcher = Path(sys.executable).with_name("hako").read_text().removesuffix("main()\n")
    code = COUNTING.format(launcher=launcher)
    done = subprocess.run([sys.executable, "-ISc", code, command], capture_output=True, text=True, check=True)
    classes, *modules = done.stdout.split()
    ours = {name for name in modules if name.split(".")[0] == "hakoniwa"}
    assert set(modules) - ours <= PYTHON_S
    assert any(name.startswith("hakoniwa.commands.") and name.endswith(f".{command}") for name in ours)
    assert len(ours) <= MOST[command][0], sorted(ours)
    assert int(classes) <= MOST[command][1]
    if command == "start":  # it reads nothing but what it glances at
        assert {"hakoniwa.recordreader", "hakoniwa.known.marks", "hakoniwa.rootfs"}.isdisjoint(ours)
        assert not [name for name in ours if name.startswith(("hakoniwa.haco", "hakoniwa.spec.rules"))]


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


# What a front end calls.
USE_CASES = (
    *("run/prepare.py", "run/exec.py", "run/end.py", "run/barn/foreground.py", "run/control/asking.py"),
    *("rootfs/forget.py", "rootfs/clearing.py", "rootfs/provision/provisioning.py"),
)


@pytest.mark.parametrize("name", USE_CASES)
def test_use_cases_raise_and_neither_print_nor_exit(name: str) -> None:
    for node in ast.walk(ast.parse((PACKAGE / name).read_text())):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        assert called not in ("print", "sys.exit", "os._exit", "exit")
    assert "hakoniwa.commands" not in (PACKAGE / name).read_text()
