"""Paths of the host that lead through folders in which containers can write."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.haco.loader import load
from hakoniwa.host import paths as hostpaths
from hakoniwa.host.paths import open_outside, open_parent, remove_file
from hakoniwa.known import state
from hakoniwa.known.statefile import Made


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`share` can be written to by a container, and `share/inner` by another."""
    for folder in ("share/inner/deep", "share/beside", "own", "run", "lib/.containers"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("secret", "share/file", "share/inner/file", "share/inner/deep/file", "own/file"):
        (tmp_path / file).write_text(file)
    monkeypatch.setattr(hostpaths._Distrusted, "folders", {str(tmp_path / "share"), str(tmp_path / "share" / "inner")})
    monkeypatch.setattr(hostpaths._Distrusted, "places", (str(tmp_path / "run"), str(tmp_path / "lib")))
    return tmp_path


def content(path: Path) -> str:
    file = open_outside(str(path), os.O_RDONLY)
    try:
        return os.read(file, 100).decode()
    finally:
        os.close(file)


@pytest.mark.parametrize(
    ("link", "target", "path"),
    [
        ("share/x", "../secret", "share/x"),
        ("share/x", "{top}/secret", "share/x"),
        ("share/x", "..", "share/x/secret"),
        ("share/x", "inner/../../secret", "share/x"),
        ("share/x", "{top}/share/file", "share/x"),  # an absolute one leads out, wherever it comes back to
        ("share/x", "/proc/self/cwd", "share/x"),
        ("share/inner/x", "../file", "share/inner/x"),  # out of the inner one
        ("share/inner/deep/x", "../../../secret", "share/inner/deep/x"),
        ("own/x", "../share/y", "own/x"),  # the host's own link leads to one of a container's
    ],
)
def test_a_link_that_leads_out_is_not_followed(tree: Path, link: str, target: str, path: str) -> None:
    (tree / "share" / "y").symlink_to(tree / "secret")
    (tree / link).symlink_to(target.format(top=tree))
    assert os.path.exists(tree / path)  # without the defence
    with pytest.raises(OSError, match=r"leads out of .*, which a container can write to") as failure:
        content(tree / path)
    assert failure.value.errno == errno.ELOOP
    assert failure.value.filename == str(tree / path)


@pytest.mark.parametrize(
    ("link", "target", "path", "found"),
    [
        ("own/x", "../secret", "own/x", "secret"),
        ("own/x", "{top}/secret", "own/x", "secret"),
        ("own/x", "{top}/share", "own/x/inner/file", "share/inner/file"),
        ("share/x", "inner/file", "share/x", "share/inner/file"),
        ("share/x", "inner", "share/x/deep/../file", "share/inner/file"),
        ("share/inner/x", "./deep/../file", "share/inner/x", "share/inner/file"),
        ("share/beside/x", "../file", "share/beside/x", "share/file"),
        ("own/x", "/proc/self/fd", "own/x/{fd}", "secret"),
    ],
)
def test_other_links_are(tree: Path, link: str, target: str, path: str, found: str) -> None:
    (tree / link).symlink_to(target.format(top=tree))
    with open(tree / "secret") as file:
        assert content(tree / path.format(fd=file.fileno())) == found


def test_no_descriptor_is_left_open(tree: Path) -> None:
    (tree / "share" / "x").symlink_to("../secret")
    (tree / "own" / "x").symlink_to("../secret")
    before = os.listdir("/proc/self/fd")
    content(tree / "own" / "x")
    with pytest.raises(OSError, match="leads out"):
        content(tree / "share" / "x")
    with pytest.raises(FileNotFoundError):
        content(tree / "own" / "nothing")
    assert os.listdir("/proc/self/fd") == before


def test_links_that_go_round(tree: Path) -> None:
    (tree / "own" / "x").symlink_to("y")
    (tree / "own" / "y").symlink_to("x")
    with pytest.raises(OSError, match="Too many levels"):
        content(tree / "own" / "x")


def test_what_is_made(tree: Path) -> None:
    (tree / "share" / "x").symlink_to("../made")
    with pytest.raises(OSError, match="leads out"):
        open_outside(str(tree / "share" / "x"), os.O_WRONLY | os.O_CREAT, 0o600)
    (tree / "own" / "x").symlink_to("made")
    os.close(open_outside(str(tree / "own" / "x"), os.O_WRONLY | os.O_CREAT, 0o600))
    assert (tree / "own" / "made").stat().st_mode & 0o777 == 0o600
    with pytest.raises(OSError, match="Too many levels"):
        open_outside(str(tree / "own" / "x"), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    assert not (tree / "made").exists()


def test_what_is_removed(tree: Path) -> None:
    (tree / "share" / "x").symlink_to("../own")
    with pytest.raises(OSError, match="leads out"):
        remove_file(str(tree / "share" / "x" / "file"))
    remove_file(str(tree / "share" / "file"))
    assert (tree / "own" / "file").exists()
    assert not (tree / "share" / "file").exists()
    folder, name = open_parent(str(tree / "own" / "file"))
    assert (name, os.path.samestat(os.fstat(folder), (tree / "own").stat())) == ("file", True)
    os.close(folder)


def test_folders_of_other_containers_that_are_known(tree: Path) -> None:
    """From their states and records, those of schema 1 too; those that cannot be read are passed over."""
    (tree / "own" / "x").symlink_to("../secret")
    (tree / "share" / "beside" / "x").symlink_to("../../secret")
    hostpaths._Distrusted.folders = set()
    assert content(tree / "own" / "x") == content(tree / "share" / "beside" / "x") == "secret"
    mount = {"source": str(tree / "own"), "fs": None, "readonly": False}
    definition = {"rootfs": {"path": "/none", "replacement": None}, "mounts": [mount]}
    (tree / "run" / "one").mkdir()
    (tree / "run" / "one" / "state.json").write_text(json.dumps({"schema": 2, "definition": {"files": definition}}))
    (tree / "run" / "broken").mkdir()
    (tree / "run" / "broken" / "state.json").write_text("{")
    (tree / "run" / ".lock").write_text("")
    shown = {**definition, "rootfs": {"path": str(tree / "share"), "replacement": None}, "mounts": []}
    (tree / "lib" / ".containers" / "two.json").write_text(json.dumps({"schema": 1, "definition": shown}))
    for path in ("own/x", "share/beside/x"):
        with pytest.raises(OSError, match="leads out"):
            content(tree / path)
    mount["readonly"] = True
    (tree / "run" / "one" / "state.json").write_text(json.dumps({"schema": 2, "definition": {"files": definition}}))
    assert content(tree / "own" / "x") == "secret"


def test_folders_are_found_in_what_is_written_of_containers(
    tree: Path, places: Path, write_file: Callable[..., Path]
) -> None:
    (tree / "own" / "x").symlink_to("../secret")
    (container,) = load(
        str(write_file(f'config.add_mount_point({str(tree / "own")!r}, to="/mnt")')), "check"
    ).containers
    hostpaths._Distrusted.folders = set()  # those of the file that was loaded are among them
    hostpaths._Distrusted.places = (str(places / "run"), str(places / "lib"))
    assert content(tree / "own" / "x") == "secret"
    state.write_record(Made.of(container))
    with pytest.raises(OSError, match="leads out"):
        content(tree / "own" / "x")
