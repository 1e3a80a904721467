"""The look-out for leaks sees what the tests have left, and nothing of other work on the machine."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import leaks
from tests.conftest import Hako
from tests.leaks import Snapshot
from tests.machines import Machine

Writer = Callable[..., Path]
ELSEWHERE = ["prlimit", "--rttime=unlimited:", "--"]


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "GRACE", 0.1)


def test_a_process_that_is_left(places: Path) -> None:
    before = Snapshot(places)
    with subprocess.Popen(["sleep", "1000"]) as left:
        assert before.leaked() == [f"process {left.pid}: sleep 1000 "]
        left.kill()
    assert before.leaked() == []


def test_a_container_that_is_left(hako: Hako, box: Writer, places: Path) -> None:
    before = Snapshot(places)
    hako("start", "-D", box("config.limit(pids=100)"), "--", "sleep", "1000")
    assert any("sleep 1000" in leak for leak in before.leaked())  # the payload, too
    hako("kill", "-n", "box")
    assert before.leaked() == []


def test_other_work_is_nobody_s_leak(places: Path, tmp_path: Path) -> None:
    before = Snapshot(places)
    mounts = ["unshare", "--net", "sh", "-c", "exec sleep 1000"]
    with subprocess.Popen([*ELSEWHERE, *mounts]) as other:
        while Path(f"/proc/{other.pid}/comm").read_text() != "sleep\n":
            pass
        assert before.leaked() == []
        other.kill()


def test_what_a_network_has_left(places: Path) -> None:
    machine = Machine()
    with machine.inside():
        before = Snapshot(places)
        machine.links.add_bridge("br0", alias="hakoniwa")
        machine.run("nft", "add", "table", "inet", "hakoniwa")
        leases = places / "run" / ".network" / "leases" / "br0"
        leases.mkdir(parents=True)
        (leases / "10.0.0.7").touch()
        told = before.leaked()
        assert sorted(told) == [f"leases: {leases}/10.0.0.7", "links: br0", "rules: table inet hakoniwa"]
        machine.links.delete("br0")
        machine.run("nft", "delete", "table", "inet", "hakoniwa")
        (leases / "10.0.0.7").unlink()
        assert before.leaked() == []
    machine.close()
