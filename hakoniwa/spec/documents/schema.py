"""The JSON Schema of documents, made from the records: `hako inspect --schema`."""

from __future__ import annotations

from hakoniwa.record import Record
from hakoniwa.spec.documents.plain import SCHEMA
from hakoniwa.spec.documents.shapes import Shape, published
from hakoniwa.spec.records import Barn, Bootstrap
from hakoniwa.spec.rules import buildchecks
from hakoniwa.spec.rules.fieldchecks import checks_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_TYPES = {"None": "null", "bool": "boolean", "int": "integer", "float": "number", "str": "string"}


def schema() -> dict[str, Any]:
    """The schema, valid by itself. What several fields must be together it leaves to `hako check`."""
    found: dict[str, Any] = {}
    barn = _record(Barn, found)
    barn["properties"] = {"schema": {"const": SCHEMA}, **barn["properties"]}
    barn["required"] = ["schema", *barn["required"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:hakoniwa:spec:{SCHEMA}",
        "title": "A barn of containers, as hako start --spec runs it",
        **barn,
        "$defs": found,
    }


def _record(kind: type[Record], found: dict[str, Any]) -> dict[str, Any]:
    checks = checks_of(kind)
    properties = {}
    for name, shape in published(kind).items():
        properties[name] = _value(shape, checks.get(name), found)
        default = getattr(kind, name, None)
        if isinstance(default, (bool, int, float, str)):
            properties[name]["default"] = default
        elif isinstance(default, tuple) and all(isinstance(item, str) for item in default):
            properties[name]["default"] = list(default)
    if kind is Bootstrap:
        settings = sorted(buildchecks.CHECKS)
        properties["settings"] = {"type": "object", "propertyNames": {"enum": settings}}
    required = [name for name in properties if not hasattr(kind, name)]
    described = " ".join((kind.__doc__ or "").split())
    return {
        **({"description": described} if described else {}),
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _value(shape: Shape, check: Callable[[Any], Any] | None, found: dict[str, Any]) -> dict[str, Any]:
    """What a shape takes; `check` may know the words that it takes."""
    words = getattr(check, "words", None)
    choices: list[dict[str, Any]] = [_scalar(kind, words) for kind in shape.scalars]
    if shape.anything:
        return {}
    if (known := shape.record) is not None:
        name = known.__name__
        if name not in found:
            found[name] = {}  # first, as it could be in itself
            found[name] = _record(known, found)
        choices.append({"$ref": f"#/$defs/{name}"})
    if shape.each is not None:
        choices.append({"type": "array", "items": _value(shape.each, check, found)})
    if shape.row:
        each = [_value(part, None, found) for part in shape.row]
        choices.append({"type": "array", "prefixItems": each, "items": False, "minItems": len(each)})
    if shape.named is not None:
        choices.append({"type": "object", "additionalProperties": _value(shape.named, None, found)})
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _scalar(kind: str, words: tuple[str, ...] | None) -> dict[str, Any]:
    if kind == "str" and words is not None:
        return {"enum": list(words)}
    return {"type": _TYPES[kind]}
