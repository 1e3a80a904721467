"""The checks of what `bootstrap` and `provision` take, of each value by itself: see checks.py."""

from __future__ import annotations

import os

from hakoniwa.errors import nearest
from hakoniwa.spec.rules import checks
from hakoniwa.spec.rules.checks import Wrong
from hakoniwa.spec.strategies import SETTINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

OF_OTHERS = ("options",)  # for a strategy that is none of ours
LATER = ("image",)
PLUGINS = "hakoniwa.strategies"  # the group of entry points of other packages
URLS = ("https://", "http://", "ftp://", "file://", "git://", "ssh://")
_LONGEST = 131071  # bytes of one argument (MAX_ARG_STRLEN in `man 2 execve`), less the NUL


def strategy(value: object) -> object:
    """The name of a strategy, or an object that is one."""
    if isinstance(value, str):
        if value in SETTINGS or value in installed(value):
            return value
        if value in LATER:
            raise Wrong("a strategy that is carried out already", f"{value!r} is not supported yet")
        raise Wrong("the name of a strategy", nearest(value, [*SETTINGS, *installed()]))
    if callable(getattr(value, "bootstrap", None)):
        return value
    raise Wrong("the name of a strategy, or an object with a bootstrap(boot) method")


def installed(*names: str) -> list[str]:
    """The strategies that other packages bring, all or those of these names."""
    from importlib.metadata import entry_points

    found = [point.name for point in entry_points(group=PLUGINS)]
    return [name for name in found if not names or name in names]


def _code(value: object) -> object:
    return value if callable(value) else checks.text(value)


def _argument(value: object) -> str:
    """A word that a program gets as an argument, and must not take for an option."""
    word = checks.text(value)
    if not word or word.startswith("-") or not word.isprintable():
        raise Wrong("a word that does not begin with '-'")
    return word


def _arguments(value: object) -> tuple[str, ...]:
    return tuple(_argument(item) for item in checks.text_list(value))


def _digest(value: object) -> str:
    digest = checks.text(value).lower().removeprefix("sha256:")
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise Wrong("a SHA-256 digest: 64 hexadecimal digits")
    return digest


def _options(value: object) -> object:
    if not isinstance(value, dict):
        raise Wrong("a dict")
    for key, item in value.items():
        checks.json_item(key, item)
    return checks.deep_copy(value)


# The kinds of values that strategies take.
KINDS: dict[str, Callable[[Any], Any]] = {
    "argument": _argument,
    "arguments": lambda value: _arguments(checks.words_with_commas(value)),
    "archive": checks.path,  # or an https:// URL, then with a setting of the kind "digest"
    "code": _code,
    "digest": _digest,
    "name": checks.name,
    "repository": _argument,
    "texts": checks.text_list,
}
# Of each setting of a strategy.
CHECKS: dict[str, Callable[[Any], Any]] = {
    "options": _options,
    **{
        name: KINDS[kind] if isinstance(kind, str) else checks.word_of(*kind)
        for settings in SETTINGS.values()
        for name, kind in settings.items()
    },
}


def of_kind(strategy: object, kind: str) -> list[str]:
    """The settings of a strategy that take values of a kind."""
    settings = SETTINGS.get(strategy, {}) if isinstance(strategy, str) else {}
    return [name for name, own in settings.items() if own == kind]


def step_name(value: object) -> str:
    """The name of a step of provisioning."""
    word = checks.text(value)
    if not 1 <= len(word) <= 63 or "," in word or not word.isprintable() or word != word.strip() or word[0] == "-":
        raise Wrong("1 to 63 printable characters, without a comma or a leading '-'")
    return word


def script(value: object) -> str:
    """The text of a shell step."""
    text = checks.text(value)
    if len(os.fsencode(text)) > _LONGEST:
        raise Wrong(f"a text of at most {_LONGEST} bytes; copy() a longer script and run that")
    return text


def mode(value: object) -> int:
    """The mode of files that are copied."""
    try:
        return checks.number_between(value, 0, 0o7777)
    except Wrong:
        raise Wrong("a mode from 0 to 0o7777", "write 0o644 for one") from None
