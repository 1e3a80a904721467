"""Run an external program of a build: argument list, no terminal input, output to standard error."""

from __future__ import annotations

import os
import subprocess

from hakoniwa.errors import HakoError


def run_step(name: str, argv: list[str], *, where: str, folder: str, environ: dict[str, str] | None = None) -> None:
    """Run `argv` in `folder`. Raises HakoError with the step's name and exit status when it fails."""
    try:
        done = subprocess.run(
            argv,
            cwd=folder,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=2,
            check=False,
        )
    except FileNotFoundError:
        raise HakoError(f"{name}: {argv[0]} is not installed", where=where, hint=f"apt-get install {argv[0]}") from None
    except OSError as error:
        raise HakoError(f"{name}: cannot execute {argv[0]}: {error.strerror}", where=where, hint="chmod +x") from None
    if done.returncode:
        how = f"exit status {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise HakoError(f"{name} failed with {how}", where=where)
