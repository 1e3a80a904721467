"""The bundle has what quick commands execute, and leaves the rest to be read when it is called (tools/bodies.py)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.conftest import Hako

LAUNCHER = Path(sys.executable).with_name("hako")
# What a plain command may read one by one, or a group at once: a few functions that were added since, or are executed at times.
MOST = 20


def read_when_called(folder: Path, *words: str | Path) -> int:
    """How often the processes of a command read functions from the bundle."""
    told = folder / "told"
    command = ["strace", "-f", "-qq", "-e", "trace=pread64", "-e", "signal=none", "-o", str(told), LAUNCHER, *words]
    subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return sum("pread64(63, " in line for line in told.read_text().splitlines())


def test_quick_commands_have_what_they_execute(hako: Hako, box: Callable[..., Path]) -> None:
    path = box()
    hako("start", path, "--", "/bin/true")  # makes what is kept: the program of the filter, folders
    stale = "many functions are not in tools/executed.txt: call tools/note_executed.py, and `make install`"
    assert read_when_called(hako.folder, "start", path, "--", "/bin/true") <= MOST, stale
    hako("start", "-D", path, "--", "sleep", "1000")
    hako("attach", path, "--", "/bin/true")  # keeps what the next one takes
    assert read_when_called(hako.folder, "attach", path, "--", "/bin/true") <= MOST, stale
    assert read_when_called(hako.folder, "kill", path) <= MOST, stale


def test_the_functions_of_another_command_are_read(hako: Hako, box: Callable[..., Path]) -> None:
    """Or else the test before sees nothing."""
    assert read_when_called(hako.folder, "start", "--dry-run", box()) > 5
