"""Documents: the text of a spec as JSON, from a file or standard input, and whose it may be."""

from __future__ import annotations

import json
import os

from hakoniwa import trust
from hakoniwa.errors import HakoError
from hakoniwa.spec.documents.plain import Twice, from_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from hakoniwa.spec.records import Barn

LARGEST = 4 << 20  # bytes of a document
STANDARD_INPUT = "standard input"
_PRINTS = "hako inspect --spec FILE prints one"
_LONGEST_NUMBER = 400  # digits; Python takes more than a second for some thousands


def parse(content: bytes, shown: str) -> object:
    """The value of a text of JSON, objects with a name twice as `Twice`. Raises HakoError."""
    try:
        return json.loads(
            content.decode(),
            object_pairs_hook=_object,
            parse_int=lambda text: int(text) if len(text) <= _LONGEST_NUMBER else float("inf"),
            parse_constant=_refuse,
        )
    except UnicodeDecodeError as error:
        raise HakoError(f"not JSON: byte {error.start} is no UTF-8", where=shown) from None
    except json.JSONDecodeError as error:
        told = f"not JSON: {error.msg[:1].lower()}{error.msg[1:]}"
        raise HakoError(told, where=f"{shown}:{error.lineno}") from None
    except RecursionError:
        raise HakoError("not a spec: it is nested too deeply", where=shown) from None
    except ValueError as error:
        raise HakoError(f"not JSON: {error}", where=shown) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    names = [name for name, _ in pairs]
    twice = Twice(found)
    twice.names = tuple(name for name in found if names.count(name) > 1)
    return twice


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def read_document(path: str) -> Barn:
    """The barn of a document in a file that this user may execute, or with "-" of standard input. Raises HakoError."""
    if path == "-":
        return _from_input()
    try:
        content = trust.read_trusted(path, LARGEST, wanted=f"name a spec: {_PRINTS}")
    except FileNotFoundError:
        raise HakoError("there is no such file", where=path, hint=_PRINTS) from None
    except OSError as error:
        told = error.strerror or str(error)
        raise HakoError(f"{told[:1].lower()}{told[1:]}", where=path) from None
    return from_text(content, path)


def from_text(content: bytes, path: str) -> Barn:
    """The barn of a document that lies in a file, whose content was read. Raises HakoError."""
    barn = from_plain(parse(content, path), called=path)
    own = {"file": os.path.realpath(path), "origin": barn.origin}
    return barn.replace(
        **own,
        containers=tuple(container.replace(**own) for container in barn.containers),
        executed=(os.path.join(os.getcwd(), path),),
    )


def _from_input() -> Barn:
    """The barn of a document that has no file: it is its origin's, if it has one."""
    content = b""
    while len(content) <= LARGEST and (more := os.read(0, 1 << 20)):
        content += more
    if len(content) > LARGEST:
        raise HakoError(f"more than {LARGEST} bytes are no spec", where=STANDARD_INPUT)
    if not content.strip():
        raise HakoError("there is no spec", where=STANDARD_INPUT, hint=_PRINTS)
    barn = from_plain(parse(content, STANDARD_INPUT), called=STANDARD_INPUT)
    own = {"file": barn.origin, "origin": barn.origin}
    return barn.replace(**own, containers=tuple(container.replace(**own) for container in barn.containers))
