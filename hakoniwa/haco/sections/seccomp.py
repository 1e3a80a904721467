"""`config.seccomp`: the profile, and filters of the file's own on top of it."""

from __future__ import annotations

from hakoniwa.haco.reading import Reading
from hakoniwa.haco.sections.section import Section
from hakoniwa.spec.held import Seccomp
from hakoniwa.spec.rules import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Self

    from hakoniwa.haco.sections.callfilter import FilterBuilder

_DEFAULTS = ("allow", "errno", "kill", "trap", "log")


def _profile(value: object) -> str | None:
    return None if value is None else checks.path(value)


class SeccompSection(Section):
    """`config.seccomp`."""

    _word = "config.seccomp"
    _checks = {"profile": _profile}
    _defaults = {"profile": "default"}

    if TYPE_CHECKING:
        profile: str | os.PathLike[str] | None
        """"default", None, or the path of a profile in Docker's JSON format."""

    _filters: list[FilterBuilder]

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.__dict__["_filters"] = []

    def filter(self, default: str = "allow", errno: str | int = "EPERM") -> FilterBuilder:
        """A filter of the file's own: `default` is what becomes of a call that no rule names."""
        self._must_be_open()
        word = self._reading.check(f"{self._word}.filter(default=)", checks.word_of(*_DEFAULTS), default, "allow")
        from hakoniwa.haco.sections.callfilter import FilterBuilder, error_number

        number = self._reading.check(f"{self._word}.filter(errno=)", error_number, errno, 1)
        builder = FilterBuilder(self, word, number)
        self._filters.append(builder)
        return builder

    def _copy(self) -> Self:
        twin = super()._copy()
        twin._filters.extend(mine.copy_for(twin) for mine in self._filters)
        return twin

    def _build(self) -> Seccomp:
        filters = tuple(builder._build() for builder in self._filters)
        profile = self._values.get("profile", "default")  # by its name, or else by its path
        if profile not in (None, "default"):
            profile = self._beside(profile)
        return Seccomp(profile=profile, filters=filters, where=self._place("profile"))
