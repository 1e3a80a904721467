"""What a barn's process is asked, and what it answers: records, each on a line of JSON."""

from __future__ import annotations

from hakoniwa import fastjson, recordreader
from hakoniwa.errors import HakoError
from hakoniwa.record import Record, Unreadable
from hakoniwa.refusal import Refusal, raise_refusals, refusals_of  # `recordreader.read` finds Refusal here

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

LARGEST = 1 << 20  # bytes of a request


class Request(Record):
    """Something that is asked."""


class List(Request):
    """How do the containers fare?"""


class Add(Request):
    """Take one more container: the one of a document, which is a text of JSON."""

    document: str


class Start(Request):
    """Start a container that does not run; answered when it runs (with `wait`: is ready; with `hold`: is held)."""

    name: str
    wait: bool = False
    hold: bool = False


class Stop(Request):
    """Ask a container to end, as TERM to its supervisor does; answered when it has."""

    name: str


class Remove(Request):
    """Forget a container that does not run."""

    name: str


class End(Request):
    """End all containers, and the barn; answered at once."""


KINDS: dict[str, type[Request]] = {
    "list": List,
    "add": Add,
    "start": Start,
    "stop": Stop,
    "remove": Remove,
    "end": End,
}


class Fare(Record):
    """How one container of a barn fares."""

    name: str
    status: Literal["added", "starting", "created", "running", "stopped", "failed"]
    pid: int | None = None  # of its first process, while it runs
    code: int | None = None
    signal: int | None = None
    error: str | None = None


class Answer(Record):
    """What is answered: the containers that were asked for, or everything that is wrong."""

    members: tuple[Fare, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def written_request(request: Request) -> bytes:
    """A request as it is sent. Raises HakoError for one that is too large."""
    (command,) = (word for word, kind in KINDS.items() if kind is type(request))
    line = fastjson.dumps({"command": command, **request._plain()}).encode() + b"\n"
    if len(line) > LARGEST:
        raise HakoError(f"{len(line)} bytes are more than the {LARGEST} of a request")
    return line


def read_request(line: bytes) -> Request:
    """The request that was sent. Raises HakoError for what is none."""
    try:
        value = fastjson.loads(line.decode())
    except ValueError:
        raise HakoError("the request is no line of JSON") from None
    kind = KINDS.get(value.pop("command", "")) if isinstance(value, dict) and _names_one(value) else None
    if kind is None:
        raise HakoError("the request has none of these commands", hint=" ".join(KINDS))
    try:
        return recordreader.read(kind, value)
    except Unreadable as problem:
        raise HakoError(f"the request {problem}") from None


def _names_one(value: dict[str, object]) -> bool:
    return isinstance(value.get("command"), str)


def refused(error: HakoError) -> Answer:
    """The answer that something was not done."""
    return Answer(refusals=refusals_of([error]))


def written_answer(answer: Answer) -> bytes:
    """An answer as it is sent."""
    return fastjson.dumps(answer._plain()).encode() + b"\n"


def read_answer(line: bytes) -> Answer:
    """The answer that was sent. Raises HakoError for what is none, and the one that it tells."""
    try:
        answer = recordreader.read(Answer, fastjson.loads(line.decode()))
    except (ValueError, Unreadable):
        raise HakoError(
            "what the barn's process answers cannot be understood", hint="is it of another version?"
        ) from None
    raise_refusals(answer.refusals)
    return answer
