"""What a start, an attach and a kill ask of the kernel: the system calls of each of their processes have an upper bound.

That of the interpreter is left out: the calls of an empty one are counted, too.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Hako

HAKO = Path(sys.executable).with_name("hako")

Counting = Callable[..., list[int]]

# The calls of each process at most, in the order in which the processes begin. To be made smaller when they become fewer; what
# makes them more is worth a look.
START = (390, 365)  # hako itself, which is the supervisor, and the first process
ISOLATED = (525, 480)  # with a user namespace and a v2 cgroup
ATTACH = (305, 125)  # hako itself, and the process inside
KILL = (198,)
VERSION = (65,)


@pytest.fixture
def calls(tmp_path: Path, hako: Hako) -> Counting:
    """How many calls each process of a command makes, without what an empty interpreter does."""

    def trace(*words: str | Path) -> list[int]:
        told = tmp_path / "told"
        command = ["strace", "-f", "-qq", "-e", "signal=none", "-o", str(told), *map(str, words)]
        subprocess.run(
            command,
            cwd=hako.folder,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # A call that is interrupted by another process has two lines.
        lines = [line.split(None, 1) for line in told.read_text().splitlines()]
        return list(Counter(pid for pid, line in lines if not line.startswith("<...")).values())

    (empty,) = trace(sys.executable, "-IS", "-c", "pass")

    def count(*words: str | Path) -> list[int]:
        first, *others = trace(HAKO, *words)
        return [first - empty, *others]

    return count


def must_hold(found: list[int], most: tuple[int, ...]) -> None:
    assert len(found) == len(most), f"other processes than expected: {found}"
    assert all(number <= limit for number, limit in zip(found, most, strict=True)), f"{found} calls, not {most}"


def test_a_start(calls: Counting, hako: Hako, box: Callable[..., Path]) -> None:
    path = box()
    hako("start", path, "--", "/bin/true")  # makes what is kept: the program of the filter, folders
    must_hold(calls("start", path, "--", "/bin/true"), START)


def test_an_isolated_start(calls: Counting, hako: Hako, box: Callable[..., Path]) -> None:
    path = box(VARIED[0])
    hako("start", path, "--", "/bin/true")
    must_hold(calls("start", path, "--", "/bin/true"), ISOLATED)


def test_an_attach_and_a_kill(calls: Counting, hako: Hako, box: Callable[..., Path]) -> None:
    path = box()
    hako("start", "-D", path, "--", "sleep", "1000")
    hako("attach", path, "--", "/bin/true")
    must_hold(calls("attach", path, "--", "/bin/true"), ATTACH)
    must_hold(calls("kill", path), KILL)


VARIED = [
    'config.namespace.unshare("user")\nconfig.cgroup.v2["cgroup.max.depth"] = 5',
    'config.bootstrap.strategy = "host"',
    "config.resource.set_limit('nofile', 100)\nconfig.resource.nice = 5",
    '@config.add_general_hook("after_fork")\ndef hook(base):\n    pass',
]


@pytest.mark.parametrize("body", VARIED)
def test_all_that_a_start_loads_is_in_the_bundle(
    hako: Hako, write_file: Callable[..., Path], rootfs: Path, tmp_path: Path, body: str
) -> None:
    path = write_file(body if "strategy" in body else f"config.chroot_to({str(rootfs)!r})\n{body}")
    hako("start", "-b", path, "--", "/bin/true")
    told = tmp_path / "told"
    command = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=openat",
        "-o",
        str(told),
        str(HAKO),
        "start",
        str(path),
        "--",
        "/bin/true",
    ]
    subprocess.run(command, cwd=hako.folder, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    opened = {line.split('"')[1] for line in told.read_text().splitlines() if line.count('"') > 1}
    assert not [name for name in opened if "/hakoniwa/" in name and name.endswith(".pyc")], "add it to AT_TIMES"


def test_a_version(calls: Counting) -> None:
    must_hold(calls("version"), VERSION)
