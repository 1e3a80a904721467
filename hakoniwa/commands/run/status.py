"""`hako status`: how the containers of a file fare."""

from __future__ import annotations

from hakoniwa.commands.run.ps import SCHEMA, describe, metadata_text, status_text
from hakoniwa.commands.selection import selected
from hakoniwa.errors import printable
from hakoniwa.options import JSON, NAME, Command, Given

COMMAND = Command(name="status", summary="Tell how the containers of a file fare.", options=(NAME, JSON), by_name=True)


def run(given: Given) -> int:
    """Print each container's state, a line a fact."""
    found = [describe(known) for known in selected(given)]
    if given.flag("json"):
        import json

        print(json.dumps({"schema": SCHEMA, "containers": found}, indent=2))
        return 0
    for index, described in enumerate(found):
        if index:
            print()
        described |= {"status": status_text(described), "metadata": metadata_text(described["metadata"])}
        for key, value in described.items():
            if value not in (None, "") and key != "exit":
                print(f"{key:<15} {printable(str(value))}")
    return 0
