"""Run an external program of a build: argument list, no terminal input, output to standard error.

It runs in a pid and a mount namespace of its own, so that with it, or with us, all that it has started ends and all that
it has mounted goes: nothing writes into the folder of a build that was killed while the next one clears it.
"""

from __future__ import annotations

import os
import shutil
import subprocess

from hakoniwa.errors import HakoError

# The outer two die with us; the first process of the namespace dies with them, and the namespace with that.
_CONFINED = [
    "setpriv",
    "--pdeathsig",
    "KILL",
    "--",
    "unshare",
    "--mount",
    "--pid",
    "--mount-proc",
    "--fork",
    "--kill-child",
    "--",
]


def run_step(name: str, argv: list[str], *, where: str, folder: str, environ: dict[str, str] | None = None) -> None:
    """Run `argv` in `folder`. Raises HakoError with the step's name and exit status when it fails."""
    _must_be_executable(name, argv[0], where)
    try:
        done = subprocess.run(
            [*_CONFINED, *argv],
            cwd=folder,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=2,
            check=False,
        )
    except FileNotFoundError:
        raise HakoError(f"{name}: {_CONFINED[0]} is not installed", hint="apt-get install util-linux") from None
    if done.returncode:
        how = f"exit status {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise HakoError(f"{name} failed with {how}", where=where)


def _must_be_executable(name: str, program: str, where: str) -> None:
    """Raise HakoError where a program is not there, or cannot be executed."""
    if shutil.which(program):
        return
    if os.path.exists(program):
        raise HakoError(f"{name}: {program} is not executable", where=where, hint=f"chmod +x {program}")
    raise HakoError(f"{name}: {program} is not installed", where=where, hint=f"apt-get install {program}")
