"""`config.cgroup` and `config.limit()`: what a container may use."""

from __future__ import annotations

from hakoniwa.haco import checks
from hakoniwa.haco.section import Reading, Section, short
from hakoniwa.spec.records import Cgroup, Parameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

_PAGE = 4096  # what the kernel counts memory by
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def _value(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise checks.Wrong("a number or a string, as the kernel takes it")
    return checks.text(str(value))


def _parameter(name: object) -> str:
    word = checks.text(name)
    controller, dot, rest = word.partition(".")
    if not (controller and dot and rest) or not all(c.isascii() and (c.isalnum() or c in "_.-") for c in word):
        raise checks.Wrong('the name of a parameter, such as "memory.limit_in_bytes"')
    return word


def memory_size(value: object) -> int:
    """Bytes: a number, or a string such as `"512M"` (powers of 1024)."""
    if isinstance(value, str):
        text = value.upper().removesuffix("B").removesuffix("I")
        number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS and text[-1:] else (text, "")
        if number.isascii() and number.isdecimal() and len(number) < 20:
            value = int(number) * _UNITS[unit]
    if isinstance(value, bool) or not isinstance(value, int) or not _PAGE <= value < 2**63:
        raise checks.Wrong(f'a number of bytes from {_PAGE} on and below 8E, or a string such as "512M"')
    return value


def _cpus(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.01 <= value <= 10_000:
        raise checks.Wrong("a number of processors from 0.01 on")
    return float(value)


def _group_name(value: object) -> str:
    """The name of a group, or its path below the root of the hierarchy where it exists already."""
    word = checks.text(value)
    parts = word.split("/")
    if not word or any(part in ("", ".", "..") or part.startswith("-") or len(part) > 255 for part in parts):
        raise checks.Wrong("a name, or a path below the root of the hierarchy without '..'")
    if not all(c.isascii() and (c.isalnum() or c in "_.-@:\\/") for c in word):
        raise checks.Wrong("made of A-Z a-z 0-9 and _ . - @ : \\")
    return word


def _processes(value: object) -> int:
    return checks.number_between(value, 1, 1 << 22)  # PID_MAX_LIMIT


# What `limit()` takes, in its order.
LIMITED: dict[str, Callable[[object], Any]] = {"memory": memory_size, "cpus": _cpus, "pids": _processes}


class V2Section(Section):
    """`config.cgroup.v2`."""

    _word = "config.cgroup.v2"
    _checks = {"assign_only": checks.flag}
    _defaults = {"assign_only": False}
    _parameters: dict[str, Parameter]

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.__dict__["_parameters"] = {}

    def __setitem__(self, name: str, value: int | str) -> None:
        self._must_be_open()
        known = self._reading.check(f"{self._word}[{short(name)}]", _parameter, name)
        text = self._reading.check(f"{self._word}[{short(name)}]", _value, value)
        if known is not None and text is not None:
            self._parameters[known] = Parameter(name=known, value=text, where=self._reading.here())

    def __getitem__(self, name: str) -> str:
        if name not in self._parameters:
            self._reading.stop(f"{self._word}[{short(name)}] is not set", "what is in force is read by hooks")
        return self._parameters[name].value

    def _copy(self) -> Self:
        twin = super()._copy()
        twin._parameters.update(self._parameters)
        return twin


class CgroupSection(V2Section):
    """`config.cgroup`: parameters of the first version, and the name of the group."""

    _word = "config.cgroup"
    _checks = {"name": _group_name}
    _defaults = {}
    v2: V2Section
    _limits: dict[str, Any]

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.__dict__.update(v2=V2Section(reading), _limits={})

    def _limit(self, memory: object, cpus: object, pids: object) -> None:
        """What `config.limit()` does."""
        self._must_be_open()
        for (word, check), value in zip(LIMITED.items(), (memory, cpus, pids), strict=True):
            if value is not None:
                checked = self._reading.check(f"config.limit({word}=)", check, value)
                if checked is not None:
                    self._limits[word] = checked
                    self._places[word] = self._reading.here()

    def _copy(self) -> Self:
        twin = super()._copy()
        twin.__dict__["v2"] = self.v2._copy()
        twin._limits.update(self._limits)
        return twin

    def _build(self) -> Cgroup:
        return Cgroup(
            name=self.name,
            v1=tuple(self._parameters.values()),
            v2=tuple(self.v2._parameters.values()),
            memory=self._limits.get("memory"),
            cpus=self._limits.get("cpus"),
            pids=self._limits.get("pids"),
            assign_only=self.v2.assign_only,
            where=self.v2._place("assign_only"),
        )
