"""`hako ps`: what runs, and with `--all` what has run or could."""

from __future__ import annotations

from hakoniwa import fastjson
from hakoniwa.commands.table import show_table
from hakoniwa.known import listing, state
from hakoniwa.known.statefile import ALIVE, Damaged, State
from hakoniwa.options import JSON, Command, Given, Option
from hakoniwa.record import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.known.statefile import Head, Made

COMMAND = Command(
    name="ps",
    summary="List containers: those that run, or all that are known.",
    options=(Option(flags=("-a", "--all"), help="those that do not run, too"), JSON),
    file="",
)

SCHEMA = 1


def run(given: Given) -> int:
    """Look at every state, and for `--all` at every record."""
    everything = given.flag("all")
    found = [known for known in listing.heads(recorded=everything) if everything or known.status in ALIVE]
    if given.flag("json"):
        import json

        shown = {"schema": SCHEMA, "containers": [describe(known) for known in found], "barns": _kept_barns()}
        print(json.dumps(shown, indent=2))
        return 0
    described = [describe(known) for known in found]
    of_networks = ["ADDRESS", "PORTS"] if any(one["network"] for one in described) else []
    barns = {known.barn for known in found if known.status in ALIVE}
    empty = [barn for barn in _kept_barns() if barn["name"] not in barns]
    show_table(
        ["NAME", "STATUS", "PID", "SUPERVISOR", "SINCE", *of_networks, "FILE", "METADATA"],
        [
            [
                d["name"],
                status_text(d),
                _number(d["pid"]),
                _number(d["supervisor_pid"]),
                d["created_at"] or "-",
                *((addresses_text(d) or "-", ports_text(d) or "-") if of_networks else ()),
                d["file"] or "-",
                metadata_text(d["metadata"]) or "-",
            ]
            for d in described
        ]
        + [
            [b["name"], "empty barn", "-", _number(b["pid"]), "-", *("-" for _ in of_networks), b["file"] or "-", "-"]
            for b in empty
        ],
    )
    return 0


def _kept_barns() -> list[dict[str, Any]]:
    """The barns that go on without containers; what a killed one has left is for `hako gc`."""
    from hakoniwa.run.barn import record

    found = []
    for name in record.names():
        try:
            known = record.read(name)
        except Damaged:
            continue  # gc tells
        if known is not None and known.keep and known.identity().lives():
            found.append({"name": name, "file": known.file, "pid": known.process.pid, "shared": [*known.shared]})
    return found


def describe(known: Head) -> dict[str, Any]:
    """A container as `--json` shows it. Pids are those of the host, and null if nothing runs."""
    runs = known.status in ALIVE
    return {
        "name": known.name,
        "barn": known.barn,
        "file": known.file,
        "status": known.status,
        "pid": known.pid if runs else None,
        "supervisor_pid": known.supervisor_pid if runs else None,
        "created_at": known.created_at,
        "exit": plain(known.exit),
        "error": known.error,
        "rootfs": known.rootfs,
        "log": known.log,
        "network": _network_of(known) if runs and known.has_network else None,
        "metadata": known.metadata,
    }


def network_of(known: State | Made) -> dict[str, Any] | None:
    """The network of a container as its last run had it: interfaces, ports, and what else is there for it; None for the host's."""
    facts = known.network if isinstance(known, State) else None
    if facts is None:
        return None
    from hakoniwa.spec.networks import publish_text

    policy = (known.definition.whole.get("network") or {}).get("policy")
    return {
        "interfaces": [
            {name: value for name, value in plain(one).items() if value not in ("", 0)} for one in facts.interfaces
        ],
        "published": [publish_text(one) for one in facts.published],
        "namespace": facts.namespace or None,
        "policy": _policy_text(policy),
    }


def _network_of(head: Head) -> dict[str, Any] | None:
    """The network of a container, which is not in its head."""
    try:
        known = head if isinstance(head, State) else state.read(head.name)
    except Damaged:
        return None  # who needs more than the head tells that
    return None if known is None else network_of(known)


def _policy_text(policy: dict[str, Any] | None) -> str:
    """What a container may reach, in the words of its file."""
    from hakoniwa import recordreader
    from hakoniwa.spec.networks import Policy, allowed_text

    known = Policy() if policy is None else recordreader.read(Policy, policy)
    return known.default if known.default != "list" else " ".join(map(allowed_text, known.allowed)) or "none"


def addresses_text(described: dict[str, Any]) -> str:
    """The addresses of a container that runs, without their masks."""
    interfaces = (described["network"] or {"interfaces": []})["interfaces"]
    found = [one[word] for one in interfaces for word in ("address", "address6") if word in one]
    return ",".join(address.partition("/")[0] for address in found)


def ports_text(described: dict[str, Any]) -> str:
    """What it publishes, as its file says it."""
    return ",".join((described["network"] or {"published": []})["published"])


def metadata_text(metadata: dict[str, Any]) -> str:
    """The free keys and values as one word: `team=shop,port=80`; what is not a string as JSON has it."""
    shown = ((key, value if isinstance(value, str) else fastjson.dumps(value)) for key, value in metadata.items())
    return ",".join(f"{key}={value}" for key, value in shown)


def status_text(described: dict[str, Any]) -> str:
    """The status with what is known of the end: `stopped (3)`, `stopped (signal 9)`."""
    status: str = described["status"]
    ended = described["exit"]
    if status != "stopped" or ended is None:
        return status
    return f"stopped (signal {ended['signal']})" if ended["signal"] else f"stopped ({ended['code']})"


def _number(pid: int | None) -> str:
    return "-" if pid is None else str(pid)
