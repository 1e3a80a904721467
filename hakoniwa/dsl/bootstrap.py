"""`config.bootstrap` and `config.provision`: how a rootfs comes to be."""

from __future__ import annotations

from hakoniwa.dsl import checks
from hakoniwa.dsl.section import Reading, Section, short
from hakoniwa.dsl.unsupported import refuse
from hakoniwa.errors import nearest
from hakoniwa.spec import Hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

STRATEGIES = ("host", "tarball", "shell", "recipe", "python")
LATER_STRATEGIES = ("lxc", "debootstrap", "git")

# The setting that a strategy cannot do without.
NEEDED = {"tarball": "archive_path", "shell": "code", "recipe": "recipe", "python": "code"}


def _strategy(value: object) -> object:
    if isinstance(value, str):
        if value in STRATEGIES or value in LATER_STRATEGIES:
            return value
        raise checks.Wrong(f"a strategy; {nearest(value, [*STRATEGIES, *LATER_STRATEGIES])}")
    if callable(getattr(value, "bootstrap", None)):
        return value
    raise checks.Wrong("the name of a strategy, or an object with a bootstrap(boot) method")


def _code(value: object) -> object:
    return value if callable(value) else checks.text(value)


class BootstrapSection(Section):
    """`config.bootstrap`."""

    _word = "config.bootstrap"
    _checks = {
        "strategy": _strategy,
        "archive_path": checks.path,
        "tar_options": checks.text_list,
        "code": _code,
        "recipe": checks.name,
        "skip": checks.flag,
        # Of strategies that are named in STRATEGIES' company only later; see _build.
        **dict.fromkeys(("os_type", "project_name", "debian_release", "variant", "mirror_url", "arch"), checks.text),
        **dict.fromkeys(("git_url", "git_ref"), checks.text),
        **dict.fromkeys(("components", "git_options"), checks.text_list),
    }
    _defaults = {"tar_options": (), "skip": False}
    _after: list[Hook]

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.__dict__["_after"] = []

    def postprocess(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Run `function(boot)` on the complete rootfs, before it is put in place."""
        self._must_be_open()
        if not callable(function):
            self._reading.stop(f"{self._word}.postprocess must get a function, not {short(function)}")
        self._after.append(Hook(point="postprocess", function=function, where=self._reading.here()))
        return function

    def _copy(self) -> Self:
        twin = super()._copy()
        twin._after.extend(self._after)
        return twin

    def _validate(self) -> None:
        """What holds between the settings."""
        strategy = self.strategy
        if strategy in LATER_STRATEGIES:
            hint = f"supported: {' '.join(STRATEGIES)}"
            self._reading.problem(f"strategy {strategy!r} is not supported yet", hint, self._place("strategy"))
            return
        needed = NEEDED.get(strategy) if isinstance(strategy, str) else None
        if needed and not getattr(self, needed):
            self._reading.problem(
                f"strategy {strategy!r} needs {self._word}.{needed}", "set it", where=self._place("strategy")
            )
        for name in self._values:
            if name not in ("strategy", "skip", needed) and (name, strategy) != ("tar_options", "tarball"):
                self._reading.problem(
                    f"{self._word}.{name} means nothing to strategy {strategy!r}", "remove it", self._place(name)
                )


class ProvisionSection(Section):
    """`config.provision`: understood, and not carried out yet."""

    _word = "config.provision"
    _checks = {"skip": checks.flag}
    _defaults = {"skip": False}

    def run_shell(self, text: str, *, name: str | None = None, sh: str = "/bin/sh") -> None:
        """Run a shell text inside the rootfs."""
        refuse(self._reading, "config.provision.run_shell()")

    def run_python(self, function: Callable[..., Any], *, name: str | None = None) -> None:
        """Run a function inside the rootfs."""
        refuse(self._reading, "config.provision.run_python()")

    def copy(self, src: str, dst: str) -> None:
        """Copy a file into the rootfs."""
        refuse(self._reading, "config.provision.copy()")
