"""One small function per kind of value: it returns the value as the description keeps it, or raises Wrong."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


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


_DEEPEST = 50  # levels: what is written down must be read again (`recordreader.NESTED`)


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


def deep_copy(value: Any) -> Any:
    """Lists and dicts anew at every depth; callables and strategy objects shared."""
    if isinstance(value, dict):
        return {key: deep_copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [deep_copy(item) for item in value]
    return value


def mount_options(value: object) -> tuple[str, ...]:
    """Mount options, with commas between them or as a list."""
    return text_list(words_with_commas(value))


# The names of `man 2 getrlimit`, without RLIMIT_.
LIMITS = [
    "AS",
    "CORE",
    "CPU",
    "DATA",
    "FSIZE",
    "LOCKS",
    "MEMLOCK",
    "MSGQUEUE",
    "NICE",
    "NOFILE",
    "NPROC",
    "RSS",
    "RTPRIO",
    "RTTIME",
    "SIGPENDING",
    "STACK",
]


_PAGE = 4096  # what the kernel counts memory by
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def parameter_value(value: object) -> str:
    """The value of a cgroup parameter."""
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise Wrong("a number or a string, as the kernel takes it")
    return text(str(value))


def parameter_name(name: object) -> str:
    """The name of a cgroup parameter, as the kernel has it."""
    word = text(name)
    controller, dot, rest = word.partition(".")
    if not (controller and dot and rest) or not all(c.isascii() and (c.isalnum() or c in "_.-") for c in word):
        raise Wrong('the name of a parameter, such as "memory.limit_in_bytes"')
    return word


def memory_size(value: object) -> int:
    """Bytes: a number, or a string such as `"512M"` (powers of 1024)."""
    if isinstance(value, str):
        text = value.upper().removesuffix("B").removesuffix("I")
        number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS and text[-1:] else (text, "")
        if number.isascii() and number.isdecimal() and len(number) < 20:
            value = int(number) * _UNITS[unit]
    if isinstance(value, bool) or not isinstance(value, int) or not _PAGE <= value < 2**63:
        raise Wrong(f'a number of bytes from {_PAGE} on and below 8E, or a string such as "512M"')
    return value


def cpus(value: object) -> float:
    """A number of processors."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.01 <= value <= 10_000:
        raise Wrong("a number of processors from 0.01 on")
    return float(value)


def group_name(value: object) -> str:
    """The name of a group, or its path below the root of the hierarchy where it exists already."""
    word = text(value)
    parts = word.split("/")
    if not word or any(part in ("", ".", "..") or part.startswith("-") or len(part) > 255 for part in parts):
        raise Wrong("a name, or a path below the root of the hierarchy without '..'")
    if not all(c.isascii() and (c.isalnum() or c in "_.-@:\\/") for c in word):
        raise Wrong("made of A-Z a-z 0-9 and _ . - @ : \\")
    return word


def processes(value: object) -> int:
    """A number of processes."""
    return number_between(value, 1, 1 << 22)  # PID_MAX_LIMIT


def nice(value: object) -> int:
    """A nice value, `man 7 sched`."""
    return number_between(value, -20, 19)


def oom_score_adj(value: object) -> int:
    """What is added to the score of the OOM killer."""
    return number_between(value, -1000, 1000)


def policy(value: object) -> str:
    """A scheduling policy; the two for real time with a priority behind a colon. `man 7 sched`."""
    word, colon, priority = text(value).lower().removeprefix("sched_").partition(":")
    if word in ("other", "batch", "idle") and not colon:
        return word
    if word in ("fifo", "rr") and priority.isascii() and priority.isdecimal() and 1 <= int(priority) <= 99:
        return f"{word}:{int(priority)}"
    raise Wrong("one of other batch idle, or fifo:N or rr:N with N from 1 to 99")


def resource_limit(value: object) -> int:
    """A resource limit; -1 stands for none."""
    if value in ("unlimited", "infinity"):  # as `ulimit` and as systemd call it
        return -1
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise Wrong("a number from 0 on, or 'unlimited'")
    return value
