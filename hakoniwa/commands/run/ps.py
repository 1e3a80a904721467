"""`hako ps`: what runs, and with `--all` what has run or could."""

from __future__ import annotations

from hakoniwa.commands.table import show_table
from hakoniwa.known import state
from hakoniwa.known.statefile import ALIVE, Damaged, Made, State
from hakoniwa.options import JSON, Command, Given, Option
from hakoniwa.record import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMMAND = Command(
    name="ps",
    summary="List containers: those that run, or all that are known.",
    options=(Option(flags=("-a", "--all"), help="those that do not run, too"), JSON),
    file="",
)

SCHEMA = 1


def run(given: Given) -> int:
    """Read every state, and for `--all` every record."""
    everything = given.flag("all")
    found = [known for known in state.every(recorded=everything) if everything or known.status in ALIVE]
    if given.flag("json"):
        import json

        shown = {"schema": SCHEMA, "containers": [describe(known) for known in found], "barns": _kept_barns()}
        print(json.dumps(shown, indent=2))
        return 0
    barns = {known.barn for known in found if known.status in ALIVE}
    empty = [barn for barn in _kept_barns() if barn["name"] not in barns]
    show_table(
        ["NAME", "STATUS", "PID", "SUPERVISOR", "SINCE", "FILE", "METADATA"],
        [
            [
                d["name"],
                status_text(d),
                _number(d["pid"]),
                _number(d["supervisor_pid"]),
                d["created_at"] or "-",
                d["file"] or "-",
                metadata_text(d["metadata"]) or "-",
            ]
            for d in map(describe, found)
        ]
        + [[b["name"], "empty barn", "-", _number(b["pid"]), "-", b["file"] or "-", "-"] for b in empty],
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


def describe(known: State | Made) -> dict[str, Any]:
    """A container as `--json` shows it. Pids are those of the host, and null where nothing runs."""
    has_run = known if isinstance(known, State) else None
    runs = has_run if has_run and has_run.status in ALIVE else None
    return {
        "name": known.name,
        "barn": known.barn,
        "file": known.file,
        "status": known.status,
        "pid": runs.init.pid if runs else None,
        "supervisor_pid": runs.supervisor.pid if runs else None,
        "created_at": known.created_at,
        "exit": plain(has_run.exit) if has_run else None,
        "error": has_run.error if has_run else None,
        "rootfs": known.rootfs,
        "log": has_run.log if has_run else None,
        "metadata": known.definition.metadata,
    }


def metadata_text(metadata: dict[str, Any]) -> str:
    """The free keys and values as one word: `team=shop,port=80`; what is not a string as JSON has it."""
    from hakoniwa import fastjson

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
