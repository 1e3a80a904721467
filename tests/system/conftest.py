"""Every test here is looked at for what it leaves on the host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.leaks import Snapshot


@pytest.fixture(autouse=True)
def no_leaks(hako: object) -> Iterator[None]:
    """Fail a test after which there is a mount, cgroup, link, namespace, process or open file more than before."""
    before = Snapshot()
    yield
    leaked = before.leaked()
    assert not leaked, "left behind: " + "; ".join(leaked)
