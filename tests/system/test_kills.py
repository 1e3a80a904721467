"""A kill between any two calls loses nothing, and whatever it leaves is cleared: each command is killed before each call."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import LONGEST, Hako

Writer = Callable[..., Path]

DYING = str(Path(__file__).with_name("dying.py"))
FILL = "mkdir $ROOTFS/bin; cp /bin/busybox $ROOTFS/bin; for n in sh cat; do ln -s busybox $ROOTFS/bin/$n; done"
PLAIN = f'config.bootstrap.strategy = "shell"\nconfig.bootstrap.code = {FILL!r}\n'
STACK = PLAIN + "config.bootstrap.cache = True\n"
UNSWAPPED = "kill-unswapped"
KINDS = pytest.mark.parametrize("kind", [STACK, PLAIN], ids=["layers", "plain"])


def killed(hako: Hako, number: int, *words: str | Path, how: str) -> bool:
    """Run a command that is killed before one of its calls. False where it has fewer."""
    argv = [sys.executable, "-I", DYING, how, str(number), *map(str, words)]
    done = subprocess.run(argv, cwd=hako.folder, capture_output=True, text=True, timeout=LONGEST)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode != 0


def each_kill(hako: Hako, *words: str | Path, how: str = "kill") -> Iterator[int]:
    """Each of these kills in turn, and at last the whole command."""
    for number in itertools.count():
        died = killed(hako, number, *words, how=how)
        yield number
        if not died:
            assert number
            return


def mark(hako: Hako, path: Path) -> str:
    return hako("start", path, "--", "sh", "-c", "cat /mark").stdout.strip()


def set_mark(hako: Hako, path: Path, text: str) -> None:
    hako("start", path, "--", "sh", "-c", f"echo {text} > /mark")


def rests(places: Path) -> list[str]:
    """What lies in the library folder, but for what is written anew with each record."""
    lib = places / "lib"
    found = [
        str(path.relative_to(lib)) for path in (*lib.glob("*"), *lib.glob(".boxes/*"), *lib.glob(".containers/*.json"))
    ]
    return sorted(name for name in found if name not in (".boxes", ".containers", ".layers", ".ids"))


def layers(places: Path) -> list[str]:
    return sorted(os.listdir(places / "lib" / ".layers"))


@KINDS
def test_snapshot(hako: Hako, write_file: Writer, places: Path, kind: str) -> None:
    path = write_file(kind)
    hako("create", path)
    set_mark(hako, path, "one")
    for number in each_kill(hako, "snapshot", path, "one"):
        assert mark(hako, path) == "one", number
        hako("gc")
        set_mark(hako, path, "one")  # so that there is something to take out of the upper folder the next time, too
    set_mark(hako, path, "two")
    hako("rollback", path, "one")
    assert mark(hako, path) == "one"
    hako("rm", "--rootfs", path)
    hako("cache", "prune")
    assert rests(places) == layers(places) == []


@KINDS
@pytest.mark.parametrize("swapping", [True, False])
def test_rollback(hako: Hako, write_file: Writer, places: Path, kind: str, swapping: bool) -> None:
    """Where the file system cannot swap two folders as well."""
    path = write_file(kind)
    hako("create", path)
    set_mark(hako, path, "one")
    hako("snapshot", path, "one")
    set_mark(hako, path, "two")
    for number in each_kill(hako, "rollback", path, "one", how="kill" if swapping else UNSWAPPED):
        hako("gc")
        found = mark(hako, path)
        assert found in ("one", "two"), number
        if found == "one":
            set_mark(hako, path, "two")
    assert found == "one"
    hako("rm", "--rootfs", path)
    hako("cache", "prune")
    assert rests(places) == layers(places) == []


def test_what_was_taken_out_of_its_place_is_put_back(hako: Hako, write_file: Writer, places: Path) -> None:
    """By the next `create`, too, which would otherwise build a new one."""
    path = write_file(PLAIN)
    hako("create", path)
    set_mark(hako, path, "one")
    for _ in each_kill(hako, "create", "--rebuild", path, how=UNSWAPPED):
        if not (places / "lib" / "box").exists():
            break
    hako("create", path)
    assert mark(hako, path) == "one"
    assert hako("gc").stdout == f"unfinished build {places}/lib/.box.building\n"


def test_clone(hako: Hako, write_file: Writer, places: Path) -> None:
    source, target = write_file(STACK, "source"), write_file(STACK, "target")
    hako("create", source)
    set_mark(hako, source, "one")
    for number in each_kill(hako, "clone", source, target):
        assert mark(hako, source) == "one"
        if (places / "lib" / "target").exists():
            assert mark(hako, target) == "one", number
            hako("rm", "--rootfs", target)
        hako("gc")
        assert [name for name in rests(places) if "target" in name] in ([], [".containers/target.json"]), number
    hako("clone", source, target)
    assert mark(hako, target) == "one"


@KINDS
def test_create_and_rm(hako: Hako, write_file: Writer, places: Path, kind: str) -> None:
    """What a killed `create` has made is complete or is not there; what a killed `rm` has left, another removes."""
    path = write_file(kind)
    for number in each_kill(hako, "create", path):
        if (places / "lib" / "box").exists():
            set_mark(hako, path, "new")
            hako("rm", "--rootfs", path)
        hako("gc")
        assert rests(places) in ([], [".containers/box.json"]), number
    hako("create", path)
    set_mark(hako, path, "old")
    for number in each_kill(hako, "rm", "--rootfs", path):
        if (places / "lib" / "box").exists():
            assert mark(hako, path) == "old", number
        hako("gc")
        hako("create", path)
        set_mark(hako, path, "old")
        assert rests(places)[-1] == "box"
    hako("rm", "--rootfs", path)
    assert rests(places) == []


def test_rebuild(hako: Hako, write_file: Writer, places: Path) -> None:
    path = write_file(STACK)
    hako("create", path)
    set_mark(hako, path, "old")
    hako("snapshot", path, "one")
    for number in each_kill(hako, "create", "--rebuild", path):
        script = "[ ! -e /mark ] || cat /mark"
        found = hako("start", path, "--", "sh", "-c", script).stdout.strip()
        assert found in ("", "old"), number
        hako("gc")
        if not found:
            hako("rollback", path, "one")
    assert not found


@pytest.mark.parametrize("there", [False, True])
def test_archive(hako: Hako, write_file: Writer, places: Path, there: bool) -> None:
    """What was there stays until the new one is complete; of the new one nothing is left, or what the next clears."""
    path = write_file(PLAIN)
    hako("create", path)
    folder = places / "archives"
    folder.mkdir()
    for number in each_kill(hako, "archive", path, "-d", "archives/out.tar"):
        assert sorted(os.listdir(folder)) in ([], ["out.tar"], [".out.tar.partial", "out.tar"]), number
        if (folder / "out.tar").exists():
            subprocess.run(["tar", "-tf", "out.tar"], cwd=folder, check=True, capture_output=True)
        if there and number == 0:
            hako("archive", path, "-d", "archives/out.tar")
        assert not there or (folder / "out.tar").exists()
    assert os.listdir(folder) == ["out.tar"]
