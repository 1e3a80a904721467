"""The machinery of the builders: settings that are checked as they are written, and the place where that was."""

from __future__ import annotations

import os

from hakoniwa.errors import nearest
from hakoniwa.haco.reading import Reading, refuse, short
from hakoniwa.spec.rules.checks import Wrong, deep_copy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, ClassVar, NoReturn, Self

    _Dict = dict[str, Any]
else:
    _Dict = dict


class Section:
    """One group of settings: `_checks` names them, `_defaults` holds what they are when nothing is written.

    A method of a subclass is a word of the file. Attributes that begin with `_` are not.
    """

    _word: ClassVar[str] = "config"
    _checks: ClassVar[dict[str, Callable[[Any], Any]]] = {}
    _defaults: ClassVar[dict[str, Any]] = {}
    _more: ClassVar[tuple[str, ...]] = ()  # words that are there once they are used
    _later: ClassVar[tuple[str, ...]] = ()  # words that this version does not carry out yet

    _reading: Reading
    _values: dict[str, Any]
    _places: dict[str, str]

    def __init__(self, reading: Reading) -> None:
        self.__dict__.update(_reading=reading, _values={}, _places={})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def _get(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self._later:
            from hakoniwa.haco.unsupported import Unsupported

            return Unsupported(self._reading, f"{self._word}.{name}")
        if name not in self._checks:
            self._unknown(name)
        return self._values.get(name, self._defaults.get(name))

    def _set(self, name: str, value: object) -> None:
        if name not in self._checks:
            if hasattr(type(self), name) and not name.startswith("_"):
                self._reading.stop(f"{self._word}.{name} cannot be assigned", f"call {self._word}.{name}()")
            if name not in self._later:
                self._unknown(name)
            refuse(self._reading, f"{self._word}.{name}")
            return
        self._write(name, value)

    if not TYPE_CHECKING:  # which sees the settings that sections declare, and no others
        __getattr__, __setattr__ = _get, _set

    def __delattr__(self, name: str) -> None:
        self._reading.stop(f"{self._word}.{name} cannot be deleted", "write another value")

    def _write(self, name: str, value: object) -> None:
        self._must_be_open()
        place = self._reading.here()
        try:
            self._values[name] = self._checks[name](value)
            self._places[name] = place
        except Wrong as wrong:
            told = f"{self._word}.{name} must be {wrong}, not {short(value)}"
            self._reading.problem(told, wrong.hint, where=place)

    def _must_be_open(self) -> None:
        if not self._reading.open:
            self._reading.stop("the description is closed", "write this inside the `with Haconiwa.define()` block")

    def _unknown(self, name: str) -> NoReturn:
        from hakoniwa.haco.haconiwa import of_a_section

        if hint := of_a_section(self._word, name):
            self._reading.stop(f"{self._word}.{name} is a word of haconiwa only", hint)
        words = [*dir(type(self)), *self.__dict__, *self._more]
        known = [*self._checks, *(word for word in words if not word.startswith("_"))]
        self._reading.stop(f"{self._word}.{name} is unknown", nearest(name, known))

    def _place(self, *names: str) -> str:
        """Where the first of these settings that the file has was written, else the file."""
        for name in names:
            if name in self._places:
                return self._places[name]
        return self._reading.shown

    def _beside(self, path: str) -> str:
        """A path relative to the container file's folder, made absolute."""
        return os.path.normpath(os.path.join(os.path.dirname(self._reading.file), path))

    def _copy(self) -> Self:
        """A builder with the same settings, for a child of the barn."""
        twin = type(self)(self._reading)
        twin._values.update({name: deep_copy(value) for name, value in self._values.items()})
        twin._places.update(self._places)
        return twin


class Table(_Dict):
    """A dict setting whose items are checked where they are written."""

    def __init__(self, section: Section, setting: str, check: Callable[[object, object], object]) -> None:
        super().__init__()
        self.section = section
        self.setting = setting
        self.check = check

    def __setitem__(self, key: str, value: object) -> None:
        self.section._must_be_open()
        try:
            super().__setitem__(key, deep_copy(self.check(key, value)))
        except Wrong as wrong:
            word = f"{self.section._word}.{self.setting}[{short(key)}]"
            self.section._reading.problem(f"{word} must be {wrong}, not {short(value)}", wrong.hint)

    def update(self, *others: Any, **items: Any) -> None:
        """As `dict.update`, each item checked."""
        for key, value in dict(*others, **items).items():
            self[key] = value

    def setdefault(self, key: str, default: Any = None) -> Any:
        """As `dict.setdefault`, the item checked."""
        if key not in self:
            self[key] = default
        return self.get(key)

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self

    def replace(self, value: object) -> None:
        """What assigning a whole dict does."""
        if not isinstance(value, dict):
            self.section._reading.problem(f"{self.section._word}.{self.setting} must be a dict, not {short(value)}")
            return
        items = dict(value)  # first: `|=` assigns the table to itself
        self.clear()
        self.update(items)
