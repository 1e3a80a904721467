"""`config.bootstrap`: how a rootfs comes to be."""

from __future__ import annotations

from hakoniwa import trust
from hakoniwa.haco.reading import Reading, short
from hakoniwa.haco.sections.section import Section
from hakoniwa.spec.records import Hook
from hakoniwa.spec.rules import buildchecks, checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from hakoniwa.haco.sections.strategysettings import StrategySettings
else:
    StrategySettings = object

_COMMON = ("strategy", "cache", "skip")


def _strategy(value: object) -> object:
    try:
        return buildchecks.strategy(value)
    except checks.Wrong:
        from hakoniwa.haco.haconiwa import STRATEGIES

        if isinstance(value, str) and value in STRATEGIES:
            raise checks.Wrong("a strategy of hakoniwa", f"write {STRATEGIES[value]!r}") from None
        raise


def load_installed(name: str) -> object:
    """The strategy of another package. Raises Distrust, and whatever its import raises."""
    from importlib import import_module
    from importlib.metadata import entry_points
    from importlib.util import find_spec

    (point, *_) = entry_points(group=buildchecks.PLUGINS, name=name)
    if trust.is_strict():
        parts = point.module.split(".")
        for number in range(1, len(parts) + 1):
            module = ".".join(parts[:number])
            spec = find_spec(module)
            if spec is not None and spec.has_location and spec.origin is not None:
                trust.check(spec.origin)
            import_module(module)
    found = point.load()
    return found() if isinstance(found, type) else found


class BootstrapSection(Section, StrategySettings):
    """`config.bootstrap`."""

    _word = "config.bootstrap"
    _checks = {"strategy": _strategy, "cache": checks.flag, "skip": checks.flag, **buildchecks.CHECKS}
    _defaults = {"skip": False}

    if TYPE_CHECKING:
        strategy: object
        """The name of a strategy, such as "host", or that of a package; or an object."""
        cache: bool | None
        """Whether what is made is kept as a layer; None: as is usual for the strategy."""
        skip: bool
        """Whether a sibling that shares the rootfs makes it."""
        options: dict[str, Any] | None
        """What a strategy of another package is told."""

    _later = buildchecks.LATER
    _after: list[Hook]

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.__dict__["_after"] = []

    def postprocess(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Run `function(boot)` on the complete rootfs, before it is put in place."""
        self._must_be_open()
        if not callable(function):
            self._reading.stop(f"{self._word}.postprocess must get a function, not {short(function)}")
        self._reading.must_take(function, "postprocess function", ("boot",))
        self._after.append(Hook(point="postprocess", function=function, where=self._reading.here()))
        return function

    def _copy(self) -> Self:
        twin = super()._copy()
        twin._after.extend(self._after)
        return twin

    def _settings(self, beside: Callable[[str], str]) -> dict[str, Any]:
        """What the strategy is told. `beside` makes a path relative to the container file absolute."""
        settings = {name: checks.deep_copy(value) for name, value in self._values.items() if name not in _COMMON}
        for name in buildchecks.of_kind(self.strategy, "archive"):
            if (archive := settings.get(name)) and not archive.startswith(buildchecks.URLS):
                settings[name] = beside(archive)
        for name in buildchecks.of_kind(self.strategy, "repository"):
            if (url := settings.get(name)) and "://" not in url and ":" not in url.partition("/")[0]:
                settings[name] = f"file://{beside(url)}"  # so that it can be shallow, as `man 1 git-clone` has it
        return settings
