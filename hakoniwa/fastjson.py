"""JSON for the hot path: the C scanner and encoder of the standard library without their Python face.

`import json` imports `re` and costs about as much as a whole interpreter start, which `hako start` (one small write)
and `hako attach` (one small read) cannot afford. Everything else uses `json`; a test holds both to the same result.
"""

from __future__ import annotations

from _json import encode_basestring_ascii, make_encoder, make_scanner

from hakoniwa.record import Record, Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _Settings:
    """What the C scanner reads from a `json.JSONDecoder`."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


def _plain(value: object) -> dict[str, Any]:
    """What the encoder takes in the place of an object that it does not know."""
    if isinstance(value, Record):
        return value._plain()
    raise TypeError(f"JSON cannot say {value!r}")


_scan = make_scanner(_Settings)
_encode = make_encoder(None, _plain, encode_basestring_ascii, None, ": ", ", ", False, False, False)


def loads(text: str) -> Any:
    """The value of a JSON text. Raises ValueError when it is none, or is nested too deeply."""
    try:
        value, end = _scan(text, 0)
    except StopIteration as stop:
        raise ValueError(f"no JSON value at character {stop.value}") from None
    except RecursionError:
        raise ValueError("the JSON value is nested too deeply") from None
    except (SystemError, ImportError):
        # The scanner looks for `json.JSONDecodeError`: Python 3.11 among what is loaded, later ones load it.
        raise ValueError("the JSON value ends early, or holds something that belongs in no JSON string") from None
    if text[end:].strip():
        raise ValueError(f"more after the JSON value at character {end}")
    return value


def dumps(value: Any) -> str:
    """`value`, which may hold records, as JSON on one line. Raises TypeError or ValueError for what JSON cannot say."""
    return "".join(_encode(value, 0))


# Documents: what is kept in files, an object with the number of its schema


class Later(Unreadable):
    """It is not damaged: we are too old."""


def document(record: Record, schema: int) -> bytes:
    """A record as a file keeps it."""
    return dumps({**record._plain(), "schema": schema}).encode()


def read_document(
    content: bytes,
    schema: int,
    *,
    bring_up: Callable[[dict[str, Any], int], None] | None = None,
    unversioned: bool = False,
) -> dict[str, Any]:
    """The fields of a record that a file keeps. Raises Unreadable; Later if a later version of ours has written it.

    `bring_up` changes the fields of an earlier schema, whose number it gets, into those of this one. `unversioned`: files of
    the first schema do not name it.
    """
    try:
        value = loads(content.decode())
    except ValueError as error:
        raise Unreadable(str(error)) from None
    if not isinstance(value, dict):
        raise Unreadable("must be an object")
    found = value.pop("schema", 1 if unversioned else None)
    if type(found) is not int or found < 1:
        raise Unreadable(f"'schema' must be {schema}")
    if found > schema:
        raise Later(f"it is of schema {found}, which a later version of hakoniwa has written")
    if found < schema and bring_up is not None:
        bring_up(value, found)
    return value
