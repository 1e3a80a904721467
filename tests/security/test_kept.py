"""Descriptions that are kept: whoever could write one would say what root's container is, so only root's own count."""

from __future__ import annotations

import marshal
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hakoniwa import trust
from hakoniwa.errors import HakoError
from hakoniwa.known import copied
from tests.conftest import Hako
from tests.kept import STAMP, copies, forge, how, stamp

Writer = Callable[..., Path]
STRANGER = 1234
SHOW = ("--", "sh", "-c", "echo $A")


@pytest.fixture
def cache(places: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, which has the programs of seccomp."""
    folder = places / "cache"
    folder.mkdir(mode=0o755)
    if (shared_cache / "seccomp").is_dir():
        shutil.copytree(shared_cache / "seccomp", folder / "seccomp")
    monkeypatch.setenv("HAKONIWA_CACHE_DIR", str(folder))
    return folder


def evil(kind: str, plain: dict[str, Any]) -> None:
    if kind == "Process":
        plain["environ"] = {"A": "evil"}


@pytest.fixture
def forged(box: Writer, cache: Path, hako: Hako) -> tuple[Path, Path]:
    """A container file, and a copy of its description that says something else; as root's own it is believed."""
    path = box('config.environ["A"] = "good"')
    hako("start", path, "--", "true")
    (copy,) = copies(cache)
    forge(copy, evil)
    assert hako("start", path, *SHOW).stdout == "evil\n"
    return path, copy


@pytest.fixture
def forged_state(box: Writer, cache: Path, hako: Hako) -> Iterator[tuple[Path, Path]]:
    """A running container, and a copy of what its state says that says something else; as root's own it is believed."""
    path = box('config.environ["A"] = "good"')
    hako("start", "-D", path, "--", "sleep", "1000")
    hako("attach", path, "--", "true")
    copy = Path(copied.place_of("joining box"))
    state, (kind, fields) = marshal.loads(copy.read_bytes()[STAMP + 8 :])
    evil(*fields["process"])
    copy.write_bytes(copied.summed(stamp(), marshal.dumps((state, [kind, fields]))))
    assert hako("attach", path, *SHOW).stdout == "evil\n"
    yield path, copy
    hako("kill", "-T", "0", path)


def spoiled(copy: Path, places: Path) -> Iterator[None]:
    """Put a copy in place such that somebody else could have written it, or that is none, in one way after another."""
    content = copy.read_bytes()

    def own() -> None:
        os.chown(copy, STRANGER, 0)

    def link() -> None:
        os.rename(copy, places / "elsewhere")
        copy.symlink_to(places / "elsewhere")

    def pipe() -> None:
        copy.unlink()
        os.mkfifo(copy, 0o600)

    def folder() -> None:
        copy.unlink()
        copy.mkdir(0o600)

    ways = [own, link, pipe, *(lambda mode=mode: copy.chmod(mode) for mode in (0o620, 0o602, 0o640, 0o4600)), folder]
    for way in ways:
        if copy.is_dir():
            copy.rmdir()
        copy.unlink(missing_ok=True)
        copy.write_bytes(content)
        copy.chmod(0o600)
        way()
        yield


def test_a_copy_that_somebody_else_could_have_written(hako: Hako, forged: tuple[Path, Path], places: Path) -> None:
    path, copy = forged
    for _ in spoiled(copy, places):
        assert hako("start", path, *SHOW).stdout == "good\n"


def test_a_copy_of_a_state_that_somebody_else_could_have_written(
    hako: Hako, forged_state: tuple[Path, Path], places: Path
) -> None:
    path, copy = forged_state
    for _ in spoiled(copy, places):
        assert hako("attach", path, *SHOW).stdout == "good\n"


def test_a_copy_of_the_state_of_an_earlier_run(hako: Hako, forged_state: tuple[Path, Path]) -> None:
    path, _ = forged_state
    hako("kill", path)
    hako("start", "-D", path, "--", "sleep", "1000")
    assert hako("attach", path, *SHOW).stdout == "good\n"


@pytest.mark.parametrize("how_", ["owner", "mode", "link"])
def test_a_cache_folder_that_is_not_ours(
    hako: Hako, forged: tuple[Path, Path], cache: Path, places: Path, how_: str
) -> None:
    """It is refused, as it is by whatever else reads there."""
    path, _ = forged
    if how_ == "owner":
        os.chown(cache, STRANGER, 0)
    elif how_ == "mode":
        cache.chmod(0o777)
    else:
        open_to_all = places / "open"
        open_to_all.mkdir()
        open_to_all.chmod(0o1777)
        os.rename(cache, places / "theirs")
        os.symlink(places / "theirs", open_to_all / "link")
        os.chown(open_to_all / "link", STRANGER, STRANGER, follow_symlinks=False)
        cache.symlink_to(open_to_all / "link")
    told = hako("start", path, *SHOW, status=125)
    assert "evil" not in told.stdout
    assert "not ours alone" in told.stderr or "others can write" in told.stderr


def test_a_copy_of_another_file_or_another_installation(
    hako: Hako, box: Writer, forged: tuple[Path, Path], cache: Path
) -> None:
    path, copy = forged
    other = box('config.environ["A"] = "other"', name="other")
    hako("start", other, "--", "true")
    (of_other,) = [one for one in copies(cache) if one != copy]
    shutil.copyfile(copy, of_other)
    assert hako("start", other, *SHOW).stdout == "other\n"
    content = copy.read_bytes()
    copy.write_bytes(bytes([content[10] ^ 1]).join([content[:10], content[11:]]))
    assert hako("start", path, *SHOW).stdout == "good\n"


def test_who_it_is_kept_for(hako: Hako, forged: tuple[Path, Path], cache: Path) -> None:
    """A copy of root's serves no other group, say."""
    path, _ = forged
    assert how(path) == "taken"
    assert how(path, group=STRANGER, extra_groups=[]) == "executed"


def test_a_file_that_is_swapped_while_it_is_read(
    forged: tuple[Path, Path], places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text that was checked is the text that is compared."""
    path, _ = forged
    theirs = places / "theirs"
    theirs.write_text("# theirs\n")
    original = trust.check

    def swap(name: str) -> trust.Way:
        os.rename(theirs, path)
        return original(name)

    monkeypatch.setattr(trust, "check", swap)
    with pytest.raises(HakoError, match="was replaced while it was being read"):
        trust.read_found(str(path), 1 << 20)


def test_a_file_that_may_not_be_executed_is_not_taken_from_a_copy(hako: Hako, forged: tuple[Path, Path]) -> None:
    path, _ = forged
    path.chmod(0o666)
    assert "others can write" in hako("start", path, *SHOW, status=125).stderr
    path.chmod(0o644)
    os.chown(path, STRANGER, 0)
    assert "belongs to uid" in hako("start", path, *SHOW, status=125).stderr


TRY = """
cd /home/cache/descriptions || exit 9
for f in *; do
    {{ echo evil >> $f; }} 2>/dev/null && echo wrote
    {{ mv $f $f.old; }} 2>/dev/null && echo moved
done
{{ touch new; }} 2>/dev/null && echo added
{{ mv /home/cache/descriptions /home/cache/other; }} 2>/dev/null && echo moved folder
{{ mv /home/cache /home/other; }} 2>/dev/null && echo moved cache
{{ touch ../seccomp/new; }} 2>/dev/null && echo added a program
echo done
"""


@pytest.mark.parametrize("first", [True, False], ids=["not made yet", "made"])
def test_a_container_that_is_shown_the_cache_folder(
    hako: Hako, box: Writer, cache: Path, places: Path, first: bool
) -> None:
    """Otherwise it could say what its next start is, with other mounts and capabilities."""
    shared = f"config.add_mount_point({str(places)!r}, to='/home')"
    path = box(shared)
    if not first:
        hako("start", path, "--", "true")
        assert copies(cache)
    assert hako("start", path, "--", "sh", "-c", TRY.format(), status=None).stdout == "done\n"
    open_box = box(shared.replace(")", ", unguarded=True)"), name="open")
    hako("start", open_box, "--", "true")
    told = hako("start", open_box, "--", "sh", "-c", TRY.format(), status=None).stdout
    for word in ("wrote", "added", "moved folder", "moved cache"):
        assert word in told
