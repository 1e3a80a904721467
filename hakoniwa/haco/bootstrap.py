"""`config.bootstrap`: how a rootfs comes to be."""

from __future__ import annotations

from hakoniwa import trust
from hakoniwa.errors import nearest
from hakoniwa.haco import checks
from hakoniwa.haco.section import Reading, Section, deep_copy, short
from hakoniwa.spec.records import Hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

# The settings that each strategy takes; the first is one that it cannot do without.
SETTINGS: dict[str, tuple[str, ...]] = {
    "host": (),
    "debootstrap": ("debian_release", "variant", "components", "mirror_url", "arch", "tool"),
    "tarball": ("archive_path", "sha256", "tar_options"),
    "git": ("git_url", "git_ref", "git_options"),
    "lxc": ("os_type", "project_name", "debian_release", "mirror_url", "arch", "lxc_options"),
    "recipe": ("recipe",),
    "shell": ("code",),
    "python": ("code",),
}
_LATER = ("image",)
_OF_OTHERS = ("options",)  # for a strategy that is none of ours
_PLUGINS = "hakoniwa.strategies"

_COMMON = ("strategy", "cache", "skip")
URLS = ("https://", "http://", "ftp://", "file://", "git://", "ssh://")


def _strategy(value: object) -> object:
    if isinstance(value, str):
        if value in SETTINGS or value in _installed(value):
            return value
        from hakoniwa.haco.haconiwa import STRATEGIES

        if value in STRATEGIES:
            raise checks.Wrong("a strategy of hakoniwa", f"write {STRATEGIES[value]!r}")
        if value in _LATER:
            raise checks.Wrong("a strategy that is carried out already", f"{value!r} is not supported yet")
        raise checks.Wrong("the name of a strategy", nearest(value, [*SETTINGS, *_installed()]))
    if callable(getattr(value, "bootstrap", None)):
        return value
    raise checks.Wrong("the name of a strategy, or an object with a bootstrap(boot) method")


def _installed(*names: str) -> list[str]:
    """The strategies that other packages bring, all or those of these names."""
    from importlib.metadata import entry_points

    found = [point.name for point in entry_points(group=_PLUGINS)]
    return [name for name in found if not names or name in names]


def load_installed(name: str) -> object:
    """The strategy of another package. Raises Distrust, and whatever its import raises."""
    from importlib import import_module
    from importlib.metadata import entry_points
    from importlib.util import find_spec

    (point, *_) = entry_points(group=_PLUGINS, name=name)
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


def _code(value: object) -> object:
    return value if callable(value) else checks.text(value)


def _argument(value: object) -> str:
    """A word that a program gets as an argument, and must not take for an option."""
    word = checks.text(value)
    if not word or word.startswith("-") or not word.isprintable():
        raise checks.Wrong("a word that does not begin with '-'")
    return word


def _arguments(value: object) -> tuple[str, ...]:
    return tuple(_argument(item) for item in checks.text_list(value))


def _digest(value: object) -> str:
    digest = checks.text(value).lower().removeprefix("sha256:")
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise checks.Wrong("a SHA-256 digest: 64 hexadecimal digits")
    return digest


def _options(value: object) -> object:
    if not isinstance(value, dict):
        raise checks.Wrong("a dict")
    for key, item in value.items():
        checks.json_item(key, item)
    return deep_copy(value)


class BootstrapSection(Section):
    """`config.bootstrap`."""

    _word = "config.bootstrap"
    _checks = {
        "strategy": _strategy,
        "cache": checks.flag,
        "skip": checks.flag,
        "archive_path": checks.path,
        "sha256": _digest,
        "code": _code,
        "recipe": checks.name,
        "tool": checks.word_of("debootstrap", "mmdebstrap"),
        "project_name": checks.name,
        "options": _options,
        **dict.fromkeys(
            ("os_type", "debian_release", "variant", "mirror_url", "arch", "git_url", "git_ref"), _argument
        ),
        **dict.fromkeys(("tar_options", "git_options", "lxc_options"), checks.text_list),
        "components": lambda value: _arguments(checks.words_with_commas(value)),
    }
    _defaults = {"skip": False}
    _later = _LATER
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

    def _validate(self) -> None:
        """What holds between the settings."""
        strategy = self.strategy
        known = SETTINGS.get(strategy, _OF_OTHERS) if isinstance(strategy, str) else _OF_OTHERS
        if known and known is not _OF_OTHERS and getattr(self, known[0]) is None:
            self._reading.problem(
                f"strategy {strategy!r} needs {self._word}.{known[0]}", "set it", where=self._place("strategy")
            )
        for name in self._values:
            if name not in (*_COMMON, *known):
                self._reading.problem(
                    f"{self._word}.{name} means nothing to strategy {strategy!r}", "remove it", self._place(name)
                )
        if strategy == "tarball" and self.archive_path:
            self._check_archive(self.archive_path)
        if strategy == "git" and self.git_url:
            self._check_git_url(self.git_url)
        if strategy == "host" and self.cache:
            told = "strategy 'host' has nothing to cache"
            self._reading.problem(told, "remove config.bootstrap.cache", self._place("cache"))

    def _check_archive(self, archive: str) -> None:
        place = self._place("archive_path")
        if archive.startswith("https://"):
            if not self.sha256:
                hint = "sha256sum FILE prints it"
                self._reading.problem("an archive from the network needs config.bootstrap.sha256", hint, place)
        elif archive.startswith(URLS):
            self._reading.problem(f"archive_path takes a path or an https:// URL, not {short(archive)}", "", place)

    def _check_git_url(self, url: str) -> None:
        """A transport helper (`ext::`) runs any command: `man 7 gitremote-helpers`."""
        scheme, separator, _ = url.partition("://")
        remote_helper = "::" in url.partition("/")[0]
        if remote_helper or (separator and scheme not in ("https", "ssh", "file")):
            hint = "https, ssh and file are"
            self._reading.problem(f"the protocol of {short(url)} is not allowed", hint, self._place("git_url"))

    def _settings(self, beside: Callable[[str], str]) -> dict[str, Any]:
        """What the strategy is told. `beside` makes a path relative to the container file absolute."""
        settings = {name: deep_copy(value) for name, value in self._values.items() if name not in _COMMON}
        archive, url = settings.get("archive_path", ""), settings.get("git_url", "")
        if archive and not archive.startswith("https://"):
            settings["archive_path"] = beside(archive)
        if url and "://" not in url and ":" not in url.partition("/")[0]:
            settings["git_url"] = f"file://{beside(url)}"  # so that it can be shallow, as `man 1 git-clone` has it
        return settings
