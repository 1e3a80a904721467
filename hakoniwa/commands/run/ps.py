"""`hako ps`: what runs, and with `--all` what has run or could."""

from __future__ import annotations

from hakoniwa import fastjson
from hakoniwa.commands.table import show_table
from hakoniwa.known import listing
from hakoniwa.known.statefile import ALIVE, Damaged
from hakoniwa.options import JSON, Command, Given, Option
from hakoniwa.record import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.known.statefile import Head

COMMAND = Command(
    name="ps",
    summary="List containers: those that run, or all that are known.",
    options=(Option(flags=("-a", "--all"), help="those that do not run, too"), JSON),
    file="",
)

SCHEMA = 1
_ADDRESS, _FILE = 5, 7  # columns


def run(given: Given) -> int:
    """Look at every state, and for `--all` at every record."""
    everything = given.flag("all")
    found = (known for known in listing.heads(recorded=everything) if everything or known.status in ALIVE)
    if given.flag("json"):
        import json

        shown = {"schema": SCHEMA, "containers": [describe(known) for known in found], "barns": _kept_barns()}
        print(json.dumps(shown, indent=2))
        return 0
    rows, barns = [], set()
    for known in found:
        rows.append(_row(known))
        if known.status in ALIVE:
            barns.add(known.barn)
    for barn in _kept_barns():
        if barn["name"] not in barns:
            rows.append([barn["name"], "empty barn", "-", str(barn["pid"]), "-", "", "", barn["file"] or "-", "-"])
    columns = ["NAME", "STATUS", "PID", "SUPERVISOR", "SINCE", "ADDRESS", "PORTS", "FILE", "METADATA"]
    _show(columns, rows)
    return 0


def _show(columns: list[str], rows: list[list[str]]) -> None:
    """Print the table; without the columns of networks if no container has one."""
    if any(row[_ADDRESS] for row in rows):
        for row in rows:
            row[_ADDRESS:_FILE] = [cell or "-" for cell in row[_ADDRESS:_FILE]]
    else:
        for row in (columns, *rows):
            del row[_ADDRESS:_FILE]
    show_table(columns, rows)


def _row(known: Head) -> list[str]:
    """A container as the table shows it: two cells are empty if it has no network of its own."""
    runs = known.status in ALIVE
    network = known.network_shown if runs else None
    return [
        known.name,
        known.status if runs else status_text(describe(known)),
        str(known.pid) if runs else "-",
        str(known.supervisor_pid) if runs else "-",
        known.created_at or "-",
        "" if network is None else _addresses(network) or "-",
        "" if network is None else ",".join(network["published"]),
        known.file or "-",
        (known.metadata and metadata_text(known.metadata)) or "-",
    ]


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
        "network": known.network_shown if runs else None,
        "metadata": known.metadata,
    }


def _addresses(network: dict[str, Any]) -> str:
    """The addresses of a container that runs, without their masks."""
    found = [one[word] for one in network["interfaces"] for word in ("address", "address6") if word in one]
    return ",".join(address.partition("/")[0] for address in found)


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
