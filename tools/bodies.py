"""Which functions of the bundle are executed when, and modules of which only those are loaded that a quick command executes.

Most functions of a module are not executed by a start. To load one takes a hundred times as long as to leave something in
its place that can load it: a `Later` of hakoniwa/bundle/quickimport.py. What is executed is in executed.txt, which
note_executed.py writes. A function that is not there, or has changed, works all the same, and takes longer.
"""

from __future__ import annotations

import ast
import marshal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType
from typing import Any

EXECUTED = Path(__file__).with_name("executed.txt")
AT_ONCE = "at once"  # the group of what is loaded with its module
LATER = "__later__"  # what modules of the bundle know `Later` by

# The code of a function, its defaults, and those of its keywords.
Body = tuple[CodeType, tuple[Any, ...], dict[str, Any]]
# The number of a module, and where the body lies: what `Later` is given.
Place = tuple[int, ...]

# What Python makes a class method of, or calls while it makes a class, by the name and only where it is a function.
_TAKEN_BY_NAME = {"__new__", "__init_subclass__", "__class_getitem__", "__set_name__"}


def read_executed() -> dict[tuple[str, str], str]:
    """The group of each function, by the last name of its module and its qualified name."""
    groups, group = {}, AT_ONCE
    for line in EXECUTED.read_text().splitlines():
        if line.startswith("["):
            group = line.strip("[]")
        elif line and not line.startswith("#"):
            module, _, names = line.partition(": ")
            groups.update({(module, name): group for name in names.split()})
    return groups


def bodies(tree: ast.Module, code: CodeType) -> Iterator[tuple[str, ast.FunctionDef, Body]]:
    """The functions of a module that can be left out: qualified name, definition, and what is to be loaded."""
    known = {(inner.co_qualname, inner.co_firstlineno): inner for inner in _codes(code)}
    for prefix, node in _definitions(tree.body, ""):
        names = [ast.unparse(decorator) for decorator in node.decorator_list]
        found = known.get((prefix + node.name, node.decorator_list[0].lineno if node.decorator_list else node.lineno))
        if found is None or names not in ([], ["property"]) or node.name in _TAKEN_BY_NAME or found.co_freevars:
            continue
        if "_getframe" in found.co_names:
            continue  # it counts the frames of its callers
        try:
            defaults = tuple(map(_constant, node.args.defaults))
            pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            of_keywords = {argument.arg: _constant(value) for argument, value in pairs if value is not None}
        except ValueError:
            continue  # they are computed when it is defined
        yield prefix + node.name, node, (found, defaults, of_keywords)


def _definitions(statements: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions of a module or class whose names stand for nothing else there, and those of its classes."""
    names = Counter(
        node.id for node in _outside_of_functions(statements) if isinstance(node, ast.Name) and _stores(node)
    )
    names.update(node.name for node in statements if isinstance(node, ast.FunctionDef | ast.ClassDef))
    for node in statements:
        if isinstance(node, ast.FunctionDef):
            if names[node.name] == 1:
                yield prefix, node
        elif isinstance(node, ast.ClassDef):
            yield from _definitions(node.body, f"{prefix}{node.name}.")


def _outside_of_functions(nodes: Sequence[ast.AST]) -> Iterator[ast.AST]:
    for node in nodes:
        yield node
        if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            yield from _outside_of_functions([*ast.iter_child_nodes(node)])


def _stores(node: ast.Name) -> bool:
    return not isinstance(node.ctx, ast.Load)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """All code of a module but for what is inside of functions."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield inner
            if not inner.co_flags & 0x02:  # CO_NEWLOCALS, which a class has not
                yield from _codes(inner)


def _constant(node: ast.expr) -> object:
    """The value of a default that is none of those that can be changed. Raises ValueError for others."""
    value = ast.literal_eval(node)
    marshalled = marshal.loads(marshal.dumps(value))
    if isinstance(value, (list, dict, set)) or marshalled != value:
        raise ValueError
    return value


class Stubs(ast.NodeTransformer):
    """Puts a `Later` in the place of each function that has a place: of all in a module or class at once, before all else there."""

    def __init__(self, places: dict[ast.FunctionDef, Place]) -> None:
        self._places = places

    def visit_Module(self, node: ast.Module) -> Any:
        return self._leave_out(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        return self._leave_out(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node

    def _leave_out(self, node: Any) -> Any:
        self.generic_visit(node)
        left_out = [inner for inner in node.body if inner in self._places]
        if left_out:
            whole = [_stub(inner, self._places[inner]) for inner in left_out if inner.decorator_list]
            names: list[ast.expr] = [
                ast.Name(inner.name, ast.Store()) for inner in left_out if not inner.decorator_list
            ]
            if names:
                places = tuple(self._places[inner] for inner in left_out if not inner.decorator_list)
                made = ast.Call(ast.Name("map", ast.Load()), [ast.Name(LATER, ast.Load()), _as_tree(places)], [])
                whole.append(ast.Assign([ast.Tuple(names, ast.Store())], made))
            stubs = [ast.fix_missing_locations(ast.copy_location(stub, left_out[0])) for stub in whole]
            node.body = stubs + [inner for inner in node.body if inner not in self._places]
        return node


def _as_tree(value: object) -> ast.expr:
    return ast.parse(repr(value), mode="eval").body


def _stub(node: ast.FunctionDef, place: Place) -> ast.Assign:
    """One property."""
    made = ast.Call(ast.Name(LATER, ast.Load()), [_as_tree(place)], [])
    return ast.Assign([ast.Name(node.name, ast.Store())], ast.Call(ast.Name("property", ast.Load()), [made], []))


def stubbed(tree: ast.Module, code: CodeType, place: Callable[[str], Place | None]) -> ast.Module:
    """The module with what is loaded later left out; `place` says where it lies, and None of what is to stay."""
    places = {node: found for name, node, _ in bodies(tree, code) if (found := place(name)) is not None}
    changed: Any = Stubs(places).visit(tree)
    assert isinstance(changed, ast.Module)
    return changed
