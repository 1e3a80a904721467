"""What a barn shares, as a document says it, and what becomes of containers that join it."""

from __future__ import annotations

from typing import Any

import pytest

from hakoniwa.errors import HakoError, Problems
from hakoniwa.run.barn.shared import fit
from hakoniwa.spec.documents.plain import from_plain, to_plain
from hakoniwa.spec.records import Persisted, Sharing, TimeOffset

SHARED = {"namespaces": ["net", "uts"], "hostname": "pod", "persisted": [{"name": "net", "path": "/run/netns/pod"}]}


def document(shared: dict[str, Any], **barn: Any) -> dict[str, Any]:
    return {"schema": 1, "name": "pod", "keep": True, "containers": [], "shared": shared, **barn}


def test_an_empty_barn_goes_through_a_document_and_back() -> None:
    barn = from_plain(document(SHARED, immutable=True))
    assert barn.shared.persisted == (Persisted(name="net", path="/run/netns/pod", where="shared.persisted[0]"),)
    assert barn.keep
    assert barn.immutable
    assert from_plain(to_plain(barn)) == barn


@pytest.mark.parametrize(
    ("shared", "told"),
    [
        ({"namespaces": ["mount"]}, "shared.namespaces[0]: must be"),
        ({"namespaces": ["net", "net"]}, "shared.namespaces: must be"),
        ({"hostname": "x"}, "shared.hostname: it needs a shared uts namespace"),
        ({"time_offset": {"monotonic": 1}}, "shared.time_offset: it needs a shared time namespace"),
        ({"persisted": [{"name": "net", "path": "/x"}]}, "shared.persisted[0]: the net namespace is not shared"),
        (
            {"namespaces": ["user"], "uid_map": [{"inside": 0, "outside": 5, "count": 1}]},
            "shared.uid_map: uid_map and gid_map go together",
        ),
        ({"name": 1}, "shared.name: is unknown"),
    ],
)
def test_what_cannot_be_shared_is_told_with_its_place(shared: dict[str, Any], told: str) -> None:
    with pytest.raises(Problems) as raised:
        from_plain(document(shared))
    assert any(told in line for line in raised.value.lines()), raised.value.lines()


def test_an_empty_barn_has_to_be_kept() -> None:
    with pytest.raises(Problems, match="must have a container"):
        from_plain(document({}, keep=False))


def test_what_is_shared_is_entered_and_not_made() -> None:
    container = from_plain(document(SHARED, containers=[{"name": "app"}])).containers[0]
    shared = Sharing(namespaces=("net", "uts", "time"), hostname="pod")
    fitted = fit(container, shared)
    assert fitted.namespaces.own == ("mount", "ipc", "pid")
    assert [(one.name, one.path) for one in fitted.namespaces.entered] == [("net", ""), ("uts", ""), ("time", "")]
    assert fitted.hostname == "pod"
    assert fit(container, Sharing(namespaces=("uts",))).hostname == "pod"  # the barn's name
    ahead = container.namespaces.replace(time_offset=TimeOffset(monotonic=1.0))
    with pytest.raises(HakoError, match="is its barn's"):
        fit(container.replace(namespaces=ahead), shared)
