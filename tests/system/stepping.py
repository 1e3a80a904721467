"""A start whose first process stops before one of its steps (harness.py child)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HARNESS = Path(__file__).with_name("harness.py")


class Stopped:
    """`reached` tells whether there is such a step; `go_on` lets the first process go on."""

    def __init__(self, front: subprocess.Popen[bytes], reached: bool, let: int) -> None:
        self.front = front
        self.reached = reached
        self._let = let

    def go_on(self) -> None:
        """Let it go on, if it is still there."""
        with suppress(BrokenPipeError):
            os.write(self._let, b"x")


@contextmanager
def stopped_at_step(folder: Path, path: Path, step: int) -> Iterator[Stopped]:
    """Start a container file, and wait until its first process comes to a step, or to its end."""
    told, tell = os.pipe()
    wait, let = os.pipe()
    for descriptor, number in ((tell, 100), (wait, 101)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    front = subprocess.Popen(
        [sys.executable, "-I", str(HARNESS), "child", str(step), "start", str(path), "--", "true"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(100, 101),
    )
    os.close(100)
    os.close(101)
    try:
        yield Stopped(front, bool(os.read(told, 1)), let)
    finally:
        os.close(told)
        os.close(let)


def children(pid: int) -> list[int]:
    """`man 5 proc_pid_task`."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
