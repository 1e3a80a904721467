"""Keep the description of a container file whose text alone says what it is: see kept.py.

That is proven, and not guessed: the text may do nothing but call words of `config` with what it writes down itself. It imports
only `Haconiwa`, it names only its own variables and a few functions that depend on nothing else, and it defines no function,
since that has to be executed again in each process. So it cannot ask for an environment, a time, a file or a user.
"""

from __future__ import annotations

import ast
import marshal
import sys
import warnings

from hakoniwa.haco.container import _TABLES, SECTIONS, ContainerBuilder, RootPath
from hakoniwa.haco.sections import bootstrap, callfilter, cgroup, namespace, network, provision, seccomp, settings
from hakoniwa.haco.sections.section import Section
from hakoniwa.known import copies
from hakoniwa.known.copied import LARGEST_COPY, finder_of_bundle, summed
from hakoniwa.known.state import is_known
from hakoniwa.known.statefile import WRITTEN, definition_text
from hakoniwa.record import Record
from hakoniwa.spec import records
from hakoniwa.spec.records import Container
from hakoniwa.spec.strategies import SETTINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.known.kept import Content, Row, Sought
    from hakoniwa.spec.records import Barn

_ENTRANCE = {False: "define", True: "configure"}  # what a container file, and the global file, may use of `Haconiwa`
_GIVEN = {"__file__", "__name__"}
_BUILTINS = {
    *("abs", "all", "any", "bool", "chr", "dict", "divmod", "enumerate", "float", "int", "len", "list", "max", "min"),
    *("ord", "range", "reversed", "round", "sorted", "str", "sum", "tuple", "zip"),
}
# Of strings, lists and dicts. Not `format`, which gets at any attribute.
_METHODS = {
    *("append", "capitalize", "copy", "count", "endswith", "extend", "get", "index", "insert", "items", "join", "keys"),
    *(
        "lower",
        "lstrip",
        "partition",
        "pop",
        "removeprefix",
        "removesuffix",
        "replace",
        "rpartition",
        "rsplit",
        "rstrip",
    ),
    *("setdefault", "split", "splitlines", "startswith", "strip", "title", "update", "upper", "values", "zfill"),
}
_SYNTAX = (
    *(ast.Module, ast.Expr, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.With, ast.withitem, ast.For, ast.While),
    *(ast.If, ast.IfExp, ast.Pass, ast.Break, ast.Continue, ast.Assert, ast.ImportFrom, ast.alias),
    *(ast.Call, ast.keyword, ast.Attribute, ast.Subscript, ast.Slice, ast.Name, ast.Constant, ast.Starred),
    *(ast.List, ast.Tuple, ast.Dict, ast.ListComp, ast.DictComp, ast.GeneratorExp, ast.comprehension),
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.NamedExpr, ast.JoinedStr, ast.FormattedValue),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context),
)
# What hakoniwa may load of others' while it reads such a file: they look at nothing.
_LOADED = {"_socket", "binascii", "errno", "zlib"}


def keep(sought: Sought) -> None:
    """Keep what a file was found to say, or that this cannot be kept. Where it cannot be written it is done without."""
    if not sought.could_be_kept():
        return
    content = _content(sought)
    text = b"" if content is None else summed(sought.stamp, marshal.dumps(content))
    if not text or len(text) > LARGEST_COPY:
        return
    copies.write(sought.place(), text)


def _content(sought: Sought) -> Content | None:
    """What is written. None if a later start may find what this one did not."""
    assert sought.made is not None
    finder = finder_of_bundle()
    if finder is None or finder.changed or finder.stamp != sought.stamp or any(map(is_known, sought.asked)):
        return None
    ours = [name for name in sought.loaded if name.partition(".")[0] == __name__.partition(".")[0]]
    sources = tuple(source for name in ours if (source := finder.source_of(name)) is not None)
    if len(sources) < len(ours):
        return None
    texts = [(sought.source, False), *([] if sought.defaults is None else [(sought.defaults, True)])]
    rows = None
    if {*sought.loaded} <= {*ours, *_LOADED} and all(is_text_alone(text, of_all=of_all) for text, of_all in texts):
        rows = rows_of(sought.made)
    return sought.key, sought.asked, sources, rows


def is_text_alone(text: bytes, *, of_all: bool = False) -> bool:
    """Whether what a file defines depends on nothing but its text. `of_all`: it is the global file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning is to be told at each start
            tree = ast.parse(text)
            compile(tree, "", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, Warning, RecursionError):
        return False
    nodes = list(ast.walk(tree))
    if not all(isinstance(node, _SYNTAX) for node in nodes):
        return False
    entrance: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if node.module == "hakoniwa" and names == ["Haconiwa"] and not node.level:
                entrance.add(node.names[0].asname or "Haconiwa")
            elif node.module != "__future__":
                return False
    return _names_are_known(nodes, entrance, _ENTRANCE[of_all])


def _names_are_known(nodes: list[ast.AST], entrance: set[str], word: str) -> bool:
    """Whether all names and attributes are the file's own or harmless, and `Haconiwa` serves for nothing but one word."""
    names = [node for node in nodes if isinstance(node, ast.Name)]
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    own = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    entered = {id(node.value) for node in attributes if node.attr == word}
    if any(node.id in entrance and id(node) not in entered for node in names):
        return False
    if own & {*_GIVEN, *vars(sys.modules["builtins"])} or any(name.startswith("_") for name in own):
        return False
    return used <= {*own, *entrance, *_GIVEN, *_BUILTINS} and {node.attr for node in attributes} <= _words()


def _words() -> set[str]:
    """What may stand behind a dot: the words of `config` and of its sections, and a few methods."""
    rooms = (bootstrap, callfilter, cgroup, namespace, network, provision, seccomp, settings)
    kinds = [ContainerBuilder, callfilter.FilterBuilder]
    kinds += [
        kind for room in rooms for kind in vars(room).values() if isinstance(kind, type) and issubclass(kind, Section)
    ]
    words = {*SECTIONS, *_TABLES, *_METHODS, *_ENTRANCE.values()}
    for kind in kinds:
        words |= {*getattr(kind, "_checks", ()), *getattr(kind, "_more", ())}
        words |= {name for base in kind.__mro__[:-1] for name in vars(base)}
    return {word for word in words if not word.startswith("_")}


class _Unkept(Exception):
    """A description has something that cannot be written down."""


def rows_of(barn: Barn) -> tuple[Row, ...] | None:
    """The records of a barn, each after those that it holds. None if it holds what only executing the file makes."""
    rows: list[Row] = []
    try:
        for container in barn.containers:
            if not isinstance(container.build.bootstrap.strategy, (str, type(None))) or "hooks" in container.reloadable:
                return None  # hooks that a reload brings are told that this process was begun by a start
            if container.build.bootstrap.strategy not in (None, *SETTINGS):
                return None  # of another package, which may go
        _add(barn, rows)
    except _Unkept:
        return None
    return tuple(rows)


def _add(record: Record, rows: list[Row]) -> int:
    """Add a record, once those that it holds are there, and tell its number."""
    plain, single, several = {}, [], []
    for name, value in vars(record).items():
        if isinstance(value, Record):
            single.append((name, _add(value, rows)))
        elif isinstance(value, tuple) and any(isinstance(item, Record) for item in value):
            several.append((name, tuple(_add(_record(item), rows) for item in value)))
        else:
            plain[name] = _plain(value)
    if isinstance(record, Container):
        plain[WRITTEN] = definition_text(record)
    room = type(record).__module__
    rows.append(("" if room == records.__name__ else room, type(record).__name__, plain, tuple(single), tuple(several)))
    return len(rows) - 1


def _record(value: object) -> Record:
    if not isinstance(value, Record):
        raise _Unkept
    return value


def _plain(value: Any) -> Any:
    """A value as `marshal` writes it and reads it again: of exactly these kinds."""
    if type(value) is RootPath:
        return str.__str__(value)
    if type(value) is dict:
        return {_plain(key): _plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(item) for item in value)
    if value is None or type(value) in (bool, int, float, str):
        if type(value) is str and " object at 0x" in value:
            raise _Unkept  # where something lay in memory
        return value
    raise _Unkept
