"""A container as bytes, from one fork of the barn's process to another: with little to load for who takes it out again."""

from __future__ import annotations

import marshal
import sys

from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_RECORD, _TUPLE = 0, 1


def pack(record: Record) -> bytes:
    """A record, whose values are of the kinds that documents have. Raises ValueError for any other."""
    return marshal.dumps(_packed(record))


def unpack(packed: bytes) -> Any:
    """The record that was packed, by the same program: what comes from elsewhere is not for this."""
    return _unpacked(marshal.loads(packed))


def _packed(value: Any) -> Any:
    """Each value with a mark of what it is, where marshal would not tell."""
    if isinstance(value, Record):
        kind = type(value)
        fields = {name: _packed(getattr(value, name)) for name in value._fields}
        return _RECORD, kind.__module__, kind.__qualname__, fields
    if isinstance(value, tuple):
        return _TUPLE, *map(_packed, value)
    if isinstance(value, list):
        return list(map(_packed, value))
    if isinstance(value, dict):
        return {name: _packed(item) for name, item in value.items()}
    return value


def _unpacked(value: Any) -> Any:
    if type(value) is tuple:
        mark, *parts = value
        if mark == _TUPLE:
            return tuple(map(_unpacked, parts))
        module, name, fields = parts
        if module not in sys.modules:  # of what most containers have not: a network
            __import__(module)
        return getattr(sys.modules[module], name)(**{field: _unpacked(item) for field, item in fields.items()})
    if type(value) is list:
        return list(map(_unpacked, value))
    if type(value) is dict:
        return {name: _unpacked(item) for name, item in value.items()}
    return value
