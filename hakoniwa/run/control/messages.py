"""What a supervisor is asked through its control socket, and what it answers: records, each on a line of JSON."""

from __future__ import annotations

from hakoniwa import fastjson, recordreader
from hakoniwa.errors import HakoError
from hakoniwa.record import Record, Unreadable
from hakoniwa.refusal import Refusal, raise_refusals, refusals_of  # `recordreader.read` finds Refusal here


class Request(Record):
    """Something that is asked: "reload" or "release"."""

    command: str


class Change(Record):
    """One thing that the file says differently. `outcome` is "applied", "needs a restart", or why it failed."""

    what: str
    outcome: str
    failed: bool = False


class Answer(Record):
    """What is answered: what a reload has changed, or everything that is wrong."""

    changes: tuple[Change, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def written(message: Request | Answer) -> bytes:
    """A message as it is sent."""
    return fastjson.dumps(message._plain()).encode() + b"\n"


def read_request(line: bytes) -> Request:
    """The request that was sent. Raises HakoError for what is none."""
    try:
        value = fastjson.loads(line.decode())
    except ValueError:
        raise HakoError("the request is no line of JSON") from None
    try:
        return recordreader.read(Request, value)
    except Unreadable as problem:
        raise HakoError(f"the request {problem}") from None


def refused(error: HakoError) -> Answer:
    """The answer that something was not done."""
    return Answer(refusals=refusals_of([error]))


def read_answer(line: bytes) -> Answer:
    """The answer that was sent. Raises HakoError for what is none, and the one that it tells."""
    try:
        answer = recordreader.read(Answer, fastjson.loads(line.decode()))
    except (ValueError, Unreadable):
        told = "what the supervisor answers cannot be understood"
        raise HakoError(told, hint="was it started by another version? a restart has it be of this one") from None
    raise_refusals(answer.refusals)
    return answer
