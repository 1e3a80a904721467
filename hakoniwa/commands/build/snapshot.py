"""`hako snapshot`: keep the rootfs of a stopped container as it is now, under a name."""

from __future__ import annotations

import json

from hakoniwa.commands.selection import selected
from hakoniwa.commands.table import show_table
from hakoniwa.known import marks
from hakoniwa.options import JSON, NAME, Command, Given, Option, usage_error
from hakoniwa.spec.rules import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.known.statefile import Made, State

COMMAND = Command(
    name="snapshot",
    summary="Keep the rootfs of a stopped container under a name; without a name, list what was kept.",
    options=(NAME, Option(flags=("-d", "--delete"), help="remove the snapshot of that name"), JSON),
    by_name=True,
    words=("[SNAPSHOT]",),
    undone=True,
)


def run(given: Given) -> int:
    """Keep, remove or list."""
    if not given.words:
        if given.flag("delete"):
            raise usage_error("which snapshot?", "snapshot")
        _list(selected(given), as_json=given.flag("json"))
        return 0
    from hakoniwa.rootfs import snapshots
    from hakoniwa.rootfs.rootless import as_root

    name = checked_name(given.words[0])
    act = snapshots.delete if given.flag("delete") else snapshots.snapshot
    for path in rootfs_of(given, "snapshot"):
        as_root(lambda path=path: act(path, name))  # type: ignore[misc]
    return 0


def checked_name(name: str) -> str:
    """The name of a snapshot. Raises HakoError."""
    try:
        return checks.name(name)
    except checks.Wrong as wrong:
        raise usage_error(f"the name of a snapshot must be {wrong}, not {name!r}", "snapshot") from None


def rootfs_of(given: Given, acting: str) -> list[str]:
    """Where the rootfs of the containers lie that are meant, each once."""
    return list(dict.fromkeys(known.rootfs for known in selected(given, acting)))


def _list(found: list[State | Made], *, as_json: bool) -> None:
    listed = [
        {"container": known.name, "snapshot": name, "created_at": created_at}
        for known in found
        for created_at, name in _snapshots_of(known.rootfs)
    ]
    if as_json:
        print(json.dumps({"schema": 1, "snapshots": listed}))
    else:
        show_table(["CONTAINER", "SNAPSHOT", "CREATED"], [[str(value) for value in row.values()] for row in listed])


def _snapshots_of(path: str) -> list[tuple[str, str]]:
    """When each snapshot of a rootfs was made, and its name, from the oldest on."""
    mark = marks.read(path)
    found = mark.snapshots if mark is not None else {}
    return sorted(((kept.created_at, name) for name, kept in found.items()), key=lambda entry: entry[0])
