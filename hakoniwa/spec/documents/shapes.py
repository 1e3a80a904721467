"""What the annotation of a record's field says: which values it takes, as a tree that reading, writing and the schema go by."""

from __future__ import annotations

import sys

from hakoniwa.record import Record
from hakoniwa.recordreader import elsewhere, split_annotation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# What of a record is no setting: derived from others, or the place at which something was written, or a function.
UNPUBLISHED = frozenset(
    (
        *("where", "places", "file", "barn", "siblings", "executed", "missed", "label", "layered"),
        *("hooks", "real_id_check", "postprocess", "function"),
    )
)


class Shape:
    """The kinds of values that a field takes: a scalar by its type, and one further kind at most."""

    def __init__(self, annotation: str) -> None:
        self.annotation = annotation
        self.scalars: tuple[str, ...] = ()  # of "None", "bool", "int", "float", "str"
        self.each: Shape | None = None  # of a list
        self.row: tuple[Shape, ...] = ()  # of a list of that many
        self.named: Shape | None = None  # of an object with any names
        self.function = False
        self.anything = False
        self._record: Callable[[], type[Record]] | None = None

    def has_record(self) -> bool:
        """Whether it takes a record, which may not be loaded yet."""
        return self._record is not None

    @property
    def record(self) -> type[Record] | None:
        """The kind of record that it takes."""
        return None if self._record is None else self._record()


def shape_of(annotation: str, names: dict[str, Any]) -> Shape:
    """The shape that an annotation describes; records are looked for in `names`, those of a module."""
    shape = Shape(annotation)
    for choice in split_annotation(annotation, "|"):
        word, _, inside = choice.partition("[")
        arguments = split_annotation(inside.removesuffix("]"), ",")
        if choice in ("None", "bool", "int", "float", "str"):
            shape.scalars += (choice,)
        elif word in ("Any", "object"):
            shape.anything = True
        elif word == "Callable":
            shape.function = True
        elif word == "tuple" and arguments[-1] == "...":
            shape.each = shape_of(arguments[0], names)
        elif word == "tuple":
            shape.row = tuple(shape_of(argument, names) for argument in arguments)
        elif word in ("dict", "Mapping"):
            shape.named = shape_of(arguments[1], names)
        else:
            shape._record = _finder(choice, names)
    return shape


def _finder(name: str, names: dict[str, Any]) -> Callable[[], type[Record]]:
    return lambda: names[name] if name in names else elsewhere(name, names)


_known: dict[type[Record], dict[str, Shape]] = {}


def shapes_of(kind: type[Record]) -> dict[str, Shape]:
    """The shapes of a record's fields, by their names."""
    found = _known.get(kind)
    if found is None:
        found = _known[kind] = {}
        for base in reversed(kind.__mro__):
            if base is not Record and issubclass(base, Record):
                names = vars(sys.modules[base.__module__])
                annotations = base.__annotations__
                found |= {name: shape_of(annotations[name], names) for name in annotations if name in kind._fields}
    return found


def published(kind: type[Record]) -> dict[str, Shape]:
    """The shapes of those fields that a document has."""
    hidden = UNPUBLISHED | {"origin"} if "barn" in kind._fields else UNPUBLISHED
    return {name: shape for name, shape in shapes_of(kind).items() if name not in hidden}
