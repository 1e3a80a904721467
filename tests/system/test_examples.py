"""Each example runs as its comment says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import Hako
from tests.system.test_strategies import create

EXAMPLES = Path(__file__).parents[2] / "examples"
PRINTS: dict[str, tuple[tuple[str, ...], str | None]] = {
    "hello": ((), "hello from hello, pid 1\n"),
    "dev": (("--", "sh", "-c", "pwd; ls dev.haco.py"), "/work\ndev.haco.py\n"),
    "busybox": (("--", "sh", "-c", "id -un; touch /x 2>&1"), "nobody\ntouch: /x: Read-only file system\n"),
    "pair": ((), "pair-first | I am pair-first\npair-second | I am pair-second\n"),
    "ticker": (("-D", "--wait"), None),
    "isolated": ((), f"0\n{0:>10} FIRST {65536:>10}\nnot allowed\n"),
    "hooks": ((), "hooks was prepared in its own root\n"),
    "provisioned": ((), "made by a shell\nmade by a function\n"),
    "debian": (("--", "sh", "-c", "id -un; pwd; git --version | cut -d' ' -f1,2"), "dev\n/home/dev\ngit version\n"),
}


def test_every_example_is_tested() -> None:
    assert {path.name.removesuffix(".haco.py") for path in EXAMPLES.glob("*.haco.py")} == set(PRINTS)


@pytest.mark.parametrize("name", PRINTS)
def test_example(hako: Hako, places: Path, name: str) -> None:
    copy = places / f"{name}.haco.py"
    copy.write_text((EXAMPLES / copy.name).read_text().replace("/var/lib/hakoniwa/", f"{places}/lib/"))
    words, printed = PRINTS[name]
    if name == "debian":
        create(copy)
    done = hako("start", "-b", copy, *words, status=None)
    if printed is None:
        assert done.stdout.startswith(f"{name} "), done.stderr
        hako("kill", copy)
        hako("rm", "--rootfs", copy)
        return
    found = re.sub(r"^( +0) +\d{6,} ", r"\1 FIRST ", done.stdout, flags=re.MULTILINE)  # an id that is chosen
    assert "".join(sorted(found.splitlines(keepends=True))) == "".join(sorted(printed.splitlines(keepends=True)))
    hako("rm", "--rootfs", copy)
