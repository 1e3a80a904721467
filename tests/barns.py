"""What tests do with barns: through the use cases, in a program of its own (barnprogram.py), since that is forked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hakoniwa.kernel.processes.pidfd import wait_end
from tests.conftest import LONGEST, Hako

PROGRAM = Path(__file__).with_name("barnprogram.py")


class Barns:
    """Calls the use cases. `places` is the folder of the test."""

    def __init__(self, places: Path) -> None:
        self.folder = places / "run" / ".barns"

    def __call__(self, action: str, barn: str | Path, status: int = 0, **said: Any) -> Any:
        """Do something with a barn, by its name, or when it is made by its file. Returns what that returns, or the error's text."""
        done = subprocess.run(
            [sys.executable, str(PROGRAM), action, str(barn), json.dumps(said)],
            capture_output=True,
            text=True,
            timeout=LONGEST,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout) if status == 0 else done.stderr

    def names(self) -> list[str]:
        return sorted(os.listdir(self.folder)) if self.folder.is_dir() else []

    def record(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / name / "barn.json").read_text())
        return found

    def process(self, name: str) -> int:
        """The pid of the barn's process."""
        pid: int = self.record(name)["process"]["pid"]
        return pid

    def fares(self, name: str) -> dict[str, str]:
        """The status of each container."""
        return {fare["name"]: fare["status"] for fare in self("list", name)}


def end(pid: int, number: int = signal.SIGTERM) -> None:
    """Send a signal to a process, and wait for its end."""
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, number)
    assert wait_end(pidfd, 10)
    os.close(pidfd)


def document(hako: Hako, path: Path, **changes: Any) -> str:
    """The document of a file, with changes to its only container; a process, and so on, by its fields."""
    described = json.loads(hako("inspect", "--spec", path).stdout)
    described["containers"][0] |= changes
    return json.dumps(described)


@pytest.fixture
def barns(hako: Hako, places: Path) -> Iterator[Barns]:
    """The use cases. No barn may be left."""
    found = Barns(places)
    yield found
    left = found.names()
    for name in left:
        try:
            end(found.process(name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    assert left == []
