"""The description of a container as it was recorded, where functions are names: as a spec again."""

from __future__ import annotations

from hakoniwa.record import Record
from hakoniwa.spec.documents.plain import SCHEMA, from_plain
from hakoniwa.spec.documents.shapes import Shape, published
from hakoniwa.spec.records import Container
from hakoniwa.spec.rules.buildchecks import installed
from hakoniwa.spec.strategies import SETTINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.spec.records import Barn


def read_recorded(name: str, file: str, containers: list[dict[str, Any]]) -> tuple[Barn, list[str]]:
    """The barn of some containers that were recorded, and what was left out, in words. Raises HakoError."""
    left: list[str] = []
    plain = [_published(Container, one) for one in containers]
    for recorded, container in zip(containers, plain, strict=True):
        left += _take_functions(recorded, container)
    origin = next((str(one["origin"]) for one in containers if one.get("origin")), file)
    value = {"schema": SCHEMA, "name": name, "origin": origin, "containers": plain}
    return from_plain(value, called=name), list(dict.fromkeys(left))


def _published(kind: type[Record], value: Any) -> Any:
    """What of a record a document has, as far as this version knows it."""
    if not isinstance(value, dict):
        return value
    return {name: _part(shape, value[name]) for name, shape in published(kind).items() if name in value}


def _part(shape: Shape, value: Any) -> Any:
    if isinstance(value, list):
        return [_part(shape.each, item) for item in value] if shape.each is not None else value
    return value if shape.record is None else _published(shape.record, value)


def _take_functions(recorded: dict[str, Any], container: dict[str, Any]) -> list[str]:
    """Take out of a container what only functions could do. Returns what that was, in words."""
    hooks = recorded.get("hooks", {})
    left = [f"the hook {hook.get('point')!r}" for hook in hooks.get("general", [])]
    left += [f"the {hook.get('kind')} hook" for hook in hooks.get("background", [])]
    build, whole = container.get("build", {}), recorded.get("build", {})
    bootstrap = build.get("bootstrap", {})
    strategy, code = bootstrap.get("strategy"), bootstrap.get("settings", {}).get("code", "")
    is_object = strategy is not None and strategy not in SETTINGS and not installed(strategy)
    if is_object or (strategy == "python" and _is_name(code)):
        build["bootstrap"] = {"skip": True}
        left.append("how the rootfs is made")
    if whole.get("bootstrap", {}).get("postprocess"):
        left.append("the postprocess function")
    steps = build.get("provision", {}).get("steps", [])
    left += [f"the step of provisioning {step.get('name', '')!r}" for step in steps if step.get("kind") == "python"]
    if steps:
        build["provision"]["steps"] = [step for step in steps if step.get("kind") != "python"]
    return left


def _is_name(code: str) -> bool:
    """Whether it is the name that a function was recorded by: such a text would do nothing."""
    return all(part.isidentifier() or part in ("<locals>", "<lambda>") for part in code.split("."))
