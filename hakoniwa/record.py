"""Frozen records: the plain data that descriptions and plans are made of, and that is written down and read again.

A stand-in for `dataclasses`, whose import alone takes longer than the start of a container (docs/performance.md).
Type checkers treat a subclass as a frozen dataclass with keyword-only arguments (PEP 681).

`recordreader.read` makes a record of what JSON has said.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self, dataclass_transform
else:

    def dataclass_transform(**_options):
        return lambda cls: cls


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Record:
    """Fields are the annotations of the subclass; a class attribute is a field's default."""

    _fields: tuple[str, ...] = ()
    _whole = ""  # the field that keeps all that was read, of a record that is a part of something larger

    def __init_subclass__(cls) -> None:
        names = vars(cls)
        annotations = names.get("__annotations__") or {}
        first = next(iter(annotations.values()), "")
        # `read` goes by their texts. Without that import they are values, which Python 3.14 makes when it is asked for them.
        if type(first) is not str or (not annotations and "__annotate_func__" in names):
            raise TypeError(f"{cls.__module__} has a record: begin it with `from __future__ import annotations`")
        own = tuple(name for name in annotations if not name.startswith("_"))
        cls._fields = cls._fields + tuple(name for name in own if name not in cls._fields)

    def __init__(self, **values: Any) -> None:
        fields = self.__dict__
        for name in self._fields:
            if name in values:
                fields[name] = values.pop(name)
            elif not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} lacks {name!r}")
        if values:
            raise TypeError(f"{type(self).__name__} has no {sorted(values)}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot set {name!r}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self._fields)

    __hash__ = None  # type: ignore[assignment]  # fields may hold dicts

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({inside})"

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return type(self)(**{name: getattr(self, name) for name in self._fields} | changes)

    def _plain(self) -> dict[str, Any]:
        """What `read` would make this record of; its values are still as they are."""
        whole: dict[str, Any] | None = getattr(self, self._whole) if self._whole else None
        return {name: getattr(self, name) for name in self._fields} if whole is None else whole

    def _check(self) -> None:
        """Look at what was read, beyond the kinds of values. Raises Unreadable."""


def plain(value: Any) -> Any:
    """`value` as what JSON can say: records become dicts, callables and other objects their name."""
    if isinstance(value, Record):
        return {name: plain(item) for name, item in value._plain().items()}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str(value)
    return getattr(value, "__qualname__", type(value).__qualname__)


class Unreadable(ValueError):
    """Why a value is not the record that it should be."""

    def __init__(self, wrong: str, place: str = "") -> None:
        super().__init__(f"{place}: {wrong}" if place else wrong)
        self.wrong = wrong
        self.place = place

    def below(self, name: str) -> Unreadable:
        """The same, seen from what holds the value as `name`."""
        return Unreadable(self.wrong, f"{name}.{self.place}" if self.place else name)
