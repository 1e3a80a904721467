"""The use cases of a barn in the background: make it; add, start, stop and remove its containers; end it.

All but `make_barn` ask the barn's process through its socket. They may be called from any thread, and fork nothing.
"""

from __future__ import annotations

import _socket
import os

from hakoniwa.errors import HakoError, closest
from hakoniwa.kernel.processes.pidfd import wait_end
from hakoniwa.known import leftovers, state
from hakoniwa.known.idmaps import ranges
from hakoniwa.known.statefile import ALIVE, Damaged, State
from hakoniwa.places import barn_folder_of
from hakoniwa.run import holders
from hakoniwa.run.barn import record
from hakoniwa.run.barn.late import requests
from hakoniwa.run.barn.late.requests import read_answer, written_request
from hakoniwa.run.end import GRACE, Ending, end
from hakoniwa.trust import check_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.run.barn.late.requests import Fare, Request
    from hakoniwa.spec.records import Barn

_CLEANING = 40.0  # seconds that a barn may take for its last hooks (30 each at most) and for removing things
_CHUNK = 1 << 16


def make_barn(barn: Barn, *, wait: bool = False) -> tuple[list[tuple[str, int]], list[HakoError]]:
    """Have a barn in the background, with its containers, if it has any. The caller must have no threads: it is forked.

    Returns names and pids of the containers that run, and why the others do not. Raises HakoError.
    """
    from hakoniwa.run.barn.background import run_in_background
    from hakoniwa.run.prepare import Wanted, prepare

    prepared = prepare(barn, Wanted(background=True))
    return run_in_background(prepared.barn, prepared.launches, wait=wait, watch=False)


def list_members(barn: str) -> tuple[Fare, ...]:
    """How the containers of a barn fare. Raises HakoError."""
    return _ask(barn, requests.List())


def add_member(barn: str, document: str) -> Fare:
    """Add the container of a document, which is checked, and not started. Raises HakoError."""
    (fare,) = _ask(barn, requests.Add(document=document))
    return fare


def start_member(barn: str, name: str, *, wait: bool = False, hold: bool = False) -> Fare:
    """Start a container that was added, or has ended; with `wait` until it is ready, with `hold` until it waits for its release.

    Raises HakoError.
    """
    (fare,) = _ask(barn, requests.Start(name=name, wait=wait, hold=hold))
    return fare


def stop_member(barn: str, name: str, seconds: float = GRACE) -> Fare:
    """End a container by TERM, and after some seconds by KILL. What has ended is left as it is. Raises HakoError."""
    fare = find_member(barn, name)
    if fare.status in ALIVE:
        _end([name], seconds)
    (fare,) = _ask(barn, requests.Stop(name=name))
    return fare


def remove_member(barn: str, name: str) -> None:
    """Forget a container that does not run, with its state and its log. Raises HakoError."""
    _ask(barn, requests.Remove(name=name))
    try:
        lock = holders.take_lock(name)
    except state.Busy:
        return  # somebody starts another of that name: it is theirs now
    leftovers.clear(name)
    state.remove_logs(name)
    state.forget(name, lock)
    ranges.free_forgotten()


def kept_barns(name: str | None, file: str | None) -> list[str]:
    """The barns that go on without containers, of a name or a file. A name that one container of several has means that alone."""
    return [barn for barn in record.names() if _is_kept(barn, file) and (name is None or _is_meant(barn, name))]


def _is_kept(barn: str, file: str | None) -> bool:
    try:
        known = record.read(barn)
    except Damaged:
        return False  # gc tells
    return known is not None and known.keep and file in (None, known.file) and known.identity().lives()


def _is_meant(barn: str, name: str) -> bool:
    members = {fare.name for fare in list_members(barn)} if barn == name else set()
    return barn == name and (name not in members or members == {name})


def end_barn(barn: str, seconds: float = GRACE) -> None:
    """End all containers of a barn, and the barn. Returns when it has removed everything. Raises HakoError."""
    running = [fare.name for fare in list_members(barn) if fare.status in ALIVE]
    known = record.read(barn)
    process = known.identity().open() if known is not None else None
    _ask(barn, requests.End())
    _end(running, seconds)
    if process is not None:
        ended = wait_end(process, _CLEANING)
        os.close(process)
        if not ended:
            assert known is not None
            raise HakoError(f"barn {barn!r} has not ended yet", hint=f"its pid is {known.process.pid}")


def find_member(barn: str, name: str) -> Fare:
    """How one container of a barn fares. Raises HakoError if it has none of that name."""
    members = list_members(barn)
    for fare in members:
        if fare.name == name:
            return fare
    raise HakoError(f"barn {barn!r} has no container {name!r}", hint=closest(name, [fare.name for fare in members]))


def _end(names: list[str], seconds: float) -> None:
    known = [found for name in names if (found := state.read(name)) is not None]
    failures = end([found for found in known if _runs(found)], Ending(grace=seconds))
    if failures:
        raise failures[0]


def _runs(known: State) -> bool:
    return known.status in ALIVE


def _ask(barn: str, request: Request) -> tuple[Fare, ...]:
    """Ask the process of a barn. Raises HakoError for what it refuses, and where there is none."""
    line = written_request(request)
    connection = _connect(barn)
    try:
        connection.sendall(line)
        told = b""
        while more := connection.recv(_CHUNK):
            told += more
    except OSError as error:
        raise HakoError(f"cannot ask barn {barn!r}: {error.strerror}") from None
    finally:
        connection.close()
    if not told.endswith(b"\n"):
        raise HakoError(f"barn {barn!r} has ended before it answered")
    return read_answer(told).members


def _connect(barn: str) -> _socket.socket:
    if not barn or "/" in barn or barn.startswith("."):
        raise HakoError(f"no barn can have the name {barn!r}")
    folder = barn_folder_of(barn)
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        check_folder(folder)
        place = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{place}/{record.SOCKET}")
        finally:
            os.close(place)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        connection.close()
        names = record.names()
        hint = "its process was killed: hako gc clears what that has left" if barn in names else closest(barn, names)
        raise HakoError(f"no barn {barn!r} runs", hint=hint) from None
    except OSError as error:
        connection.close()
        raise HakoError(f"cannot ask barn {barn!r}: {error.strerror}") from None
    except HakoError:
        connection.close()
        raise
    return connection
