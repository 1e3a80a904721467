"""A file without a name until it is complete."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from hakoniwa.errors import HakoError
from hakoniwa.rootfs.tools.tmpfile import UnnamedFile


@pytest.fixture(params=[True, False], ids=["nameless", "named"])
def nameless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the file system knows files without a name."""
    real = os.open

    def without(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, os.strerror(95))
        return real(path, flags, mode, dir_fd=dir_fd)

    if not request.param:
        monkeypatch.setattr(os, "open", without)
    return bool(request.param)


@pytest.mark.parametrize("before", [None, "before"])
def test_it_gets_its_name_when_it_is_complete(tmp_path: Path, nameless: bool, before: str | None) -> None:
    out = tmp_path / "out"
    if before is not None:
        out.write_text(before)
    with UnnamedFile(str(out)) as file:
        os.write(file.descriptor, b"after")
        assert (tmp_path / ".out.partial").exists() != nameless
        assert (out.read_text() if out.exists() else None) == before
        file.give_name()
    assert out.read_text() == "after"
    assert os.listdir(tmp_path) == ["out"]


def test_it_is_gone_where_it_gets_none(tmp_path: Path, nameless: bool) -> None:
    with UnnamedFile(str(tmp_path / "out")) as file:
        os.write(file.descriptor, b"x")
    assert os.listdir(tmp_path) == []


def test_what_a_killed_one_has_left_is_cleared(tmp_path: Path, nameless: bool) -> None:
    (tmp_path / ".out.partial").write_text("half")
    with UnnamedFile(str(tmp_path / "out")) as file:
        file.give_name()
    assert os.listdir(tmp_path) == ["out"]


def test_what_another_writes_is_left_alone(tmp_path: Path) -> None:
    with open(tmp_path / ".out.partial", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(HakoError, match="is being written by another"), UnnamedFile(str(tmp_path / "out")):
            pass
    assert os.listdir(tmp_path) == [".out.partial"]
