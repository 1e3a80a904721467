"""JSON for the hot path: the C scanner and encoder of the standard library without their Python face.

`import json` imports `re` and costs about as much as a whole interpreter start, which `hako start` (one small write)
and `hako attach` (one small read) cannot afford. Everything else uses `json`; a test holds both to the same result.
"""

from __future__ import annotations

from _json import encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Settings:
    """What the C scanner reads from a `json.JSONDecoder`."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


_scan = make_scanner(_Settings)
_encode = make_encoder(None, None, encode_basestring_ascii, None, ": ", ", ", False, False, False)


def loads(text: str) -> Any:
    """The value of a JSON text. Raises ValueError when it is none."""
    try:
        value, end = _scan(text, 0)
    except StopIteration as stop:
        raise ValueError(f"no JSON value at character {stop.value}") from None
    if text[end:].strip():
        raise ValueError(f"more after the JSON value at character {end}")
    return value


def dumps(value: Any) -> str:
    """`value` as JSON on one line. Raises TypeError or ValueError for what JSON cannot say."""
    return "".join(_encode(value, 0))
