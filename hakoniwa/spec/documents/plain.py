"""Specs as what JSON can say, and back: `to_plain` and `from_plain`.

A published document has the settings of a barn, and no functions. What the engine passes to itself (`functions=`) has all of
the records, with each function as {"file", "line", "name"}. Fields that are as they would be anyway are left out.
"""

from __future__ import annotations

from hakoniwa.errors import HakoError, Problems, closest
from hakoniwa.record import Record, Unreadable
from hakoniwa.recordreader import must_be_shallow, shown
from hakoniwa.spec.complete import complete, complete_container
from hakoniwa.spec.documents.shapes import published, shapes_of
from hakoniwa.spec.functions import name_function, without_functions
from hakoniwa.spec.records import Barn, Bootstrap, Container
from hakoniwa.spec.rules import buildchecks, values
from hakoniwa.spec.rules.checks import Wrong
from hakoniwa.spec.rules.fieldchecks import checks_of
from hakoniwa.spec.rules.rules import rules_of_all, rules_of_one, rules_of_sharing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hakoniwa.spec.documents.shapes import Shape

    Resolve = Callable[[dict[str, Any]], Callable[..., Any]]

SCHEMA = 1  # of the document; to be raised with each change that an older hakoniwa would misread
_MOST_PROBLEMS = 100  # that are told of one document
_WRONG: Any = object()
_NO_DEFAULT = object()


class Twice(dict[str, object]):
    """An object of JSON that has a name more than once, as `document.py` reads it."""

    names: tuple[str, ...] = ()


# Writing


def to_plain(barn: Barn, *, functions: bool = False) -> dict[str, Any]:
    """A barn as a document: as it is published, or with `functions` all of it.

    Raises HakoError for a function that cannot be named by its file and line, and for an object that is a strategy.
    """
    if not functions:
        barn, _ = without_functions(barn)
        barn = barn.replace(origin=barn.origin or barn.file)
    return {"schema": SCHEMA, **_plain_record(barn, functions, "")}


def _plain_record(record: Record, functions: bool, where: str) -> dict[str, Any]:
    kind = type(record)
    where = getattr(record, "where", "") or where
    found = {}
    for name in shapes_of(kind) if functions else published(kind):
        value = getattr(record, name)
        default = getattr(kind, name, _NO_DEFAULT)
        if value != default:
            plain = _plain_value(value, functions, where)
            if plain or not isinstance(default, Record):  # it may differ by what is not published alone
                found[name] = plain
    return found


def _plain_value(value: Any, functions: bool, where: str) -> Any:
    if isinstance(value, Record):
        return _plain_record(value, functions, where)
    if isinstance(value, dict):
        return {str(key): _plain_value(item, functions, where) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_value(item, functions, where) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str(value)
    if callable(getattr(value, "bootstrap", None)):
        told = f"the strategy {type(value).__qualname__!r} is an object, which cannot be passed on"
        raise HakoError(told, where=where, hint="bring it as an entry point of a package")
    return name_function(value, where)


# Reading


def from_plain(value: object, *, called: str = "", functions: Resolve | None = None) -> Barn:
    """The barn that a document describes, complete and checked; `functions` makes a function of what names it.

    `called` is what errors call the document. Raises Problems with everything that is wrong in it.
    """
    reading = _Reading(called, functions)
    try:
        must_be_shallow(value)
    except Unreadable as problem:
        raise HakoError(problem.wrong, where=called) from None
    if not isinstance(value, dict):
        reading.wrong("", f"must be an object, not {_shown(value)}")
        raise Problems(reading.problems)
    schema = value.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        newer = type(schema) is int and schema > SCHEMA
        hint = "a later version of hakoniwa has written it" if newer else f'begin with "schema": {SCHEMA}'
        reading.wrong("schema", f"must be {SCHEMA}, not {_shown(schema)}" if "schema" in value else "is missing", hint)
        raise Problems(reading.problems)
    barn = reading.record(Barn, {name: item for name, item in value.items() if name != "schema"}, "", value)
    if barn is not _WRONG:
        reading.note_rules(barn)
        barn = complete(barn)
    if reading.problems:
        raise Problems(reading.told())
    found: Barn = barn
    return found


class _Reading:
    """The reading of one document: what is wrong with it, by the paths in it."""

    def __init__(self, called: str, functions: Resolve | None) -> None:
        self.called = called
        self.functions = functions
        self.problems: list[HakoError] = []

    def place(self, path: str) -> str:
        """What an error, now or at the start, calls the value at a path."""
        return ": ".join(part for part in (self.called, path) if part)

    def wrong(self, path: str, message: str, hint: str = "") -> Any:
        """Note a problem. Returns what stands for a value that cannot be read."""
        self.problems.append(HakoError(message, where=self.place(path), hint=hint))
        return _WRONG

    def told(self) -> list[HakoError]:
        """The problems, without those that would be too many to read."""
        more = len(self.problems) - _MOST_PROBLEMS
        return [
            *self.problems[:_MOST_PROBLEMS],
            *([HakoError(f"and {more} more", where=self.called)] if more > 0 else []),
        ]

    def note_rules(self, barn: Barn) -> None:
        """Note what containers cannot have in common."""
        if not barn.containers and not barn.keep:
            self.wrong("containers", "must have a container", 'or have "keep": true, to get some later')
        for problem in rules_of_sharing(barn.shared):
            self.wrong(f"shared.{problem.path}", problem.message, problem.plainly)
        if len(barn.containers) != 1 and not barn.name:
            which = "several containers need a name for all of them" if barn.containers else "there is no container's"
            self.wrong("name", f"is missing: {which}")
        for problem in rules_of_all(complete(barn)):
            self.wrong(f"containers[{problem.container}].{problem.path}", problem.message, problem.plainly)

    def record(self, kind: type[Record], value: object, path: str, whole: object = None) -> Any:
        """The record that an object is."""
        if not isinstance(value, dict):
            return self.wrong(path, f"must be an object, not {_shown(value)}")
        self._note_twice(value if whole is None else whole, path)
        shapes = shapes_of(kind) if self.functions else published(kind)
        before = len(self.problems)
        for name in value:
            if name not in shapes:
                self._unknown(name, path, shapes)
        checks = checks_of(kind)
        fields = {}
        for name, shape in shapes.items():
            if name in value:
                fields[name] = self._checked(
                    self.value(shape, value[name], _join(path, name)), checks.get(name), path, name
                )
            elif not hasattr(kind, name):
                self.wrong(_join(path, name), "is missing")
        if kind is Bootstrap and fields.get("settings", _WRONG) is not _WRONG:
            fields["settings"] = self._settings(fields["settings"], _join(path, "settings"))
        if len(self.problems) > before:
            return _WRONG
        made = kind(**fields, **self._places(kind, fields, value, path))
        if isinstance(made, Container):
            for problem in rules_of_one(complete_container(made)):
                self.wrong(f"{path}.{problem.path}", problem.message, problem.plainly)
        return made

    def _note_twice(self, value: object, path: str) -> None:
        for name in value.names if isinstance(value, Twice) else ():
            self.wrong(_join(path, name), "is there twice")

    def _unknown(self, name: str, path: str, shapes: dict[str, Shape]) -> None:
        hint = closest(name, list(shapes))
        if name in ("hooks", "postprocess", "function", "real_id_check"):
            self.wrong(_join(path, name), "is about functions, which a document cannot say", "use a container file")
        else:
            self.wrong(_join(path, name), "is unknown", hint or f"known: {' '.join(shapes)}")

    def _checked(self, value: Any, check: Callable[[Any], Any] | None, path: str, name: str) -> Any:
        if value is _WRONG or check is None:
            return value
        try:
            return check(value)
        except values.WrongInside as wrong:
            inside = wrong.inside
            place = f"{_join(path, name)}[{inside}]" if isinstance(inside, int) else _join(_join(path, name), inside)
            return self.wrong(place, f"must be {wrong}, not {_shown(wrong.value)}", wrong.hint)
        except Wrong as wrong:
            return self.wrong(_join(path, name), f"must be {wrong}, not {_shown(value)}", wrong.hint)

    def _settings(self, settings: dict[str, Any], path: str) -> dict[str, Any]:
        """The settings of a strategy, each checked as a container file's is."""
        found = {}
        for name, value in settings.items():
            if self.functions and name == "code" and isinstance(value, dict):
                found[name] = self.value(_FUNCTION, value, _join(path, name))
                continue
            try:
                found[name] = values.setting(name, value)
            except KeyError:
                self.wrong(_join(path, name), "is unknown", closest(name, list(buildchecks.CHECKS)))
            except Wrong as wrong:
                self.wrong(_join(path, name), f"must be {wrong}, not {_shown(value)}", wrong.hint)
        return found

    def _places(self, kind: type[Record], fields: dict[str, Any], value: dict[str, Any], path: str) -> dict[str, Any]:
        """Where a record was written, for what a start has to say of it: as far as it does not say so itself."""
        found: dict[str, Any] = {}
        if "where" in kind._fields and "where" not in fields:
            found["where"] = self.place(path)
        if "places" in kind._fields and "places" not in fields:
            found["places"] = {
                word: self.place(f"{path}.{setting}") for word, setting in _PLACES.items() if _has(value, setting)
            }
        return found

    def value(self, shape: Shape, value: Any, path: str) -> Any:
        """A value of some shape."""
        kind = _KINDS.get(type(value))
        if kind in shape.scalars or (kind == "int" and "float" in shape.scalars):
            return value if _is_sane(value) else self.wrong(path, f"must be {_wanted(shape)}, not {_shown(value)}")
        if isinstance(value, dict) and (known := shape.record) is not None:
            return self.record(known, value, path)
        if shape.each is not None and type(value) is list:
            return self._all([self.value(shape.each, item, f"{path}[{n}]") for n, item in enumerate(value)])
        if shape.row and type(value) is list and len(value) == len(shape.row):
            pairs = enumerate(zip(shape.row, value, strict=True))
            return self._all([self.value(each, item, f"{path}[{n}]") for n, (each, item) in pairs])
        if shape.named is not None and isinstance(value, dict):
            self._note_twice(value, path)
            items = {name: self.value(shape.named, item, _join(path, name)) for name, item in value.items()}
            return _WRONG if any(item is _WRONG for item in items.values()) else items
        if shape.function and isinstance(value, dict) and self.functions is not None:
            return self._function(value, path)
        if shape.anything:
            return self._anything(value, path)
        return self.wrong(path, f"must be {_wanted(shape)}, not {_shown(value)}")

    def _all(self, items: list[Any]) -> Any:
        return _WRONG if any(item is _WRONG for item in items) else tuple(items)

    def _function(self, value: dict[str, Any], path: str) -> Any:
        assert self.functions is not None
        if set(value) != {"file", "line", "name"}:
            return self.wrong(path, "must name a function by file, line and name")
        try:
            return self.functions(value)
        except HakoError as error:
            return self.wrong(path, error.message, error.hint)

    def _anything(self, value: Any, path: str) -> Any:
        """A value of any kind; what is in it is for checks, but for names that are there twice."""
        inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        if isinstance(value, dict):
            self._note_twice(value, path)
        for name, item in inside:
            self._anything(item, _join(path, str(name)))
        return dict(value) if isinstance(value, dict) else value


class _FunctionShape:
    scalars: tuple[str, ...] = ()
    record = each = named = None
    has_record = staticmethod(lambda: False)
    row = ()
    function, anything, annotation = True, False, "a function"


_FUNCTION: Any = _FunctionShape()
_KINDS: dict[type, str] = {type(None): "None", bool: "bool", int: "int", float: "float", str: "str"}
_WORDS = {"None": "null", "bool": "true or false", "int": "a whole number", "float": "a number", "str": "a string"}
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1

# Settings that a start may have something to say of, by the words that it looks them up with (`Container.place`).
_PLACES = {
    "name": "name",
    "init_command": "process.command",
    **{word: f"process.{word}" for word in ("init", "workdir", "uid", "gid", "groups")},
    "container_pid_file": "container_pid_file",
    "lxcfs_root": "files.lxcfs_root",
    "network_etc": "files.network_etc",
    "apparmor": "security.apparmor",
    "nice": "resources.scheduling.nice",
    "sched": "resources.scheduling.policy",
    "oom_score_adj": "resources.scheduling.oom_score_adj",
    **{word: f"resources.cgroup.{word}" for word in ("memory", "cpus", "pids")},
    "pid": "namespaces.own",
    "cgroup": "namespaces.own",
}


def _has(value: Any, setting: str) -> bool:
    for name in setting.split("."):
        if not isinstance(value, dict) or name not in value:
            return False
        value = value[name]
    return True


def _is_sane(value: object) -> bool:
    """Whether a scalar is one that the kernel, and other readers of JSON, could take."""
    if isinstance(value, (int, float)):
        return _SMALLEST <= value <= _LARGEST
    if isinstance(value, str):
        return "\0" not in value
    return True


def _wanted(shape: Shape) -> str:
    """What a shape takes, in words."""
    words = [_WORDS[kind] for kind in shape.scalars if kind != "None"]
    if shape.has_record() or shape.named is not None:
        words.append("an object")
    if shape.each is not None or shape.row:
        words.append(f"a list of {len(shape.row)}" if shape.row else "a list")
    if shape.function:
        words.append("a function")
    return " or ".join([*words, *(["null"] if "None" in shape.scalars else [])])


def _join(path: str, name: str) -> str:
    """The path of a member."""
    if name.isascii() and name.replace("_", "a").replace("-", "a").isalnum():
        return f"{path}.{name}" if path else name
    return f"{path}[{_shown(name)}]"


def _shown(value: object) -> str:
    return f"{shown(list(value))}" if isinstance(value, tuple) else shown(value)
