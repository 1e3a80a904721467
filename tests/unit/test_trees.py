"""Trees of any depth and shape: walked, copied and removed by descriptors."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem import tree
from hakoniwa.rootfs.store.treecopy import copy_tree

DEEP = 5000  # folders in each other: deeper than Python recurses, than a path is long, than files can be open


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder in which folders lie deep, with a file in the last."""
    top = tmp_path / "deep"
    top.mkdir()
    folder = os.open(top, os.O_RDONLY)
    for _ in range(DEEP):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(os.open("last", os.O_CREAT, dir_fd=folder))
    os.close(folder)
    yield top
    for left in tmp_path.iterdir():  # pytest's own removal would not get through
        if left.is_dir():
            tree.remove(str(left))


def found(top: Path, *, ordered: bool = False) -> list[tuple[str, str]]:
    with tree.Place(str(top)) as place:
        return [
            (event, place.path(name if event != tree.ENTERED else "")) for event, name in place.walk(ordered=ordered)
        ]


def test_a_walk_ends_where_it_began(tmp_path: Path) -> None:
    for name in ("b/y", "a/x/1", "a/x/0"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("a")
    assert found(tmp_path, ordered=True) == [
        ("entered", "a"),
        ("entered", "a/x"),
        ("file", "a/x/0"),
        ("file", "a/x/1"),
        ("left", "a/x"),
        ("left", "a"),
        ("entered", "b"),
        ("file", "b/y"),
        ("left", "b"),
        ("file", "link"),
    ]
    assert sorted(found(tmp_path)) == sorted(found(tmp_path, ordered=True))


def test_any_depth(deep: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        assert len(found(deep)) == 2 * DEEP + 1
        (tmp_path / "copy").mkdir()
        copy_tree(str(deep), str(tmp_path / "copy"))
        assert found(tmp_path / "copy") == found(deep)
        tree.remove(str(deep))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert not deep.exists()


def test_removal_stays_in_the_tree(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    (top / "link").symlink_to(outside)
    (top / "d" / "link").symlink_to("../../outside")
    tree.remove(str(top))
    assert os.listdir(outside) == ["kept"]
    (tmp_path / "way").symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        tree.remove(str(tmp_path / "way"))
    assert os.listdir(outside) == ["kept"]


def test_a_folder_that_is_moved_under_a_walk(tmp_path: Path) -> None:
    (tmp_path / "top" / "a" / "b").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    with tree.Place(str(tmp_path / "top")) as place:
        place.enter("a")
        place.enter("b")
        (tmp_path / "top" / "a" / "b").rename(tmp_path / "elsewhere" / "b")
        with pytest.raises(OSError, match="moved in the meantime"):
            place.leave()


def test_a_folder_that_is_put_in_the_place_of_one(tmp_path: Path) -> None:
    """What is a folder when it is seen, and a symlink when it is entered, is left out."""
    (tmp_path / "top" / "a").mkdir(parents=True)
    (tmp_path / "top" / "b").mkdir()
    (tmp_path / "outside").mkdir()
    seen = []
    with tree.Place(str(tmp_path / "top")) as place:
        for event, name in place.walk(ordered=True):
            seen.append((event, name))
            if name == "a" and event == tree.ENTERED:
                (tmp_path / "top" / "b").rmdir()
                (tmp_path / "top" / "b").symlink_to(tmp_path / "outside")
    assert seen == [("entered", "a"), ("left", "a")]


def test_a_folder_that_is_never_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "top" / "d").mkdir(parents=True)
    rmdir = os.rmdir

    def refill(path: str, *, dir_fd: int | None = None) -> None:
        if path == "d":
            os.mkdir("d/more", dir_fd=dir_fd)
        rmdir(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", refill)
    with pytest.raises(OSError, match="not empty"):
        tree.remove(str(tmp_path / "top"))


def test_a_copy_has_all_that_there_is(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "d" / "e").mkdir(parents=True)
    target.mkdir()
    (source / "d" / "file").write_text("text")
    (source / "d" / "file").chmod(0o4751)
    os.setxattr(source / "d" / "file", "user.mine", b"x")
    os.setxattr(source / "d", "user.mine", b"y")
    os.link(source / "d" / "file", source / "d" / "e" / "hard")
    os.link(source / "d" / "file", source / "hard")
    (source / "d" / "link").symlink_to("/nowhere")
    os.link(source / "d" / "link", source / "link", follow_symlinks=False)
    os.mkfifo(source / "fifo", 0o640)
    (source / "empty").touch()
    (source / ".hakoniwa-links").touch()
    with open(source / "sparse", "wb") as file:
        file.seek(20_000_000)
        file.write(b"end")
        file.truncate(40_000_000)
    (source / "d").chmod(0o1750)
    for path in (source / "d" / "file", source / "d", source):
        os.utime(path, ns=(1_000_000_001, 2_000_000_002))
    os.utime(source / "link", ns=(5, 6), follow_symlinks=False)
    copy_tree(str(source), str(target))
    assert facts(target) == facts(source)
    assert (target / "sparse").stat().st_blocks < 2000
    assert os.path.samefile(target / "hard", target / "d" / "e" / "hard")
    assert os.path.samefile(target / "hard", target / "d" / "file")
    assert (target / "link").lstat().st_ino == (target / "d" / "link").lstat().st_ino


def facts(top: Path) -> list[object]:
    listed: list[object] = []
    for path in [top, *sorted(top.rglob("*"))]:
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else os.readlink(path) if path.is_symlink() else b""
        attributes = [(name, os.getxattr(path, name)) for name in os.listxattr(path, follow_symlinks=False)]
        size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
        listed.append((str(path.relative_to(top)), status.st_mode, status.st_uid, status.st_nlink, size))
        listed.append((status.st_mtime_ns, content, attributes))
    return listed


def test_what_cannot_be_copied_is_named(tmp_path: Path) -> None:
    (tmp_path / "source" / "a").mkdir(parents=True)
    (tmp_path / "source" / "a" / "file").touch()
    (tmp_path / "target" / "a").mkdir(parents=True)
    with pytest.raises(HakoError, match="source/a: File exists"):
        copy_tree(str(tmp_path / "source"), str(tmp_path / "target"))
