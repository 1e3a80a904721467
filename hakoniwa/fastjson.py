"""JSON for the hot path.

`import json` imports `re` and costs about as much as a whole interpreter start, which `hako start` (two small writes)
and `hako attach` (one small read) cannot afford. So it is written by Python, which needs no further module, and read by the
C scanner of the standard library without its Python face. Everything else uses `json`; a test holds both to the same result.
"""

from __future__ import annotations

from hakoniwa.record import Record, Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Written:
    """A value that is JSON already."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def dumps(value: Any, *, by_name: bool = False) -> str:
    """`value`, which may hold records, as JSON on one line. Raises TypeError or ValueError for what JSON cannot say.

    With `by_name` callables and other objects become their name instead, as `record.plain` has it.
    """
    pieces: list[str] = []
    _write(value, pieces.append, by_name)
    return "".join(pieces)


def _write(value: Any, put: Callable[[str], None], by_name: bool) -> None:
    if isinstance(value, str):
        put(_quoted(value))
    elif value is None or isinstance(value, (bool, int)):
        put(
            "null"
            if value is None
            else int.__repr__(value)
            if type(value) is not bool
            else "true"
            if value
            else "false"
        )
    elif isinstance(value, (list, tuple)):
        before = "["
        for item in value:
            put(before)
            _write(item, put, by_name)
            before = ", "
        put("]" if value else "[]")
    elif isinstance(value, (dict, Record)):
        before = "{"
        named = value if isinstance(value, dict) else value._plain()
        for name, item in named.items():
            put(f"{before}{_quoted(name if isinstance(name, str) else _as_name(name))}: ")
            _write(item, put, by_name)
            before = ", "
        put("}" if named else "{}")
    elif isinstance(value, Written):
        put(value.text)
    elif isinstance(value, float) and value - value == 0:  # neither infinite nor no number
        put(float.__repr__(value))
    elif by_name and not isinstance(value, float):
        put(_quoted(getattr(value, "__qualname__", type(value).__qualname__)))
    else:
        raise TypeError(f"JSON cannot say {value!r}")


def _as_name(value: object) -> str:
    """What `json` makes of a name that is no text."""
    if value is None or isinstance(value, (bool, int, float)):
        return dumps(value)
    raise TypeError(f"JSON cannot have {value!r} for a name")


def _quoted(text: str) -> str:
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return '"' + text + '"'
    return '"' + "".join(map(_escaped, text)) + '"'


_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f", "\b": "\\b"}


def _escaped(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    if " " <= character <= "~":
        return character
    number = ord(character)
    if number < 0x10000:
        return f"\\u{number:04x}"
    number -= 0x10000  # two surrogates: RFC 8259, section 7
    return f"\\u{0xD800 | number >> 10:04x}\\u{0xDC00 | number & 0x3FF:04x}"


class _Settings:
    """What the C scanner takes from a `json.JSONDecoder`."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


_scan: Callable[[str, int], tuple[Any, int]] | None = None  # made when it is first needed


def loads(text: str) -> Any:
    """The value of a JSON text. Raises ValueError when it is none, or is nested too deeply."""
    global _scan
    if _scan is None:
        from _json import make_scanner

        _scan = make_scanner(_Settings)
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


# Documents: what is kept in files, an object with the number of its schema


class Later(Unreadable):
    """It is not damaged: we are too old."""


def document(record: Record, schema: int, first_line: int = 0) -> bytes:
    """A record as a file keeps it: its schema first, then its fields in their order; so many of them on a line of their own."""
    fields = {"schema": schema, **record._plain()}
    if not first_line:
        return dumps(fields).encode()
    items = list(fields.items())
    head, rest = (dumps(dict(part)) for part in (items[: first_line + 1], items[first_line + 1 :]))
    return f"{head[:-1]},\n{rest[1:]}".encode()


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
