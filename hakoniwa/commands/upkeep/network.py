"""`hako network`: list, show and remove the bridges that are ours."""

from __future__ import annotations

from hakoniwa.commands.table import show_table
from hakoniwa.errors import nearest
from hakoniwa.known import state
from hakoniwa.known.statefile import ALIVE, Damaged
from hakoniwa.network import overview
from hakoniwa.options import JSON, Command, Given, usage_error
from hakoniwa.record import plain
from hakoniwa.spec.networks import publish_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.network.overview import Overview

COMMAND = Command(
    name="network",
    summary="List (ls), show (inspect BRIDGE) or remove (rm BRIDGE) the bridges that are ours.",
    options=(JSON,),
    file="",
    words=("ls|inspect|rm", "[BRIDGE]..."),
    many=True,
)

SCHEMA = 1
_ACTIONS = ("ls", "inspect", "rm")


def run(given: Given) -> int:
    """Do what the first word says."""
    action, names = (given.words[0], given.words[1:]) if given.words else ("ls", ())
    if action not in _ACTIONS:
        raise usage_error(f"there is no {action!r}", "network", nearest(action, _ACTIONS) or "ls, inspect or rm")
    if action == "ls" and names:
        raise usage_error("ls takes no name", "network", f"hako network inspect {names[0]}")
    if action != "ls" and not names:
        raise usage_error(f"which bridge? {action} takes its name", "network", "hako network ls lists them")
    if given.flag("json") and action == "rm":
        raise usage_error("rm prints nothing, and takes no --json", "network")
    if action == "rm":
        for name in names:
            overview.remove(name)
        return 0
    found = overview.every() if action == "ls" else [overview.one_of(name) for name in names]
    if action == "ls" and not given.flag("json"):
        _show(found)
    else:
        import json

        shown = [describe(one) | (_traffic(one) if action == "inspect" else {}) for one in found]
        print(json.dumps({"schema": SCHEMA, "bridges": shown}, indent=2))
    return 0


def describe(one: Overview) -> dict[str, Any]:
    """A bridge as `--json` shows it."""
    names = sorted({name for name, _ in one.on_it})
    containers = [
        {
            "name": name,
            "addresses": [address for owner, address in one.on_it if owner == name and address],
            "published": _published_by(name),
        }
        for name in names
    ]
    return {
        "name": one.name,
        "made": one.made,
        "addresses": [*one.addresses],
        "mac": one.mac,
        "mtu": one.mtu,
        "up": one.up,
        "nat": one.nat,
        "ports": [*one.ports],
        "containers": containers,
    }


def _traffic(one: Overview) -> dict[str, Any]:
    """What has passed through a bridge, and who was seen on it."""
    from hakoniwa.network.links import traffic

    found: dict[str, Any] = plain(traffic.on(one.name))
    return {"traffic": found["ports"], "neighbours": found["neighbours"]}


def _published_by(name: str) -> list[str]:
    """The ports that a container publishes while it runs."""
    try:
        known = state.read(name)
    except Damaged:
        return []  # `ps` tells
    if known is None or known.status not in ALIVE or known.network is None:
        return []
    return [publish_text(one) for one in known.network.published]


def _show(found: list[Overview]) -> None:
    nat = {True: "yes", False: "no", None: "-"}
    rows = []
    for one in found:
        on_it = describe(one)["containers"]
        told = [f"{known['name']}={','.join(known['addresses'])}".rstrip("=") for known in on_it]
        published = [port for known in on_it for port in known["published"]]
        words = [",".join(one.addresses), nat[one.nat], one.made, " ".join(told), ",".join(published)]
        rows.append([one.name, *(word or "-" for word in words)])
    show_table(["BRIDGE", "ADDRESS", "NAT", "MADE", "CONTAINERS", "PORTS"], rows)
