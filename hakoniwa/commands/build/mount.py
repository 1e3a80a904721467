"""`hako mount`: run a program of the host that sees the files of a stopped container's rootfs in their place."""

from __future__ import annotations

import os

from hakoniwa.commands.selection import selected
from hakoniwa.errors import HakoError
from hakoniwa.options import NAME, Command, Given
from hakoniwa.rootfs.rootless import as_root

COMMAND = Command(
    name="mount",
    summary="Run a program of the host, or a shell, that sees the whole rootfs of a stopped container in its place.",
    options=(NAME,),
    takes_argv=True,
    by_name=True,
)


def run(given: Given) -> int:
    """Mount the one rootfs that is meant for one program, and return its exit status."""
    from hakoniwa.rootfs.view import run_on_tree

    found = selected(given, "mount")
    places = {known.rootfs: known.file for known in found}
    if len(places) > 1:
        names = " ".join(known.name for known in found)
        raise HakoError(f"several containers are meant: {names}", where=str(given.file), hint="choose one with -n NAME")
    ((path, file),) = places.items()
    argv = list(given.argv or [os.environ.get("SHELL") or "/bin/sh"])
    reader, writer = os.pipe2(os.O_CLOEXEC)  # the status may come out of a process of its own
    as_root(lambda: os.write(writer, bytes([run_on_tree(path, argv, file)])))
    os.close(writer)
    status = os.read(reader, 1)
    os.close(reader)
    return status[0]
