"""One small function per kind of value: it returns the value as the description keeps it, or raises Wrong."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Wrong(ValueError):
    """The value is not what the setting takes; the text completes "must be ...", and `hint` names the way out."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


def text(value: object) -> str:
    """A string that a C program can hold."""
    if not isinstance(value, str):
        raise Wrong("a string")
    if "\0" in value:
        raise Wrong("a string without NUL")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise Wrong("a string that can be encoded") from None
    return value


def flag(value: object) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise Wrong("True or False")
    return value


def name(value: object) -> str:
    """The name of a container: it becomes a folder, a cgroup and a host name."""
    word = text(value)
    if not 1 <= len(word) <= LONGEST_NAME or name_part(word) != word:
        raise Wrong("1 to 63 of A-Z a-z 0-9 _ . - and begin with a letter or digit")
    return word


LONGEST_NAME = 63


def name_part(word: str) -> str:
    """A word as a name can begin with it: `-` for what no name may hold."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in word).lstrip("_.-")


def hostname(value: object) -> str:
    """A host name as `sethostname(2)` takes it (64 bytes)."""
    word = text(value)
    if not 1 <= len(word) <= 64 or not all(c.isascii() and (c.isalnum() or c in "_.-") for c in word):
        raise Wrong("1 to 64 of A-Z a-z 0-9 _ . -")
    return word


def path(value: object) -> str:
    """A path: a string or an `os.PathLike` of one."""
    if not isinstance(value, str) and isinstance(value, os.PathLike):
        value = os.fspath(value)
    word = text(value)
    if not word:
        raise Wrong("a path")
    return word


def absolute_path(value: object) -> str:
    """An absolute path."""
    word = path(value)
    if not word.startswith("/"):
        raise Wrong("an absolute path")
    return word


def profile_name(value: object) -> str:
    """The name of an AppArmor profile, as `aa-status` shows it."""
    word = text(value)
    if not word or not word.isprintable() or len(word) > 1000:
        raise Wrong("the name of a profile")
    return word


def arguments(value: object) -> tuple[str, ...]:
    """A list of arguments, or one program path as a string (never a shell line)."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise Wrong("a list of strings, or one program path")
    words = text_list(value)
    if not words or not words[0]:
        raise Wrong("a list that begins with a program")
    if " " in words[0] and len(words) == 1:
        raise Wrong("a list of arguments, never a shell line", f"write {words[0].split()!r}")
    return words


def duration(value: object) -> float:
    """A number from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e10:
        raise Wrong("a number from 0 on")
    return float(value)


def interval(value: object) -> float:
    """A number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e10:
        raise Wrong("a number above 0")
    return float(value)


def count(value: object) -> int:
    """A whole number above 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise Wrong("a whole number above 0")
    return value


def number_between(value: object, least: int, most: int) -> int:
    """A whole number of a range, both ends included."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Wrong(f"a whole number from {least} to {most}")
    return value


def seconds(value: object) -> float:
    """A number of seconds, which may be negative."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e10 < value < 1e10:
        raise Wrong("a number of seconds")
    return float(value)


def port(value: object) -> int:
    """A TCP port."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise Wrong("a port from 1 to 65535")
    return value


def cron(value: object) -> str:
    """A cron expression."""
    from datetime import datetime

    from cronsim import CronSim, CronSimError

    expression = text(value)
    try:
        CronSim(expression, datetime.now())
    except CronSimError as error:
        raise Wrong(f"a cron expression such as '*/5 * * * *' ({error})") from None
    return expression


_PLAIN = type(lambda: None)
_VARIADIC, _COROUTINE = 0x04, 0x80  # inspect.CO_VARARGS, CO_COROUTINE


def takes(function: Callable[..., object], count: int) -> bool:
    """Whether a function can be called with so many arguments."""
    if type(function) is not _PLAIN:
        return _binds(function, count)
    code = function.__code__
    least = code.co_argcount - len(function.__defaults__ or ())
    most = 255 if code.co_flags & _VARIADIC else code.co_argcount
    return least <= count <= most and code.co_kwonlyargcount <= len(function.__kwdefaults__ or ())


def _binds(function: Callable[..., object], count: int) -> bool:
    """As `takes`, for methods, classes and whatever else can be called."""
    import inspect

    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        pass  # of the C language, without a signature
    return True


def parameters(function: Callable[..., object]) -> str:
    """What a function takes, in words."""
    import inspect

    return f"it takes {inspect.signature(function)}"


def is_coroutine(function: object) -> bool:
    """Whether a function is an `async def`."""
    return bool(getattr(getattr(function, "__code__", None), "co_flags", 0) & _COROUTINE)


def words_with_commas(value: object) -> object:
    """A string with commas between its words as a list of them."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def text_list(value: object) -> tuple[str, ...]:
    """A list of strings."""
    if not isinstance(value, (list, tuple)):
        raise Wrong("a list of strings")
    if not all(isinstance(item, str) for item in value):
        raise Wrong("a list of strings alone")
    return tuple(text(item) for item in value)


def number_id(value: object) -> int:
    """A uid or gid by number. 2**32 - 1 means "leave as it is" to the kernel, so it is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32 - 1:
        raise Wrong("a number from 0 to 4294967294")
    return value


def user(value: object) -> int | str:
    """A user or group, by number or by name. `man 8 useradd` has no names that begin with a dash."""
    if isinstance(value, str) and 0 < len(value) <= 256 and value[0] != "-" and not any(c in value for c in ":\n\0"):
        return value
    try:
        return number_id(value)
    except Wrong:
        raise Wrong("a name, or a number from 0 to 4294967294") from None


def users(value: object) -> tuple[int | str, ...]:
    """A list of groups, by number or by name."""
    if not isinstance(value, (list, tuple)):
        raise Wrong("a list of names or numbers")
    try:
        return tuple(user(item) for item in value)
    except Wrong as wrong:
        raise Wrong(f"a list, each item {wrong}") from None


def closest(value: object, words: tuple[str, ...] | list[str]) -> str:
    """`did you mean 'net'?` where one of the words is close."""
    from hakoniwa.errors import nearest

    hint = nearest(str(value), words)
    return hint if hint.startswith("did") else ""


def word_of(*words: str) -> Callable[[object], str]:
    """One of a few words."""

    def check(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise Wrong(f"one of {' '.join(words)}", closest(value, words))
        return value

    return check


def environment_item(key: object, value: object) -> str:
    """A variable of the environment: a name without `=`, and a string."""
    word = text(key)
    if not word or "=" in word:
        raise Wrong("set by a name that is not empty and holds no '='")
    return text(value)


def json_item(key: object, value: object) -> object:
    """A free key and a value that JSON can say, at any depth."""
    text(key)
    _json_value(value, 0)
    return value


_DEEPEST = 50  # levels: what is written down must be read again (`record.NESTED`)


def _json_value(value: object, level: int) -> None:
    if level > _DEEPEST:
        raise Wrong(f"nested {_DEEPEST} levels deep at most")
    if isinstance(value, dict):
        for key, item in value.items():
            text(key)
            _json_value(item, level + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _json_value(item, level + 1)
    elif isinstance(value, (int, float)):
        if (
            not -(2**63) <= value < 2**64
        ):  # neither what is no number, nor what most readers of JSON take for another one
            raise Wrong("made of finite numbers of 64 bits, strings, True, False, None, lists and dicts")
    elif not isinstance(value, (str, type(None))):
        raise Wrong("made of strings, numbers, True, False, None, lists and dicts")


def mount_options(value: object) -> tuple[str, ...]:
    """Mount options, with commas between them or as a list."""
    return text_list(words_with_commas(value))
