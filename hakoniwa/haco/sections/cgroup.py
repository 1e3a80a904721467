"""`config.cgroup` and `config.limit()`: what a container may use."""

from __future__ import annotations

from hakoniwa.haco.reading import Reading, short
from hakoniwa.haco.sections.section import Section
from hakoniwa.spec.held import Cgroup, Parameter
from hakoniwa.spec.rules import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

# What `limit()` takes, in its order.
LIMITED: dict[str, Callable[[object], Any]] = {
    "memory": checks.memory_size,
    "cpus": checks.cpus,
    "pids": checks.processes,
}


class _Parameters(Section):
    """The parameters of one version of cgroups."""

    _parameters: dict[str, Parameter]

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.__dict__["_parameters"] = {}

    def __setitem__(self, name: str, value: int | str) -> None:
        self._must_be_open()
        known = self._reading.check(f"{self._word}[{short(name)}]", checks.parameter_name, name)
        text = self._reading.check(f"{self._word}[{short(name)}]", checks.parameter_value, value)
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


class V2Section(_Parameters):
    """`config.cgroup.v2`."""

    _word = "config.cgroup.v2"
    _checks = {"assign_only": checks.flag}
    _defaults = {"assign_only": False}

    if TYPE_CHECKING:
        assign_only: bool
        """Whether a group without parameters is made, or one that exists is joined."""


class CgroupSection(_Parameters):
    """`config.cgroup`: parameters of the first version, and the name of the group."""

    _word = "config.cgroup"
    _checks = {"name": checks.group_name}
    _more = ("v2",)

    if TYPE_CHECKING:
        name: str | None
        """What the group is called after `hakoniwa-`."""

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
