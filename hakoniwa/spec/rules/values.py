"""What the value of each field of a record must be, beyond its kind: the checks of container files, for documents.

A check returns the value as records keep it, or raises Wrong. What several fields must be together is in rules.py.
"""

from __future__ import annotations

import os

from hakoniwa.kernel.processes.process import NAMESPACES
from hakoniwa.kernel.security import capabilities
from hakoniwa.kernel.security.callnames import CALLS
from hakoniwa.spec import held, records
from hakoniwa.spec.rules import buildchecks, checks
from hakoniwa.spec.rules.checks import Wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hakoniwa.record import Record

    Check = Callable[[Any], Any]

_LARGEST = 2**64 - 1


class WrongInside(Wrong):
    """What is wrong is an item of a list, or of an object."""

    def __init__(self, inside: int | str, value: object, wrong: Wrong) -> None:
        super().__init__(str(wrong), wrong.hint)
        self.inside = inside
        self.value = value


def plain_path(value: object) -> str:
    """An absolute path, without what leads back or nowhere."""
    word = checks.absolute_path(value)
    if os.path.normpath(word) != word or word.startswith("//"):
        raise Wrong("an absolute path without '.', '..', and '/' twice or at the end")
    return word


def _maybe(check: Check) -> Check:
    def either(value: object) -> object:
        return None if value is None else check(value)

    return _as_known(either, check)


def _or_empty(check: Check) -> Check:
    def either(value: object) -> object:
        return "" if value == "" else check(value)

    return either


def _every(check: Check, value: Any) -> tuple[Any, ...]:
    found = []
    for number, item in enumerate(value):
        try:
            found.append(check(item))
        except Wrong as wrong:
            raise WrongInside(number, item, wrong) from None
    return tuple(found)


def _each(check: Check) -> Check:
    """Every item of a list, and none twice."""

    def every(value: Any) -> tuple[Any, ...]:
        found = _every(check, value)
        for number, item in enumerate(found):
            if item in found[:number]:
                raise Wrong(f"a list without {item!r} twice")
        return found

    return _as_known(every, check)


def _items(check: Callable[[object, object], object]) -> Check:
    """Every item of an object."""

    def every(value: Any) -> dict[str, Any]:
        found = {}
        for key, item in value.items():
            try:
                found[key] = check(key, item)
            except Wrong as wrong:
                raise WrongInside(key, item, wrong) from None
        return found

    return every


def _number(least: int, most: int) -> Check:
    return lambda value: checks.number_between(value, least, most)


def _capability(value: object) -> str:
    try:
        return capabilities.normal(checks.text(value))
    except ValueError:
        raise Wrong("a capability", capabilities.suggest(str(value))) from None


def _words(*known: str) -> Check:
    check: Any = checks.word_of(*known)
    check.words = known  # for the schema
    return _as_known(check, check)


def _as_known(check: Any, origin: Any) -> Check:
    """A check that tells which words it takes if the one that it was made of does."""
    check.words = getattr(origin, "words", None)
    found: Check = check
    return found


def _call(value: object) -> str:
    word = checks.text(value)
    if word not in CALLS:
        raise Wrong("a system call", checks.closest(word, sorted(CALLS)))
    return word


def _calls(value: Any) -> tuple[str, ...]:
    if not value:
        raise Wrong("a list that names a system call")
    return _every(_call, value)


def _users(value: Any) -> tuple[Any, ...]:
    return _every(checks.user, value)


def _profile(value: object) -> object:
    return value if value in (None, "default") else plain_path(value)


def _mount_option(value: object) -> str:
    word = checks.text(value)
    if word in ("ro", "rw", "bind", "rbind"):
        raise Wrong("an option other than ro, rw, bind and rbind", "readonly, and fs, say that")
    if not word or "," in word:
        raise Wrong("one option", "write each in a string of its own")
    return word


def _limit(value: object) -> int:
    return checks.number_between(value, -1, 2**63 - 1)


def _arguments(value: Any) -> object:
    return checks.arguments(list(value))


_NAMESPACE = _words(*NAMESPACES)
_SHARED = _words(*(name for name in NAMESPACES if name != "mount"))
_LEVELS = _words("debug", "info", "warning", "error")
_PATH, _MAYBE_PATH = plain_path, _maybe(plain_path)
_COUNT = _number(1, 2**32 - 2)

# A field that is not here takes every value of its kind.
VALUES: dict[type[Record], dict[str, Check]] = {
    records.Sharing: {"namespaces": _each(_SHARED), "hostname": _maybe(checks.hostname)},
    records.Barn: {"name": _or_empty(checks.name), "log_level": _LEVELS, "origin": _or_empty(plain_path)},
    records.Container: {
        "name": checks.name,
        "hostname": _or_empty(checks.hostname),
        "flavour": _words(*records.FLAVOURS),
        "container_pid_file": _MAYBE_PATH,
        "metadata": _items(checks.json_item),
        "log_level": _LEVELS,
        "reloadable": _each(_words(*records.RELOADABLE)),
    },
    held.Process: {
        "command": _maybe(_arguments),
        "init": _maybe(_words("tini", "catatonit")),
        "workdir": checks.absolute_path,
        "environ": _items(checks.environment_item),
        "uid": _maybe(checks.user),
        "gid": _maybe(checks.user),
        "groups": _users,
    },
    held.Stream: {"number": _number(0, 2), "path": checks.absolute_path},
    records.Namespaces: {"own": _each(_NAMESPACE)},
    records.Entered: {"name": _NAMESPACE, "path": _PATH},
    records.Persisted: {"name": _NAMESPACE, "path": _PATH},
    records.IdRange: {"inside": checks.number_id, "outside": checks.number_id, "count": _COUNT},
    records.TimeOffset: {"monotonic": checks.seconds, "boottime": checks.seconds},
    records.Files: {
        "independent": _each(_words(*records.INDEPENDENT_MOUNTS)),
        "network_etc": _MAYBE_PATH,
        "masked_paths": _each(checks.absolute_path),
        "readonly_paths": _each(checks.absolute_path),
        "lxcfs_root": _MAYBE_PATH,
    },
    records.Rootfs: {
        "path": _or_empty(plain_path),
        "owner_uid": _maybe(checks.number_id),
        "owner_gid": _maybe(checks.number_id),
    },
    records.Mount: {
        "source": checks.path,
        "target": plain_path,
        "fs": _maybe(checks.path),
        "options": _each(_mount_option),
    },
    held.Limit: {"name": _words(*checks.LIMITS), "soft": _limit, "hard": _limit},
    held.Cgroup: {
        "name": _maybe(checks.group_name),
        "memory": _maybe(checks.memory_size),
        "cpus": _maybe(checks.cpus),
        "pids": _maybe(checks.processes),
    },
    held.Parameter: {"name": checks.parameter_name, "value": checks.parameter_value},
    held.Scheduling: {
        "nice": _maybe(checks.nice),
        "policy": _maybe(checks.policy),
        "oom_score_adj": _maybe(checks.oom_score_adj),
    },
    held.Capabilities: {"named": _each(_capability), "dropped": _each(_capability)},
    held.Security: {"apparmor": _maybe(checks.profile_name)},
    held.Seccomp: {"profile": _profile},
    held.CallFilter: {"default": _words(*records.FILTER_ACTIONS), "errno": _number(1, 4095)},
    held.CallRule: {"action": _words(*records.FILTER_ACTIONS), "calls": _calls, "errno": _number(0, 4095)},
    held.ArgumentTest: {
        "index": _number(0, 5),
        "operator": _words("==", "!=", "<", "<=", ">", ">="),
        "value": _number(0, _LARGEST),
        "mask": _maybe(_number(0, _LARGEST)),
    },
    records.Bootstrap: {"strategy": _maybe(buildchecks.strategy)},
    records.ProvisionStep: {
        "kind": _words("shell", "python", "copy"),
        "name": _or_empty(buildchecks.step_name),
        "text": buildchecks.script,
        "shell": checks.absolute_path,
        "source": _or_empty(plain_path),
        "target": _or_empty(checks.absolute_path),
        "uid": checks.user,
        "gid": checks.user,
        "mode": _maybe(buildchecks.mode),
    },
}


def setting(name: str, value: Any) -> Any:
    """A setting of `bootstrap`, checked. Raises Wrong, and KeyError for one that is unknown."""
    check = buildchecks.CHECKS[name]
    checked = check(list(value) if isinstance(value, tuple) else value)
    if name == "archive_path" and not checked.startswith("https://"):
        return plain_path(checked)
    if name == "git_url" and "://" not in checked and ":" not in checked.partition("/")[0]:
        raise Wrong("a URL", f"file://{checked} for a path")
    return checked
