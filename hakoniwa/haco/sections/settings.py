"""The sections of a container: rootfs, file system, namespaces, limits, capabilities, redirected streams."""

from __future__ import annotations

from hakoniwa.errors import nearest
from hakoniwa.haco.reading import Reading, short
from hakoniwa.haco.sections.section import Section
from hakoniwa.kernel.security import capabilities
from hakoniwa.spec.held import Capabilities, Limit, Scheduling, Stream
from hakoniwa.spec.rules import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, Self


class RootfsSection(Section):
    """`config.rootfs`."""

    _word = "config.rootfs"
    _checks = {"readonly": checks.flag}
    _defaults = {"readonly": False}

    if TYPE_CHECKING:
        readonly: bool
        """Whether nothing can be written to it; False unless set."""


class FilesystemSection(Section):
    """`config.filesystem`."""

    _word = "config.filesystem"
    _checks = {"use_legacy_chroot": checks.flag}
    _defaults = {"use_legacy_chroot": False}

    if TYPE_CHECKING:
        use_legacy_chroot: bool
        """`chroot` in the place of `pivot_root`: no boundary against root."""

    _masked: list[str]
    _readonly: list[str]

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.__dict__.update(_masked=[], _readonly=[])

    def add_masked_path(self, path: str) -> None:
        """Hide a path of the container."""
        self._add(self._masked, "add_masked_path", path)

    def add_readonly_path(self, path: str) -> None:
        """Make a path of the container, and what is mounted below it, read-only."""
        self._add(self._readonly, "add_readonly_path", path)

    def _add(self, paths: list[str], word: str, path: str) -> None:
        self._must_be_open()
        if checked := self._reading.check(f"{self._word}.{word}()", checks.absolute_path, path):
            paths.append(checked)

    def _copy(self) -> Self:
        twin = super()._copy()
        twin._masked.extend(self._masked)
        twin._readonly.extend(self._readonly)
        return twin


class ResourceSection(Section):
    """`config.resource`."""

    _word = "config.resource"
    _checks = {"nice": checks.nice, "sched": checks.policy, "oom_score_adj": checks.oom_score_adj}

    if TYPE_CHECKING:
        nice: int | None
        """The nice value, from -20 to 19."""
        sched: str | None
        """The scheduling policy: other, batch, idle, fifo:N or rr:N."""
        oom_score_adj: int | None
        """What is added to the score by which the kernel chooses what to end when memory is short."""

    _limits: dict[str, Limit]

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.__dict__["_limits"] = {}

    def set_limit(self, name: str, soft: int | str, hard: int | str | None = None) -> None:
        """Set a resource limit (`man 2 getrlimit`); the hard one is the soft one where it is left out."""
        self._must_be_open()
        word = str(name).upper().removeprefix("RLIMIT_")
        if word not in checks.LIMITS:
            self._reading.problem(f"resource {short(name)} is unknown", nearest(word, checks.LIMITS))
            return
        setting = f"{self._word}.set_limit({word})"
        lower = self._reading.check(setting, checks.resource_limit, soft)
        upper = lower if hard is None else self._reading.check(setting, checks.resource_limit, hard)
        if lower is None or upper is None:
            return
        if upper != -1 and (lower == -1 or lower > upper):
            self._reading.problem(f"{setting}: the soft limit {soft!r} is above the hard limit {hard!r}", "swap them")
            return
        self._limits[word] = Limit(name=word, soft=lower, hard=upper, where=self._reading.here())

    def _unknown(self, name: str) -> NoReturn:
        if name.upper() in checks.LIMITS:
            told = f"{self._word}.{name} is set otherwise"
            self._reading.stop(told, f'write {self._word}.set_limit("{name.upper()}", SOFT, HARD)')
        super()._unknown(name)

    def _scheduling(self) -> Scheduling:
        return Scheduling(
            nice=self.nice,
            policy=self.sched,
            oom_score_adj=self.oom_score_adj,
            where=self._place("oom_score_adj", "sched", "nice"),
        )

    def _copy(self) -> Self:
        twin = super()._copy()
        twin._limits.update(self._limits)
        return twin


class CapabilitiesSection(Section):
    """`config.capabilities`."""

    _word = "config.capabilities"
    _state: dict[str, Any]

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.__dict__["_state"] = {"everything": False, "named": [], "dropped": []}

    def allow(self, *names: str) -> None:
        """Add capabilities to the default ones; "all" is everything that the caller has."""
        for name in self._known(names):
            self._places[name] = self._reading.here()
            if name == "all":
                self._state.update(everything=True, dropped=[])
                continue
            self._state["named"] = [*(x for x in self._state["named"] if x != name), name]
            self._state["dropped"] = [x for x in self._state["dropped"] if x != name]

    def drop(self, *names: str) -> None:
        """Take capabilities away; "all" takes every one."""
        for name in self._known(names):
            every = capabilities.NAMES if name == "all" else [name]
            if name == "all":
                self._state["everything"] = False
            self._state["named"] = [x for x in self._state["named"] if x not in every]
            self._state["dropped"] = [*(x for x in self._state["dropped"] if x not in every), *every]

    def reset_to_privileged(self) -> None:
        """All that the caller has."""
        self.allow("all")

    def _known(self, names: tuple[str, ...]) -> list[str]:
        self._must_be_open()
        self._places["names"] = self._reading.here()
        known = []
        for name in names:
            try:
                known.append("all" if str(name).lower() == "all" else capabilities.normal(str(name)))
            except ValueError:
                self._reading.problem(f"capability {short(name)} is unknown", capabilities.suggest(str(name)))
        return known

    def _build(self) -> Capabilities:
        state = self._state
        return Capabilities(
            everything=state["everything"],
            named=tuple(state["named"]),
            dropped=tuple(state["dropped"]),
            where=self._place("names"),
        )

    def _copy(self) -> Self:
        twin = super()._copy()
        twin.__dict__["_state"] = dict(self._state)
        return twin


class CommandSection(Section):
    """`config.command`."""

    _word = "config.command"
    _streams: dict[int, Stream]

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.__dict__["_streams"] = {}

    def set_stdin(self, *, file: str | None = None, host_file: str | None = None) -> None:
        """Read standard input from a file."""
        self._lead(0, "set_stdin", file, host_file)

    def set_stdout(self, *, file: str | None = None, host_file: str | None = None) -> None:
        """Append standard output to a file."""
        self._lead(1, "set_stdout", file, host_file)

    def set_stderr(self, *, file: str | None = None, host_file: str | None = None) -> None:
        """Append standard error to a file."""
        self._lead(2, "set_stderr", file, host_file)

    def _lead(self, number: int, word: str, file: str | None, host_file: str | None) -> None:
        self._must_be_open()
        setting = f"{self._word}.{word}()"
        if (file is None) == (host_file is None):
            self._reading.problem(f"{setting} takes one of file= and host_file=")
            return
        inside = file is not None
        check = checks.absolute_path if inside else checks.path
        path = self._reading.check(setting, check, file if inside else host_file)
        if path is not None:
            self._streams[number] = Stream(number=number, path=path, inside=inside, where=self._reading.here())

    def _copy(self) -> Self:
        twin = super()._copy()
        twin._streams.update(self._streams)
        return twin
