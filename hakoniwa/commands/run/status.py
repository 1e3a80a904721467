"""`hako status`: how the containers of a file fare."""

from __future__ import annotations

from hakoniwa.commands.run.ps import SCHEMA, describe, metadata_text, status_text
from hakoniwa.commands.selection import heads
from hakoniwa.errors import printable
from hakoniwa.options import JSON, NAME, Command, Given

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMMAND = Command(name="status", summary="Tell how the containers of a file fare.", options=(NAME, JSON), by_name=True)


def run(given: Given) -> int:
    """Print each container's state, a line a fact."""
    found = [describe(known) for known in heads(given)]
    if given.flag("json"):
        import json

        print(json.dumps({"schema": SCHEMA, "containers": found}, indent=2))
        return 0
    for index, described in enumerate(found):
        if index:
            print()
        network = described.pop("network")
        described |= {"status": status_text(described), "metadata": metadata_text(described["metadata"])}
        described |= {} if network is None else network_lines(network)
        for key, value in described.items():
            if value not in (None, "") and key != "exit":
                print(f"{key:<15} {printable(str(value))}")
    return 0


def network_lines(network: dict[str, Any]) -> dict[str, str]:
    """What is known of a network, a line a fact."""
    lines = {}
    for one in network["interfaces"]:
        words = [one[word] for word in ("address", "address6") if word in one]
        words += [f"via {one[word]}" for word in ("gateway", "gateway6") if word in one]
        words += [f"{word} {one[word]}" for word in ("bridge", "host", "mac", "mtu") if word in one]
        lines[one["name"]] = " ".join(map(str, words))
    if network["published"]:
        lines["published"] = " ".join(network["published"])
    if network["namespace"]:
        lines["netns"] = network["namespace"]
    if network["policy"] != "any":
        lines["policy"] = network["policy"]
    return lines
