"""Descriptions that are kept: which starts take one, and that nothing else differs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.known import copied
from tests.conftest import Hako
from tests.kept import copies, forge, how
from tests.ordinary import UID, Ordinary, user

__all__ = ["user"]

Writer = Callable[..., Path]


@pytest.fixture
def cache(places: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, which has the programs of seccomp."""
    folder = places / "cache"
    folder.mkdir(mode=0o755)
    if (shared_cache / "seccomp").is_dir():
        shutil.copytree(shared_cache / "seccomp", folder / "seccomp")
    monkeypatch.setenv("HAKONIWA_CACHE_DIR", str(folder))
    return folder


def test_a_file_is_executed_once(box: Writer, cache: Path, hako: Hako) -> None:
    path = box('config.environ["A"] = "kept"')
    assert how(path) == "executed"
    (copy,) = copies(cache)
    assert copy.stat().st_mode == 0o100600
    assert how(path) == "taken"
    assert hako("start", path, "--", "sh", "-c", "echo $A").stdout == "kept\n"
    hako("start", "-D", path, "--", "sleep", "1000")
    assert hako("attach", path, "--", "sh", "-c", "echo $A").stdout == "kept\n"
    hako("kill", path)
    assert {*copies(cache)} == {
        copy,
        Path(copied.place_of("joining box")),
    }  # the other is of the state, for the next attach


def test_by_every_way_to_start(box: Writer, cache: Path, hako: Hako) -> None:
    path = box()
    assert how(path, "--dry-run") == "executed"
    assert copies(cache) == [], "nothing is made"
    assert how(path, "-D", "--", "true") == "executed"
    hako("kill", path)
    assert how(path, "-D", "--", "true") == "taken"
    hako("kill", path)
    assert how(path, "--dry-run") == "taken"
    assert how(path, "--debug", "--", "true") == "executed"


def test_a_byte_that_has_changed(box: Writer, cache: Path, hako: Hako) -> None:
    """Neither time nor size tell it: what counts is the content."""
    path = box('config.environ["A"] = "1"')
    assert [how(path), how(path)] == ["executed", "taken"]
    before = path.stat()
    path.write_text(path.read_text().replace('"1"', '"2"'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_mtime_ns, path.stat().st_size) == (before.st_mtime_ns, before.st_size)
    assert hako("start", path, "--", "sh", "-c", "echo $A").stdout == "2\n"
    assert how(path) == "taken"


def test_other_circumstances(box: Writer, cache: Path, hako: Hako, places: Path) -> None:
    path = box()
    assert [how(path), how(path)] == ["executed", "taken"]
    assert how(path.name, folder=places) == "executed", "errors have the path as it was written"
    assert how(path, environ={"HAKONIWA_LIB_DIR": str(places / "lib2")}) == "executed"
    (places / "linked").symlink_to(path)
    assert how(places / "linked") == "executed"
    other = places / "other"
    other.mkdir()
    shutil.copy(path, other)
    hako("rm", path)
    assert how(other / path.name) == "executed"
    hako("rm", other / path.name)
    assert how(path.name, folder=places) == "taken"


def test_the_global_file_belongs_to_it(
    box: Writer, cache: Path, hako: Hako, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = box()
    defaults = Path("/etc/hakoniwa.conf.py")
    assert not defaults.exists(), "the machine has one of its own"
    show = ("start", path, "--", "sh", "-c", "echo $A")
    try:
        for word in ("1", "2"):
            defaults.write_text(f"from hakoniwa import Haconiwa\nHaconiwa.configure(environ={{'A': '{word}'}})\n")
            assert hako(*show).stdout == f"{word}\n"
            assert how(path) == "taken"
            assert hako(*show).stdout == f"{word}\n"
        defaults.write_text(
            "import os\nfrom hakoniwa import Haconiwa\nHaconiwa.configure(environ={'A': os.environ['B']})\n"
        )
        for word in ("3", "4"):
            assert hako(*show, B=word).stdout == f"{word}\n"
    finally:
        defaults.unlink()
    assert hako(*show).stdout == "\n"


@pytest.mark.parametrize(
    "head",
    ["import os", "from pathlib import Path", "def f(): pass", "print(1)", "Haconiwa.log('1')", "Haconiwa.command"],
)
def test_a_text_that_does_not_say_all_is_executed_each_time(box: Writer, cache: Path, head: str) -> None:
    path = box(head=head)
    assert [how(path) for _ in range(3)] == ["executed"] * 3


def test_the_environment_is_read_each_time(box: Writer, cache: Path, hako: Hako) -> None:
    path = box('config.environ["A"] = os.environ["B"]', head="import os")
    for word in ("1", "2"):
        assert hako("start", path, "--", "sh", "-c", "echo $A", B=word).stdout == f"{word}\n"


def test_a_module_beside_the_file(box: Writer, cache: Path, hako: Hako, places: Path) -> None:
    path = box('config.environ["A"] = helper.A\n', head="import helper")
    for word in ("1", "2"):
        (places / "helper.py").write_text(f"A = '{word}'\n")
        assert hako("start", path, "--", "sh", "-c", "echo $A").stdout == f"{word}\n"


def test_a_name_that_depends_on_what_is_known(write_file: Writer, cache: Path, rootfs: Path, places: Path) -> None:
    """A file without a name goes on under its stem if it has made a container of that."""
    folder = places / "shop"
    folder.mkdir()
    path = write_file(f"config.chroot_to({str(rootfs)!r})").rename(folder / "dev.haco.py")
    assert [how(path), how(path)] == ["executed", "taken"]
    known = places / "run" / "dev"
    known.mkdir()
    (known / "state.json").write_text("{}")
    assert how(path) == "executed"
    shutil.rmtree(known)
    assert how(path) == "taken"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('config.uid = "nobody-there"', "box.haco.py:7: "),
        ('config.add_mount_point("/none/such", to="/x")', "box.haco.py:7: "),
    ],
)
def test_errors_are_the_same(box: Writer, cache: Path, hako: Hako, body: str, told: str) -> None:
    path = box(body)
    first = hako("start", path, "--", "true", status=125).stderr
    assert told in first
    assert copies(cache)
    assert hako("start", path, "--", "true", status=125).stderr == first
    assert hako("start", "--debug", path, "--", "true", status=125).stderr.endswith(first)


def test_check_inspect_and_reload_execute_the_file(box: Writer, cache: Path, hako: Hako) -> None:
    path = box('config.environ["A"] = "1"\nconfig.support_reload("resource")')
    assert [how(path), how(path)] == ["executed", "taken"]
    (copy,) = copies(cache)
    forge(copy, lambda kind, plain: plain.update(environ={"A": "forged"}) if kind == "Process" else None)
    assert hako("start", path, "--", "sh", "-c", "echo $A").stdout == "forged\n", "that is what a start takes"
    assert "forged" not in hako("inspect", "--spec", path).stdout
    hako("check", path)
    hako("start", "-D", path, "--", "sleep", "1000")
    assert "environ" in hako("reload", path, status=None).stdout
    hako("kill", path)


def test_damaged_copies(box: Writer, cache: Path) -> None:
    path = box()
    assert how(path) == "executed"
    (copy,) = copies(cache)
    whole = copy.read_bytes()
    for damaged in (
        b"",
        whole[:-1],
        whole[:100],
        whole + b"x",
        whole[:200] + b"x" + whole[201:],
        bytes(20) + whole[20:],
    ):
        copy.write_bytes(damaged)
        assert how(path) == "executed"
        assert copy.read_bytes() == whole, "it is written anew"
        assert how(path) == "taken"


@pytest.mark.parametrize("what", ["read-only", "full", "file"])
def test_a_cache_folder_that_cannot_be_written_to(box: Writer, cache: Path, what: str) -> None:
    path, folder = box(), cache / "descriptions"
    if what == "file":
        folder.write_text("")
    else:
        folder.mkdir(0o700)
        options = "ro" if what == "read-only" else "size=4k,nr_inodes=1"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        assert [how(path), how(path)] == ["executed", "executed"]
    finally:
        if what != "file":
            subprocess.run(["umount", str(folder)], check=True)


def test_there_are_few_copies_and_they_are_cleared(box: Writer, cache: Path, hako: Hako) -> None:
    path = box()
    folder = cache / "descriptions"
    folder.mkdir(mode=0o700)
    for number in range(100):
        (folder / f"{number:03}").touch()
    (folder / "killed.1.new").touch()
    assert how(path) == "executed"
    assert len(copies(cache)) == 64
    assert how(path) == "taken"
    hako("gc")
    assert len(copies(cache)) == 1, "the others are no copies"
    assert how(path) == "taken"
    hako("cache", "prune", "--dry-run")
    assert how(path) == "taken"
    hako("cache", "prune")
    assert copies(cache) == []


def test_several_containers_and_a_host_rootfs(write_file: Writer, cache: Path, rootfs: Path, hako: Hako) -> None:
    several = "config.name = 'both'\n" + "".join(
        f'with config.define() as c:\n    c.name = "{name}"\n    c.chroot_to({str(rootfs)!r})\n    c.init_command = ["true"]\n'
        for name in ("one", "two")
    )
    path = write_file(several, name="several")
    assert [how(path, "-T"), how(path, "-T")] == ["executed", "taken"]
    path = write_file('config.name = "hosted"\nconfig.bootstrap.strategy = "host"', name="hosted")
    hako("create", path)
    assert [how(path), how(path)] == ["executed", "taken"]


def test_an_ordinary_user_has_copies_of_their_own(user: Ordinary) -> None:
    path = user.write("config.bootstrap.strategy = 'host'\nconfig.init_command = ['/usr/bin/id', '-u']")
    user.hako("create", path)
    for _ in range(2):
        assert user.hako("start", path).stdout == "0\n"
    (copy,) = copies(user.home / "cache" / "hakoniwa")
    assert (copy.stat().st_uid, copy.stat().st_mode) == (UID, 0o100600)
    before = copy.stat().st_mtime_ns
    user.hako("start", path)
    assert copy.stat().st_mtime_ns == before
    os.chown(copy, 0, 0)
    assert user.hako("start", path).stdout == "0\n"
    (copy,) = copies(user.home / "cache" / "hakoniwa")
    assert copy.stat().st_uid == UID, "somebody else's is replaced"
