"""Which containers a command line means: those of a file, which is not executed, or by a name, or by a pid."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError, closest
from hakoniwa.known import listing, state
from hakoniwa.known.statefile import ALIVE, Made, State, known_names, said
from hakoniwa.options import Given, usage_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeVar

    from hakoniwa.known.statefile import Head

    Known = TypeVar("Known", bound=Head)

_LARGEST_PID = 1 << 22  # PID_MAX_LIMIT, `man 5 proc_sys_kernel`
_MOST_SHOWN = 20


class NothingKnown(HakoError):
    """The file, or the barn, is there, and has no container."""


def take_as_name(given: Given) -> Given:
    """A command line whose FILE is not there: where it names a container, that is meant. Raises HakoError for neither."""
    word = given.file or ""
    real = os.path.realpath(word)
    known = list(listing.heads())
    if any(one.file == real for one in known):
        return given
    if not any(word in (one.name, one.barn) for one in known) and not _is_barn(word):
        from hakoniwa.haco.loader import unknown

        raise unknown(word, known)
    if given.value("name") not in (None, word):
        raise usage_error(f"{word} and -n {given.value('name')} are two containers", word, "give one of them")
    return given.replace(file=None, options={**given.options, "name": word})


def heads(given: Given) -> Sequence[Head]:
    """The heads of the known containers that are meant, for who shows them. Raises HakoError if there is none, and NothingKnown."""
    if given.value("name") is None and given.file is not None:
        return _of_file(given.file, listing.heads)
    return selected(given)


def selected(given: Given, acting: str = "") -> list[State | Made]:
    """The known containers that are meant. Raises HakoError if there is none, and NothingKnown.

    For a command that acts on them, `acting`, a file that has made containers of several names is executed: it means those
    that the file gives now.
    """
    target, name = given.value("target"), given.value("name")
    if target is None and name is None:
        assert given.file is not None
        found = _of_file(given.file, listing.every)
        return _narrowed(found, given.file, acting) if acting and not given.flag("all") else found
    if given.flag("all"):
        raise usage_error("--all is about all containers of a file", acting, "leave -n and -t out")
    found = _by_name(name) if name is not None else []
    if target is not None:
        one = _by_pid(target)
        if name is not None and one.name not in [known.name for known in found]:
            raise HakoError(f"the process {target} is of container {one.name!r}, not of {name!r}", where="-t")
        found = [one]
    if given.file is not None:
        real = os.path.realpath(given.file)
        others = [known for known in found if known.file != real]
        if others:
            raise HakoError(
                f"container {others[0].name!r} is not of this file, but of {others[0].file}", where=given.file
            )
    return found


def alive(given: Given, acting: str) -> list[State]:
    """Those of them that run. Raises HakoError where none does, and says how they fare."""
    found = selected(given, acting)
    running = [one for one in found if isinstance(one, State) and one.status == "running"]
    if not running:
        held = next((one for one in found if one.status == "created"), None)
        hint = f"hako release -n {held.name}" if held else f"hako start -D {found[0].file} runs one"
        raise HakoError(f"no container runs: {how_it_fares(found)}", where=given.file or "", hint=hint)
    return running


def how_it_fares(found: Sequence[State | Made]) -> str:
    """How containers fare, in words."""
    return ", ".join(f"{one.name} {_how(one)}" for one in found[:_MOST_SHOWN])


def _how(known: State | Made) -> str:
    if known.status == "running":
        return "runs"
    ended = known.exit if isinstance(known, State) else None
    if ended is None:
        return {"built": "was never started", "created": "is held", "dead": "was lost"}.get(known.status, known.status)
    return f"was ended by signal {ended.signal}" if ended.signal else f"has ended with status {ended.code}"


def _by_name(name: str) -> list[State | Made]:
    """The container of a name, or the containers of the barn that has it."""
    from hakoniwa.spec.rules.checks import Wrong
    from hakoniwa.spec.rules.checks import name as check_name

    try:
        one = state.known(check_name(name))
    except Wrong as wrong:
        raise usage_error(f"a name must be {wrong}, not {name!r}", "-n") from None
    if one is not None:
        return [one]
    members = [one for one in listing.every(saying=said(barn=name)) if one.barn == name]
    if not members:
        if _is_barn(name):
            raise NothingKnown(f"barn {name!r} has no containers", hint=f"hako kill {name} ends it")
        hint = closest(name, known_names(listing.heads(tell=False))) or "hako ps --all lists them"
        raise HakoError(f"no container {name!r} is known", hint=hint)
    return members


def _is_barn(name: str) -> bool:
    """Whether a barn has that name, be it without containers."""
    from hakoniwa.run.barn import record

    return name in record.names()


def _by_pid(text: str) -> State:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0
    if not 0 < number <= _LARGEST_PID:
        raise usage_error(f"a pid must be a number from 1 to {_LARGEST_PID}, not {text!r}", "-t")
    for found in listing.every(recorded=False, saying=[b'pid": %d, ' % number]):
        if isinstance(found, State) and found.status in ALIVE and number in (found.pid, found.supervisor_pid):
            return found
    raise HakoError(f"no container has a first process or supervisor {text}", hint="hako ps shows their pids")


def _of_file(file: str, look: Callable[..., Iterable[Known]]) -> list[Known]:
    """The containers that a file has made. Raises NothingKnown."""
    real = os.path.realpath(file)
    # What a document has made that was written from a file is that file's, too.
    found = [one for one in look(saying=said(file=real)) if one.file == real] or [
        one for one in look(saying=said(origin=real)) if one.origin == real
    ]
    if not found:
        hint = f"hako start {file}, or -n NAME"
        raise NothingKnown("no container of this file is known", where=file, hint=hint)
    return found


def _narrowed(found: list[State | Made], file: str, acting: str) -> list[State | Made]:
    """Of the containers that a file has made, those that a command means that acts on them."""
    names = {one.name for one in found}
    if _are_of_one_barn(found):
        return found
    marks = {one.definition.siblings for one in found}
    if len(names) == 1 or (len(marks) == 1 and "" not in marks):  # one start has made them all
        return found
    return _of_those_now(file, found, acting)


def _are_of_one_barn(found: Sequence[State | Made]) -> bool:
    """Whether the same process of a barn has run them all, those that were added to it included."""
    processes = [one.barn_process for one in found if isinstance(one, State)]
    return len(processes) == len(found) and processes[0] is not None and processes == [processes[0]] * len(found)


def _of_those_now(file: str, found: list[State | Made], acting: str) -> list[State | Made]:
    """Of the containers that a file has made, those that it gives the names of now."""
    from hakoniwa.haco.loader import load

    names = _listed([one.name for one in found])
    hint = f"choose one with -n NAME{', or all with --all' if acting in _WITH_ALL else ''}"
    try:
        barn = load(file, acting)
    except HakoError as error:
        told = f"it has made several containers ({names}), and does not tell which is meant: {error.lines()[0]}"
        raise HakoError(told, where=file, hint=hint) from None
    now = {container.name for container in barn.containers}
    meant = [one for one in found if one.name in now]
    if not meant:
        told = (
            f"it has made several containers ({names}), and none of the name that it gives now, {_listed(sorted(now))}"
        )
        raise HakoError(told, where=file, hint=hint)
    return meant


_WITH_ALL = ("kill", "release", "rm", "reload")


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_SHOWN
    return " ".join(names[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
