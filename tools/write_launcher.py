"""Write `.venv/bin/hako`, the launcher for a checkout, and the bundle that it executes: write_launcher.py [LAUNCHER].

The launcher is isolated, and without what a start does not need: `-I` keeps the caller's environment, folder and user site
out of the interpreter; `-S` leaves out `site`, a fifth of an empty interpreter's start, which is why the folders are named
here. pip's own launcher cannot say either.

The bundle holds the modules of the commands that have to be quick, compiled: see hakoniwa/bundle/quickimport.py.
"""

from __future__ import annotations
import __future__

import ast
import compileall
import marshal
import os
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from importlib.util import MAGIC_NUMBER, find_spec
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING

from bodies import AT_ONCE, Body, Place, bodies, read_executed, stubbed

if TYPE_CHECKING:
    from hakoniwa.bundle.quickimport import Entry, Part

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "hakoniwa"
PACKAGES = sysconfig.get_path("platlib")
BUNDLE = PACKAGE / "__pycache__" / f"start.{sys.implementation.cache_tag}.bundle"

# The quick commands, by all their names, each with what it imports whenever it runs, but later.
COMMANDS = {
    ("start", "run"): "",
    ("attach",): "",
    ("kill",): "",
    ("version", "--version"): "",
}
# What they import at times, by what a start has: each is read at once. What executes a file whose description was not kept
# is executed at once, too, if any of it is needed.
TOGETHER = "haco.loader"
AT_TIMES = (
    "known.idmaps.ids kernel.descriptors kernel.processes.idmap known.idmaps.ranges "  # a user namespace
    "run.start.helper steps.outside steps.files.shown",
    "kernel.cgroup.delegation kernel.cgroup.v2 run.start.groups run.start.hostgroups",
    *("kernel.cgroup.v1", "run.start.hostfiles steps.namespaces", "steps.join", "known.idmaps.callerids"),
    "host.root.shadows spec.outline",  # a rootfs that we make
    "run.barn.process run.hooks.general run.output",  # more than a container in the foreground
    "run.barn.background",
    "commands.selection recordreader",  # no copy of a state
    "run.control.requests run.reload.reloader",  # more than a moment
    "run.control.messages refusal",  # somebody asks
    "spec.networks",
    "run.start.network run.start.ports",  # a network
    TOGETHER,
    "haco.sections.network spec.rules.networkrules",
    "haco.sections.bootstrap spec.rules.buildchecks spec.rules.buildrules",
    "haco.sections.callfilter haco.sections.seccomp",
    *("haco.functions", "haco.sections.cgroup", "haco.sections.namespace"),
    *("haco.sections.provision", "haco.sections.settings"),
    *("host.walk", "kernel.filesystem.tree", "kernel.processes.idle", "known.leftovers"),
    *("run.process.pump", "steps.files.gather", "steps.process.scheduling"),
)
LIBRARIES = ("_ctypes", "_json")  # Python's own that they import
FIRST = "bundle.quickos cli options commands"  # by all commands
WHOLE, SOME = "together", "at times"  # the first of what stands for commands there, the first as quickimport has it
ANY = "*"  # the same for every command that is not named here, as quickimport has it
BEGIN = 20  # bytes at the beginning that say what the file is and where its head lies
LARGEST = 60 << 10  # of what is read at once: the memory for more would be new each time

LAUNCHER = """#!{python} -IS
import _signal, marshal, posix, sys
from _frozen_importlib_external import MAGIC_NUMBER
# Python would make an exception of INT, which is lost in whatever catches it; nothing is made yet.
if _signal.getsignal(2) is _signal.default_int_handler: _signal.signal(2, _signal.SIG_DFL)
sys.path.append({packages!r})
try:
    file = posix.open({bundle!r}, posix.O_RDONLY | posix.O_CLOEXEC)
    begin = posix.pread(file, {begin}, 0)
except OSError:
    begin = b""
if begin.startswith(MAGIC_NUMBER):
    at, size = int.from_bytes(begin[-8:-4], "little"), int.from_bytes(begin[-4:], "little")
    code, parts, libraries = marshal.loads(posix.pread(file, size, at))
    names = {{"__name__": "hakoniwa.bundle.quickimport", "__package__": "hakoniwa"}}
    exec(code, names)
    names["load"]({bundle!r}, file, begin, parts, libraries, sys.argv[1] if len(sys.argv) > 1 else "")
if "hakoniwa" not in sys.modules:
    # Only our own modules come from the checkout, and the standard library's from nowhere else.
    sys.path.insert(0, {project!r})
    import hakoniwa
    del sys.path[0]
from hakoniwa.cli import main
main()
"""


def main() -> None:
    """Write both, the launcher beside the interpreter that runs this unless a path is given, and compile what else is imported."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else Path(sys.executable).with_name("hako"))
    write_bundle()
    names = {"python": sys.executable, "packages": PACKAGES, "bundle": str(BUNDLE), "project": str(PROJECT)}
    replace(target, LAUNCHER.format(**names, begin=BEGIN).encode(), 0o755)
    compileall.compile_dir(PACKAGE, quiet=1)


def replace(path: Path, content: bytes, mode: int) -> None:
    """Put a new file in a place at once, with this mode whatever the umask is."""
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(content)
    new.chmod(mode)
    new.rename(path)


def write_bundle() -> None:
    """Where the head lies, functions, the parts, the head: the code of quickimport, and what lies where, here and elsewhere."""
    content = bytearray(BEGIN)
    parts: list[Part] = []
    chosen = grouped()
    every = [module for _, modules in chosen for module in modules]
    at_times = {module for (first, *_), modules in chosen if first in (WHOLE, SOME) for module in modules}
    place = lay_down(content, every, at_times)
    for commands, modules in chosen:
        for entries in divided([entry_of(module, every.index(module), place) for module in modules], LARGEST):
            part = marshal.dumps(entries)
            parts.append((commands, len(content), len(part), tuple(entry[0] for entry in entries)))
            content += part
    head = marshal.dumps((lean_code(PACKAGE / "bundle/quickimport.py"), tuple(parts), libraries()))
    content[:BEGIN] = MAGIC_NUMBER + os.urandom(BEGIN - 12) + struct.pack("<II", len(content), len(head))
    replace(BUNDLE, bytes(content) + head, 0o644)


def lay_down(content: bytearray, modules: list[str], at_times: set[str]) -> Callable[[str, str], Place | None]:
    """Put the functions that are not loaded with these modules into the bundle. Returns what tells where one lies.

    With those that are imported `at_times`, all is loaded that any quick command executes.
    """
    executed = read_executed()
    groups: dict[str, list[Body]] = {}
    places: dict[tuple[str, str], Place] = {}
    inside: dict[tuple[str, str], tuple[str, int, int]] = {}
    for number, module in enumerate(modules):
        tree = lean_tree(source_of(module))
        for name, _, body in bodies(tree, compiled(tree, source_of(module))):
            group = executed.get((module.rpartition(".")[2], name))
            if group is None:
                single = marshal.dumps(body)
                places[module, name] = (number, len(content), len(single))
                content += single
            elif group != AT_ONCE and module not in at_times:
                inside[module, name] = group, number, len(groups.setdefault(group, []))
                groups[group].append(body)
    for group, found in groups.items():
        whole = marshal.dumps(tuple(found))
        start = len(content)
        places.update(
            {key: (number, start, len(whole), at) for key, (known, number, at) in inside.items() if known == group}
        )
        content += whole
    return lambda module, name: places.get((module, name))


def source_of(module: str) -> Path:
    """The file of a module of ours."""
    source = PACKAGE.parent.joinpath(*module.split("."))
    return source / "__init__.py" if source.is_dir() else source.with_suffix(".py")


def entry_of(module: str, number: int, place: Callable[[str, str], Place | None]) -> Entry:
    """A module as a part of the bundle has it."""
    source = source_of(module)
    status = source.stat()
    tree = lean_tree(source)
    code = compiled(stubbed(tree, compiled(tree, source), lambda name: place(module, name)), source)
    return (module, str(source), status.st_mtime_ns, status.st_size, source.name == "__init__.py", number, code)


def libraries() -> dict[str, str]:
    """The shared objects of LIBRARIES. None for what is built in."""
    found = {name: find_spec(name) for name in LIBRARIES}
    return {name: spec.origin for name, spec in found.items() if spec and spec.has_location and spec.origin}


def divided(entries: list[Entry], largest: int) -> Iterator[tuple[Entry, ...]]:
    """The entries in as few parts as are not larger than `largest`, as far as they can be."""
    chosen: tuple[Entry, ...] = ()
    for entry in entries:
        if chosen and len(marshal.dumps((*chosen, entry))) > largest:
            yield chosen
            chosen = ()
        chosen += (entry,)
    yield chosen


def grouped() -> list[tuple[tuple[str, ...], list[str]]]:
    """The modules by the commands that need them, those with the most before, in an order in which each imports only earlier ones.

    A module is needed by all that need one that imports it.
    """
    needed = [f"{module_of(names[0])} {later}" for names, later in COMMANDS.items()]
    users: dict[str, tuple[str, ...]] = dict.fromkeys(imported(FIRST), (ANY,))
    for names, modules in zip(COMMANDS, needed, strict=True):
        for module in imported(f"{FIRST} {modules}"):
            if users.setdefault(module, ()) != (ANY,):
                users[module] += names
    found: dict[tuple[str, ...], list[str]] = {}
    for number, modules in enumerate(AT_TIMES):
        for module in imported(f"{FIRST} {modules}"):
            users.setdefault(module, (WHOLE if modules == TOGETHER else SOME, str(number)))
    for module in imported(" ".join([FIRST, *needed, *AT_TIMES])):
        found.setdefault(users[module], []).append(module)
    return sorted(found.items(), key=lambda group: (group[0] != (ANY,), -len(group[0]), group[0]))


def module_of(command: str) -> str:
    """The module of a command, as the command line finds it. This interpreter may lack what hakoniwa needs: it is only looked for."""
    (found,) = (PACKAGE / "commands").glob(f"*/{command}.py")
    return f"commands.{found.parent.name}.{command}"


def imported(modules: str) -> list[str]:
    """All modules of ours that are there once some are imported, each after those that it has imported itself."""
    names = ", ".join(f"hakoniwa.{module}" for module in modules.split())
    show = "print(*(name for name in sys.modules if name.partition('.')[0] == 'hakoniwa'))"
    code = f"import sys; sys.path[:0] = {[str(PROJECT), PACKAGES]!r}; import {names}; {show}"
    # The import system moves a module to the end of sys.modules once it has executed it.
    return subprocess.run([sys.executable, "-ISc", code], check=True, stdout=-1, text=True).stdout.split()


def lean_code(source: Path) -> CodeType:
    """The code of a module without what a start does not need: docstrings, assertions, and what `Leaner` makes leaner.

    Annotations of classes stay, as text: records have their fields by them.
    """
    return compiled(lean_tree(source), source)


def lean_tree(source: Path) -> ast.Module:
    tree: ast.Module = Leaner().visit(ast.parse(source.read_bytes()))
    return tree


def compiled(tree: ast.Module, source: Path) -> CodeType:
    flags = __future__.annotations.compiler_flag
    code: CodeType = compile(tree, str(source), "exec", flags=flags, dont_inherit=True, optimize=2)
    return code


class Leaner(ast.NodeTransformer):
    """Leaves out annotations of functions and what only type checkers read, and has `quickos` imported as `os`."""

    def visit_Import(self, node: ast.Import) -> ast.AST:
        if [(name.name, name.asname) for name in node.names] != [("os", None)]:
            return node
        quick = ast.ImportFrom("hakoniwa.bundle", [ast.alias("quickos", "os")], 0)
        return ast.fix_missing_locations(ast.copy_location(quick, node))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if node.module == "__future__" else node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        checking = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return (node.orelse or ast.copy_location(ast.Pass(), node)) if checking else node


main()
