"""Profiles in Docker's JSON format, as a filter of ours.

https://docs.docker.com/engine/security/seccomp/ and the schema of moby's `profiles/seccomp`.
"""

from __future__ import annotations

import errno
import json
import os

from hakoniwa.errors import HakoError
from hakoniwa.spec.held import ArgumentTest, CallFilter, CallRule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ACTIONS = {
    "SCMP_ACT_ALLOW": "allow",
    "SCMP_ACT_ERRNO": "errno",
    "SCMP_ACT_KILL": "kill_thread",
    "SCMP_ACT_KILL_THREAD": "kill_thread",
    "SCMP_ACT_KILL_PROCESS": "kill",
    "SCMP_ACT_TRAP": "trap",
    "SCMP_ACT_TRACE": "trace",
    "SCMP_ACT_LOG": "log",
}
_OPERATORS = {
    "SCMP_CMP_EQ": "==",
    "SCMP_CMP_NE": "!=",
    "SCMP_CMP_LT": "<",
    "SCMP_CMP_LE": "<=",
    "SCMP_CMP_GT": ">",
    "SCMP_CMP_GE": ">=",
    "SCMP_CMP_MASKED_EQ": "==",
}
# What the profiles call the machine types of `uname -m`.
_ARCHITECTURES = {"x86_64": ("amd64", "x86", "x32"), "aarch64": ("arm64", "arm")}


class _Wrong(ValueError):
    """The profile is not what the format says; the text names the place in it."""


def read_profile(content: bytes, path: str, held: int, machine: str) -> CallFilter:
    """The filter that a profile describes for a container with these capabilities. Raises HakoError."""
    try:
        profile = json.loads(content)
    except ValueError as error:
        raise HakoError(f"not JSON: {error}", where=path) from None
    try:
        return _filter(_kind(profile, dict, "the profile"), held, machine)
    except _Wrong as wrong:
        raise HakoError(f"not a seccomp profile: {wrong}", where=path) from None


def _filter(profile: dict[str, Any], held: int, machine: str) -> CallFilter:
    default = _action(profile.get("defaultAction"), "defaultAction")
    rules = []
    for number, entry in enumerate(_kind(profile.get("syscalls") or [], list, "syscalls")):
        place = f"syscalls[{number}]"
        entry = _kind(entry, dict, place)
        includes, excludes = (
            _kind(entry.get(word) or {}, dict, f"{place}.{word}") for word in ("includes", "excludes")
        )
        if _matches(includes, held, machine, every=True) and not _matches(excludes, held, machine, every=False):
            rules.append(_rule(entry, place))
    error = _number(profile.get("defaultErrnoRet", errno.EPERM), "defaultErrnoRet")
    return CallFilter(default=default, errno=error, rules=tuple(rules), where="")


def _rule(entry: dict[str, Any], place: str) -> CallRule:
    calls = _kind(entry.get("names") or [entry.get("name")], list, f"{place}.names")
    if not all(isinstance(call, str) and call for call in calls):
        raise _Wrong(f"{place}.names is not a list of names")
    tests = []
    for number, test in enumerate(_kind(entry.get("args") or [], list, f"{place}.args")):
        tests.append(_test(_kind(test, dict, f"{place}.args[{number}]"), f"{place}.args[{number}]"))
    error = _number(entry.get("errnoRet", errno.EPERM), f"{place}.errnoRet")
    action = _action(entry.get("action"), f"{place}.action")
    return CallRule(action=action, calls=tuple(calls), errno=error, tests=tuple(tests), where="")


def _test(test: dict[str, Any], place: str) -> ArgumentTest:
    index, value = _number(test.get("index"), f"{place}.index"), _number(test.get("value", 0), f"{place}.value")
    name = test.get("op")
    if name not in _OPERATORS:
        raise _Wrong(f"{place}.op is {name!r}, not one of {' '.join(_OPERATORS)}")
    if index > 5:
        raise _Wrong(f"{place}.index is {index}: a call has six arguments")
    if name == "SCMP_CMP_MASKED_EQ":  # the mask comes first there
        second = _number(test.get("valueTwo", 0), f"{place}.valueTwo")
        return ArgumentTest(index=index, operator="==", value=second, mask=value)
    return ArgumentTest(index=index, operator=_OPERATORS[name], value=value, mask=None)


def _matches(condition: dict[str, Any], held: int, machine: str, *, every: bool) -> bool:
    """Whether a condition holds: all of its parts (`includes`), or any one that it has (`excludes`)."""
    from hakoniwa.kernel.security import capabilities

    found = []
    if caps := condition.get("caps"):
        names = [str(cap).lower() for cap in caps]
        have = [name in capabilities.NAMES and bool(held & capabilities.mask([name])) for name in names]
        found.append(all(have) if every else any(have))
    if arches := condition.get("arches"):
        found.append(any(arch in _ARCHITECTURES.get(machine, ()) for arch in arches))
    if least := condition.get("minKernel"):
        found.append(_kernel() >= _version(str(least)))
    return (all(found) if every else any(found)) if found else every


def _kernel() -> tuple[int, int]:
    return _version(os.uname().release)


def _version(text: str) -> tuple[int, int]:
    major, _, rest = text.partition(".")
    minor = "".join(c if c.isdigit() else " " for c in rest).split(" ")[0]
    return int(major) if major.isdigit() else 0, int(minor) if minor else 0


def _kind(value: Any, kind: type, place: str) -> Any:
    if not isinstance(value, kind):
        raise _Wrong(f"{place} is not a {kind.__name__}")
    return value


def _number(value: object, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**64:
        raise _Wrong(f"{place} is {value!r}, not a number")
    return value


def _action(value: object, place: str) -> str:
    if value not in _ACTIONS:
        raise _Wrong(f"{place} is {value!r}, not one of {' '.join(_ACTIONS)}")
    return _ACTIONS[str(value)]
