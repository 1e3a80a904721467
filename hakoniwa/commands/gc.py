"""`hako gc`: clear whatever a crash has left."""

from __future__ import annotations

import os

from hakoniwa import boxes, ranges, state
from hakoniwa.errors import printable
from hakoniwa.options import Command, Given
from hakoniwa.rootfs.build import clear_unfinished, stale_marks, unfinished
from hakoniwa.rootfs.rootless import as_root

COMMAND = Command(name="gc", summary="Clear whatever a crash has left: processes, cgroups, unfinished builds.", file="")


def run(given: Given) -> int:
    """Go through all states whose lock is free, and all unfinished builds."""
    cleared = 0
    for name in state.names():
        try:
            lock = state.take_lock(name)
        except state.Busy:
            continue
        for what in (*state.clear_leftovers(name), *state.clear_damaged(name)):
            print(printable(f"{name}: {what}"))
            cleared += 1
        if state.read(name) is None:
            state.forget(name, lock)
        else:
            os.close(lock)
    for name in state.recorded_names():
        for what in state.clear_damaged_record(name):
            print(printable(f"{name}: {what}"))
            cleared += 1
    left = unfinished()
    for path in left:
        as_root(lambda path=path: clear_unfinished(path))  # type: ignore[misc]
        print(printable(f"unfinished build {path}"))
        cleared += 1
    for path in stale_marks():
        boxes.remove_stale(path)
        print(printable(f"what was known of {path}"))
        cleared += 1
    for name in ranges.free_forgotten():
        print(printable(f"ids of {name}"))
        cleared += 1
    if not cleared:
        print("nothing was left")
    return 0
