"""Records of what JSON has said: every field is checked by its annotation. Nothing else makes a record of such a value."""

from __future__ import annotations

import sys

from hakoniwa.record import Record, Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Of = TypeVar("Of", bound=Record)
    Reader = Callable[[Any], Any]
    Field = tuple[str, tuple[type, ...], Reader]

NESTED = 64  # levels of what may be anything


def read(kind: type[Of], value: object) -> Of:
    """The record that a value of JSON is. Raises Unreadable for a field that is missing, unknown, or of the wrong kind."""
    if type(value) is not dict:
        raise _not("an object", value)
    fields = {}
    for name, kinds, reader in _fields_of(kind):
        item = value.get(name, _MISSING)
        if type(item) in kinds:
            fields[name] = item
        elif item is not _MISSING:
            try:
                fields[name] = reader(item)
            except Unreadable as problem:
                raise problem.below(name) from None
        elif not hasattr(kind, name):
            raise Unreadable(f"lacks {name!r}")
    if kind._whole:
        fields[kind._whole] = must_be_shallow(value)
    elif len(fields) != len(value):
        unknown = next(name for name in value if name not in fields)
        raise Unreadable(f"has an unknown {shown(unknown)}")
    return _made_of(kind, fields)


def read_alike(kind: type[Of], values: list[object]) -> list[Of]:
    """The records that values of JSON are which all have the same fields: many are checked field by field in a part of the time.

    Raises Unreadable if one of them is none, or is not like the others; `read` tells what is wrong with it.
    """
    alike = [value for value in values if type(value) is dict]
    if len(alike) != len(values) or len(set(map(tuple, alike))) != 1:
        raise Unreadable("are not alike")
    columns = dict(zip(alike[0], zip(*map(dict.values, alike), strict=True), strict=True))
    for name, kinds, reader in _fields_of(kind):
        column = columns.pop(name, None)
        if column is None:
            if not hasattr(kind, name):
                raise Unreadable(f"lacks {name!r}")
        elif not set(map(type, column)).issubset(kinds):
            for value, item in zip(alike, column, strict=True):
                value[name] = reader(item)
    if columns or kind._whole:
        raise Unreadable("have more fields")
    return [_made_of(kind, value) for value in alike]


def _made_of(kind: type[Of], fields: dict[str, Any]) -> Of:
    """A record of fields that were looked at, as `__init__` would do once more. Raises Unreadable."""
    record = kind.__new__(kind)
    object.__setattr__(record, "__dict__", fields)
    record._check()
    return record


def read_field(kind: type[Record], name: str, value: object) -> Any:
    """One field of the record that a value of JSON would be, were the rest of it right. Raises Unreadable."""
    if type(value) is not dict or name not in value:
        raise Unreadable(f"lacks {name!r}")
    return next(reader for field, _, reader in _fields_of(kind) if field == name)(value[name])


_MISSING = object()
_made: dict[type[Record], tuple[Field, ...]] = {}
_shared: dict[str, Reader] = {}  # by annotation, of those that name no record: the same in every module


def _fields_of(kind: type[Record]) -> tuple[Field, ...]:
    """The fields of a kind of record, each with the types that need no further look, and what reads any other value.

    They are made from the annotations when they are first asked for.
    """
    fields = _made.get(kind)
    if fields is None:
        above = kind.__base__
        inherited = _fields_of(above) if above not in (None, Record) and issubclass(above, Record) else ()
        found = {name: (name, kinds, reader) for name, kinds, reader in inherited}
        names = vars(sys.modules[kind.__module__])
        for name, annotation in kind.__annotations__.items():
            if name in kind._fields and name != kind._whole:
                found[name] = (name, _taken(annotation), _reader(annotation, names))
        fields = _made[kind] = tuple(found.values())
    return fields


def _taken(annotation: str) -> tuple[type, ...]:
    """The types whose values are what an annotation says, whatever they are; of numbers, not all are."""
    kinds = (kind for choice in split_annotation(annotation, "|") for kind in _KINDS.get(choice, ()))
    return tuple(kind for kind in kinds if kind is not int)


def _reader(annotation: str, names: dict[str, Any]) -> Reader:
    """What reads a value of a type, as annotations write it; records are looked for in `names`, those of a module."""
    if annotation in _shared:
        return _shared[annotation]
    choices = split_annotation(annotation, "|")
    kinds = tuple(kind for choice in choices for kind in _KINDS.get(choice, ()))
    others = [choice for choice in choices if choice not in _KINDS]
    if not others:
        found = _shared[annotation] = _exactly(kinds, annotation)
        return found
    if len(choices) > 1:
        known = {**names.get("ELSEWHERE", {}), **names}
        shown = " | ".join("an object" if choice in known else choice for choice in choices)
        return _any_of(kinds, [_reader(choice, names) for choice in others], shown)
    word, _, inside = annotation.partition("[")
    if word in ("Any", "object"):
        return must_be_shallow
    arguments = split_annotation(inside.removesuffix("]"), ",")
    if word == "Literal":
        return _one_of(tuple(argument.strip("\"'") for argument in arguments))
    if (word == "tuple" and arguments[-1] == "...") or word in ("dict", "Mapping"):
        item = arguments[word != "tuple"]
        found = (_many if word == "tuple" else _named)(_reader(item, names))
        if item in _shared:
            _shared[annotation] = found
        return found
    if annotation not in names:
        return lambda value: read(elsewhere(annotation, names), value)
    kind = names[annotation]
    assert issubclass(kind, Record), f"{annotation} can be read from nothing"
    return lambda value: read(kind, value)


def elsewhere(name: str, names: dict[str, Any]) -> Any:
    """A record that a module knows by the name of another module, and that is loaded when one is read."""
    module = names["ELSEWHERE"][name]
    __import__(module)
    return getattr(sys.modules[module], name)


def split_annotation(text: str, mark: str) -> list[str]:
    """The parts of an annotation between marks that are in no brackets."""
    if "[" not in text or mark not in text:
        return [part.strip() for part in text.split(mark)]
    parts, depth = [""], 0
    for character in text:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == mark and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


_KINDS: dict[str, tuple[type, ...]] = {
    "None": (type(None),),
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "str": (str,),
}
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1  # of the numbers that the kernel takes anywhere


def _exactly(kinds: tuple[type, ...], annotation: str) -> Reader:
    def reader(value: Any) -> Any:
        kind = type(value)  # and not isinstance: True is an int
        if kind not in kinds or (kind is int and not _SMALLEST <= value <= _LARGEST):
            raise _not(annotation, value)
        return value

    return reader


def _any_of(kinds: tuple[type, ...], readers: list[Reader], shown: str) -> Reader:
    def reader(value: Any) -> Any:
        if type(value) in kinds:
            return value
        problem = None
        for choice in readers:
            try:
                return choice(value)
            except Unreadable as error:
                problem = error
        if problem is not None and problem.place:
            raise problem
        raise _not(shown, value)

    return reader


def _one_of(words: tuple[str, ...]) -> Reader:
    def reader(value: Any) -> Any:
        if type(value) is not str or value not in words:
            raise _not(f"one of {' '.join(words)}", value)
        return value

    return reader


def _many(each: Reader) -> Reader:
    def reader(value: Any) -> Any:
        if type(value) is not list:
            raise _not("a list", value)
        try:
            return tuple(map(each, value))
        except Unreadable as problem:
            raise problem.below("[]") from None

    return reader


def _named(each: Reader) -> Reader:
    def reader(value: Any) -> Any:
        if type(value) is not dict:
            raise _not("an object", value)
        found = {}
        for name, item in value.items():
            try:
                found[name] = each(item)
            except Unreadable as problem:
                raise problem.below(name) from None
        return found

    return reader


def must_be_shallow(value: Any) -> Any:
    """A value as it is, unless it is nested so deeply that who goes through it by recursion could not."""
    if not value:
        return value
    level = [value]
    for _ in range(NESTED):
        level = [item for held in level if isinstance(held, _HOLDING) for item in _items(held)]
        if not level:
            return value
    raise Unreadable("is nested too deeply")


_HOLDING = (list, dict)


def _items(held: Any) -> Any:
    return held.values() if isinstance(held, dict) else held


def _not(wanted: str, value: object) -> Unreadable:
    return Unreadable(f"must be {wanted}, not {shown(value)}")


def shown(value: object) -> str:
    """A value as an error shows it."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else ascii(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
