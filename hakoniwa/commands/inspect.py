"""`hako inspect`: the full definition, as it was when the container was created or last started."""

from __future__ import annotations

from hakoniwa.commands.selection import selected
from hakoniwa.kernel import capabilities
from hakoniwa.options import NAME, Command, Given
from hakoniwa.statefile import State

COMMAND = Command(
    name="inspect",
    summary="Print the full definition of the containers of a file, as JSON.",
    options=(NAME,),
    by_name=True,
)

SCHEMA = 1


def run(given: Given) -> int:
    """Print the definitions. `seccomp` is null: no filter is in force."""
    import json

    definitions = []
    for known in selected(given):
        definition = dict(known.definition.whole)
        if isinstance(known, State):
            definition["effective_capabilities"] = capabilities.names(known.capabilities)
        definitions.append(definition)
    print(json.dumps({"schema": SCHEMA, "containers": definitions}, indent=2))
    return 0
