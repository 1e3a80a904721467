"""What the files of containers tell by their bytes: which of them are to be read, and who is to be ended.

To read a state takes the classes of all that is in it, and a scanner of JSON: a quarter of the time of a `hako kill`. What that
has to know stands in places of its own. No value can be taken for one: in a string of JSON each quotation mark is escaped, and
what users name themselves lies in the definition, before.
"""

from __future__ import annotations

import os

from hakoniwa.kernel.filesystem.files import entries_of
from hakoniwa.kernel.processes.pidfd import Identity
from hakoniwa.known import BEGINNING, RECORDS, SCHEMA, STATE
from hakoniwa.places import lib_dir, run_dir
from hakoniwa.record import Record
from hakoniwa.trust import read_own

_BEGIN = b'{"schema": %d, ' % SCHEMA
_LINE = b",\n"  # JSON has no other end of a line: inside of a string it is escaped
_LONGEST = 12  # digits of a pid, or of clock ticks since boot: more are left to who reads with care
# The words of what is taken: of the first line, and of the second one.
_PROCESSES = (
    *(b'"pid":', b'"supervisor_pid":', b'"boot_id":'),
    *(b'"started":', b'"supervisor_started":', b'"barn_process":', b'{"pid":', b'"started":'),
)


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


def head_of(content: bytes) -> bytes | None:
    """The first line of one of today's files, without its schema, as a JSON object; None if it does not begin so."""
    end = content.find(_LINE) if content.startswith(_BEGIN) else -1
    return b"{%b}" % content[len(_BEGIN) : end] if end != -1 else None


def name_of_file(file: str) -> str | None:
    """The one container that is known of a file, by its real path. None: the files have to be read."""
    if not _is_plain(file):
        return None
    said = b'"file": "%s"' % file.encode()
    states, records, found = run_dir(), lib_dir(), []
    with_state = {*names()}
    for name in {*with_state, *recorded_names()}:
        path = f"{states}/{name}/{STATE}" if name in with_state else f"{records}/{RECORDS}/{name}.json"
        try:
            begin = read_own(path, most=BEGINNING)
        except OSError:
            return None
        head = head_of(begin)
        if head is None and not _is_of_another(begin, said):
            return None
        if head is not None and said in head:
            found.append(name)
    return found[0] if len(found) == 1 else None


def _is_of_another(begin: bytes, said: bytes) -> bool:
    """Whether what an earlier version has written is seen to be of another file: it begins with its status and its file."""
    schema, _, rest = begin.partition(b', "status": ')
    _, _, rest = rest.partition(b", ")
    return schema.startswith(b'{"schema": ') and rest.startswith(b'"file": "') and not rest.startswith(said)


def running_of_file(file: str) -> Running | None:
    """The one container that is known of a file, if it is seen to run. None: the files have to be read."""
    name = name_of_file(file)
    return running_of_name(name) if name is not None else None


def running_of_name(name: str) -> Running | None:
    """The container of a name, if it is seen to run. None: its file has to be read, or there is none."""
    content = state_of(name)
    return _running(name, content) if content is not None else None


def state_of(name: str) -> bytes | None:
    """The state of the container of a name, as it is written. None: the name has to be looked at with care, or there is none."""
    if not name[:1].isalnum() or not name.isascii() or "/" in name:
        return None
    try:
        return read_own(f"{run_dir()}/{name}/{STATE}")
    except OSError:
        return None


def _is_plain(text: str) -> bool:
    """Whether a string is in JSON as it is."""
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


def _running(name: str, content: bytes) -> Running | None:
    """What a state says, if its supervisor lives and all is where it is expected."""
    head, line, rest = content.partition(_LINE)
    if not (line and head.startswith(_BEGIN + b'"status": "running", ') and rest.endswith(b"}")):
        return None
    _, _, named = head.partition(b', "name": "%s", "barn": "' % name.encode())
    barn, ended, _ = named.partition(b'"')
    # The metadata are before, and may have these words, too; in the strings behind they are escaped.
    pids, _, log = head[head.rfind(b', "pid": ') :].partition(b', "lock": ')
    _, _, log = log.partition(b', "log": ')
    processes, _, groups = rest.partition(b', "cgroups": [')
    groups, listed, _ = groups.partition(b"]")
    identities = _identities(pids + b" " + processes)
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
    """The three processes of a state, by what it says of them; none if that is not what is expected."""
    words = text.replace(b",", b" ").replace(b"}", b" ").split()
    values = [word for word in words if word not in _PROCESSES]
    if tuple(word for word in words if word in _PROCESSES) != _PROCESSES or len(values) != len(_PROCESSES) - 1:
        return []
    boot = os.fsdecode(values.pop(2)).strip('"')
    numbers = [int(one) for one in values if one.isdigit() and len(one) <= _LONGEST]
    if len(numbers) != len(values):
        return []
    pid, supervisor, started, supervisor_started, barn, barn_started = numbers
    found = ((pid, started), (supervisor, supervisor_started), (barn, barn_started))
    return [Identity(pid=one, started=at, boot=boot) for one, at in found]
