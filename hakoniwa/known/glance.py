"""What the files of containers tell by their bytes: which of them are to be read, and who is to be ended.

To read a state takes the classes of all that is in it, and a scanner of JSON: a quarter of the time of a `hako kill`. What that
has to know stands in places of its own. No value can be taken for one: in a string of JSON each quotation mark is escaped, and
what users name themselves lies in the definition, before.
"""

from __future__ import annotations

import os

from hakoniwa.kernel.filesystem.files import entries_of
from hakoniwa.kernel.processes.pidfd import Identity
from hakoniwa.known import RECORDS, SCHEMA, STATE
from hakoniwa.places import lib_dir, run_dir
from hakoniwa.record import Record
from hakoniwa.trust import read_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_BEGIN = b'{"schema": %d, ' % SCHEMA
_LONGEST = 12  # digits of a pid, or of clock ticks since boot: more are left to who reads with care
# The words before the numbers of one process, and behind them.
_PROCESS = (b'{"pid":', b'"started":')
_PROCESSES = (b'"init":', b'"supervisor":', b'"barn_process":')


class Running(Record):
    """A container that runs, or is held, as far as who ends it has to know it."""

    name: str
    barn: str
    init: Identity
    supervisor: Identity
    barn_process: Identity | None
    cgroups: tuple[str, ...]
    background: bool


def names() -> list[str]:
    """The containers that have a state."""
    try:
        with os.scandir(run_dir()) as entries:
            return sorted(
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            )
    except FileNotFoundError:
        return []


def recorded_names() -> list[str]:
    """The containers whose rootfs was made here."""
    entries = entries_of(os.path.join(lib_dir(), RECORDS))
    return sorted(
        {
            entry.removesuffix(".new").removesuffix(".json")
            for entry in entries
            if entry.endswith((".json", ".json.new"))
        }
    )


def is_whole(content: bytes) -> bool:
    """Whether a file is one of today's, and whole."""
    return content.startswith(_BEGIN) and content.endswith(b"}")


def lacks(content: bytes, saying: Iterable[bytes]) -> bool:
    """Whether a file is whole, and what it is asked for is not in it: there is no need to read it."""
    return is_whole(content) and any(said not in content for said in saying)


def running_of_file(file: str) -> Running | None:
    """The one container that is known of a file, by its real path, if it is seen to run. None: the files have to be read."""
    if not _is_plain(file):
        return None
    said = b'"file": "%s"' % file.encode()
    states, records, found = run_dir(), lib_dir(), []
    with_state = {*names()}
    for name in {*with_state, *recorded_names()}:
        path = f"{states}/{name}/{STATE}" if name in with_state else f"{records}/{RECORDS}/{name}.json"
        try:
            content = read_own(path)
        except OSError:
            return None
        if not is_whole(content):
            return None
        if said in content:
            found.append((name, content))
    return _running(*found[0]) if len(found) == 1 else None


def running_of_name(name: str) -> Running | None:
    """The container of a name, if it is seen to run. None: its file has to be read, or there is none."""
    if not name[:1].isalnum() or not name.isascii() or "/" in name:
        return None
    try:
        content = read_own(f"{run_dir()}/{name}/{STATE}")
    except OSError:
        return None
    return _running(name, content) if is_whole(content) else None


def _is_plain(text: str) -> bool:
    """Whether a string is in JSON as it is."""
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


def _running(name: str, content: bytes) -> Running | None:
    """What a state says, if its supervisor lives and all is where it is expected."""
    if not content.startswith(_BEGIN + b'"status": "running", '):
        return None
    _, _, named = content.partition(b', "name": "%s", "barn": "' % name.encode())
    processes, _, rest = content[content.rfind(b', "boot_id": ') :].partition(b', "command": ')
    _, _, groups = rest.partition(b', "cgroups": [')
    groups, listed, rest = groups.partition(b"]")
    _, _, log = rest.partition(b', "log": ')
    identities = _identities(processes)
    barn, ended, _ = named.partition(b'"')
    if not (ended and listed and log and identities) or b"\\" in groups:
        return None
    init, supervisor, barn_process = identities
    running = Running(
        name=name,
        barn=os.fsdecode(barn),
        init=init,
        supervisor=supervisor,
        barn_process=barn_process,
        cgroups=tuple(os.fsdecode(path) for path in groups.split(b'"')[1::2]),
        background=not log.startswith(b"null"),
    )
    return running if supervisor.lives() else None


def _identities(text: bytes) -> list[Identity]:
    """The three processes of a state, by what stands from its boot id on; none if that is not what is expected."""
    words = text.replace(b",", b" ").replace(b"}", b" ").split()
    if words[:1] != [b'"boot_id":'] or len(words) != 2 + 5 * len(_PROCESSES):
        return []
    found = []
    for number, word in enumerate(_PROCESSES):
        key, pid_key, pid, started_key, started = words[2 + 5 * number : 7 + 5 * number]
        numbers = [int(one) for one in (pid, started) if one.isdigit() and len(one) <= _LONGEST]
        if key != word or (pid_key, started_key) != _PROCESS or len(numbers) != 2:
            return []
        found.append(Identity(pid=numbers[0], started=numbers[1], boot=os.fsdecode(words[1]).strip('"')))
    return found
