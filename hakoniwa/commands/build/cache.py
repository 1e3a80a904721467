"""`hako cache`: the layers that rootfs are made of, and what was fetched for them."""

from __future__ import annotations

import json
import os

from hakoniwa.commands.table import show_table
from hakoniwa.errors import nearest, printable
from hakoniwa.kernel.filesystem import tree
from hakoniwa.kernel.filesystem.files import entries_of
from hakoniwa.known import copies
from hakoniwa.known.statefile import timestamp
from hakoniwa.options import JSON, Command, Given, Option, usage_error
from hakoniwa.places import layers_dir
from hakoniwa.rootfs.rootless import as_root
from hakoniwa.rootfs.store import layers
from hakoniwa.rootfs.tools.download import folder as downloads
from hakoniwa.rootfs.tools.progress import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ACTIONS = ("ls", "prune")

COMMAND = Command(
    name="cache",
    summary="ls: list layers and fetched archives. prune: remove those that no rootfs lies on.",
    options=(Option(flags=("--dry-run",), help="prune: tell what would be removed, and remove nothing"), JSON),
    file="",
    words=("ls|prune",),
    undone=True,
)


def run(given: Given) -> int:
    """List or prune."""
    action = given.words[0] if given.words else ""
    if action not in _ACTIONS:
        if not action:
            raise usage_error("what of it?", "cache", "hako cache ls, or hako cache prune")
        raise usage_error(f"there is no action {action!r}", "cache", nearest(action, _ACTIONS))
    if action == "ls":
        as_root(lambda: _list(as_json=given.flag("json")))
    else:
        as_root(lambda: _prune(only_show=given.flag("dry_run")))
        if not given.flag("dry_run"):
            copies.clear()
    return 0


def _list(*, as_json: bool) -> None:
    used = layers.users()
    found = [_described(layer, used.get(layer, 0)) for layer in layers.names()]
    found += [
        {
            "name": name,
            "kind": "download",
            "what": "an archive",
            "size": _size(path),
            "users": 0,
            "used_at": _used(path),
        }
        for name, path in _downloads()
    ]
    if as_json:
        print(json.dumps({"schema": 1, "cache": found}), flush=True)
        return
    rows = [
        [entry["name"][:12], entry["kind"], entry["what"], size(entry["size"]), str(entry["users"]), entry["used_at"]]
        for entry in found
    ]
    show_table(["NAME", "KIND", "WHAT", "SIZE", "USERS", "USED"], rows)


def _described(layer: str, users: int) -> dict[str, Any]:
    facts = layers.read_facts(layer)
    path = os.path.join(layers_dir(), layer)
    return {
        "name": layer,
        "kind": facts.kind,
        "what": facts.what,
        "size": _size(path),
        "users": users,
        "used_at": _used(path),
    }


def _used(path: str) -> str:
    return timestamp(os.stat(path).st_mtime)


def _size(path: str) -> int:
    """What a folder or file takes on the disk, in bytes; a hard link counts once."""
    if not os.path.isdir(path):
        return os.lstat(path).st_blocks * 512
    seen: dict[int, int] = {}
    with tree.Place(path) as place:
        for event, name in place.walk():
            if event != tree.ENTERED:
                status = os.stat(name, dir_fd=place.folder, follow_symlinks=False)
                seen[status.st_ino] = status.st_blocks * 512
    return sum(seen.values())


def _downloads() -> list[tuple[str, str]]:
    return [(name, os.path.join(downloads(), name)) for name in entries_of(downloads())]


def _prune(*, only_show: bool) -> None:
    facts = {layer: layers.read_facts(layer) for layer in layers.names()}
    pruned = layers.prune(only_show=only_show)
    for layer in pruned:
        print(printable(f"{layer[:12]} {facts[layer].what if layer in facts else ''}"), flush=True)
    for name, path in _downloads():
        print(printable(f"{name[:12]} an archive"), flush=True)
        if not only_show:
            os.unlink(path)
