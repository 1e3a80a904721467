"""Run an external program of a build: argument list, no terminal input, output to standard error.

It runs in a pid and a mount namespace of its own, so that with it, or with us, all that it has started ends and all that
it has mounted goes: nothing writes into the folder of a build that was killed while the next one clears it.
"""

from __future__ import annotations

import os
import shutil
import subprocess

from hakoniwa.errors import HakoError
from hakoniwa.rootfs.tools.environment import PATH, environment
from hakoniwa.rootfs.tools.output import follow, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.rootfs.tools.progress import Progress

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
_PACKAGES = {
    "lxc-create": "lxc",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}  # of programs whose package has another name


def run_step(
    name: str,
    argv: list[str],
    *,
    where: str,
    folder: str,
    progress: Progress,
    environ: dict[str, str] | None = None,
    told: str = "",
    noise: bool = False,
) -> None:
    """Run `argv` in `folder`. Raises HakoError with the step's name, its exit status and last lines when it fails."""
    must_be_executable(name, argv[0], where)
    must_be_executable(name, _CONFINED[0], where)
    with progress.stage(told or f"running {name}") as stage:
        child = subprocess.Popen(
            [*_CONFINED, *argv],
            cwd=folder,
            env=environment(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert child.stdout is not None
        try:
            last = follow(child.stdout.fileno(), name, progress, stage, noise=noise)
        except BaseException:
            child.kill()
            raise
        finally:
            child.stdout.close()
            status = child.wait()
        if status:
            raise HakoError(f"{name} failed with {how_it_ended(status)}", where=where, hint=quoted(last))


def how_it_ended(status: int) -> str:
    """An exit status of `subprocess` in words."""
    return f"exit status {status}" if status > 0 else f"signal {-status}"


def must_be_executable(name: str, program: str, where: str, *, package: str = "") -> None:
    """Raise HakoError if a program is not there, or cannot be executed."""
    if shutil.which(program, path=PATH):
        return
    if os.path.exists(program):
        raise HakoError(f"{name}: {program} is not executable", where=where, hint=f"chmod +x {program}")
    package = package or _PACKAGES.get(program, program)
    raise HakoError(f"{name}: {program} is not installed", where=where, hint=f"apt-get install {package}")
