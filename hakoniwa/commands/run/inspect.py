"""`hako inspect`: the full definition, as it was when the container was created or last started; or a spec that `start` runs."""

from __future__ import annotations

from hakoniwa import log
from hakoniwa.commands.selection import selected
from hakoniwa.errors import HakoError
from hakoniwa.kernel.security import capabilities
from hakoniwa.known.statefile import ALIVE, State
from hakoniwa.options import NAME, Command, Given, Option, usage_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.spec.records import Barn

COMMAND = Command(
    name="inspect",
    summary="Print the full definition of the containers of a file, as JSON.",
    options=(
        NAME,
        Option(flags=("--spec",), help="load FILE (with -n: take what was recorded), and print what start --spec runs"),
        Option(flags=("--schema",), help="print the JSON Schema of such a spec"),
    ),
    by_name=True,
    instead=("schema",),
)

SCHEMA = 1


def run(given: Given) -> int:
    """Print the definitions, a spec, or the schema of specs."""
    if given.flag("schema"):
        if given.file is not None or given.flag("spec") or given.flag("name"):
            raise usage_error("--schema is about every spec, and stands alone", "inspect")
        from hakoniwa.spec.documents.schema import schema

        return _print(schema())
    if given.flag("spec"):
        return _print_spec(given)
    definitions = []
    for known in selected(given):
        definition = dict(known.definition.whole)
        if isinstance(known, State):
            definition["effective_capabilities"] = capabilities.names(known.capabilities)
            if known.status in ALIVE and known.network_shown is not None:
                definition["effective_network"] = known.network_shown
        definitions.append(definition)
    return _print({"schema": SCHEMA, "containers": definitions})


def _print(value: dict[str, Any]) -> int:
    import json

    print(json.dumps(value, indent=2))
    return 0


def _print_spec(given: Given) -> int:
    from hakoniwa.spec.documents.plain import to_plain
    from hakoniwa.spec.functions import without_functions

    if given.value("name") is None:
        from hakoniwa.haco.loader import load_given

        barn = load_given(given, "inspect")
        _, left = without_functions(barn)
    else:
        barn, left = _recorded(given)
    status = _print(to_plain(barn))
    for what in left:
        log.write(f"left out, as a spec has no functions: {what}", "warning")
    return status


def _recorded(given: Given) -> tuple[Barn, list[str]]:
    """The containers of a name as they were recorded, and what of them a spec cannot say. Raises HakoError."""
    from hakoniwa.spec.documents.recorded import read_recorded

    found = selected(given)
    barns = {known.barn for known in found}
    if len(barns) > 1:
        raise HakoError(f"they are of several barns: {' '.join(sorted(barns))}", where=given.value("name") or "")
    return read_recorded(found[0].barn, found[0].file, [known.definition.whole for known in found])
