"""What front ends do with barns, as a program: `barns.py ACTION FILE|BARN JSON`. A process of its own, for it is forked."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from hakoniwa.errors import HakoError
from hakoniwa.haco.loader import load
from hakoniwa.record import plain
from hakoniwa.run.barn.late import management
from hakoniwa.spec.records import Persisted, Sharing, TimeOffset


def sharing(said: dict[str, Any]) -> Sharing:
    ahead = said.get("ahead")
    return Sharing(
        namespaces=tuple(said.get("namespaces", ())),
        hostname=said.get("hostname"),
        persisted=tuple(Persisted(name=name, path=path, where="") for name, path in said.get("persisted", {}).items()),
        time_offset=TimeOffset(monotonic=ahead, boottime=0.0, where="") if ahead else None,
    )


def make(file: str, said: dict[str, Any]) -> None:
    """The barn of a file (`empty`: without its containers) that shares what is said; the rest is fields of `Barn`."""
    barn = load(file, "start")
    if "die_at" in said:
        die_at(said["die_at"])
    changes: dict[str, Any] = {name: said[name] for name in ("keep", "immutable") if name in said}
    if said.get("empty"):
        changes["containers"] = ()
    running, errors = management.make_barn(barn.replace(shared=sharing(said), **changes))
    print(json.dumps({"running": dict(running)}))
    if errors:
        raise errors[0]


def die_at(place: str) -> None:
    """Have the barn's process kill itself where it would call a function: `module:Class.function`."""
    module, _, path = place.partition(":")
    *outer, name = path.split(".")
    holder: Any = importlib.import_module(f"hakoniwa.run.barn.{module}")
    for word in outer:
        holder = getattr(holder, word)
    original, forks = getattr(holder, name), [0]

    def count() -> None:
        forks[0] += 1

    os.register_at_fork(after_in_child=count)

    def die(*arguments: object, **options: object) -> object:
        if forks[0] == 1:  # neither the front nor what the barn's process has forked
            os.kill(os.getpid(), 9)
        return original(*arguments, **options)

    setattr(holder, name, die)


def act(action: str, barn: str, said: dict[str, Any]) -> None:
    """Any other use case: its arguments are what is said."""
    if action == "add":
        fares: Any = management.add_member(barn, said["document"])
    else:
        cases: dict[str, Any] = {
            "start": management.start_member,
            "stop": management.stop_member,
            "remove": management.remove_member,
            "end": management.end_barn,
            "list": management.list_members,
        }
        fares = cases[action](barn, **said)
    print(json.dumps([plain(fare) for fare in fares] if isinstance(fares, tuple) else plain(fares)))


def main() -> int:
    action, file, said = sys.argv[1:]
    try:
        if action == "make":
            make(file, json.loads(said))
        else:
            act(action, file, json.loads(said))
    except HakoError as error:
        for line in error.lines():
            print(line, file=sys.stderr)
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
