"""What root executes and believes: nobody else's files, and none that somebody else could change or replace."""

from __future__ import annotations

import os
import py_compile
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa import trust
from hakoniwa.haco.sections.bootstrap import load_installed
from tests.conftest import HAKO, Hako

Writer = Callable[..., Path]
STRANGER = 1234
FILE = "from hakoniwa import Haconiwa\nwith Haconiwa.define() as config:\n    pass\n"


@pytest.fixture
def folder(places: Path) -> Path:
    """A folder that everybody can write to, as /tmp."""
    made = places / "shared"
    made.mkdir()
    made.chmod(0o1777)
    return made


@pytest.fixture
def caught(places: Path) -> Path:
    """What the code of the attack makes."""
    return places / "caught"


def plant(path: Path, caught: Path, *, owner: int = STRANGER, mode: int = 0o644) -> Path:
    """A module of a stranger that tells that it was executed."""
    path.write_text(f"open({str(caught)!r}, 'w').close()\n")
    os.chown(path, owner, owner)
    path.chmod(mode)
    return path


def put_acl(path: Path, uid: int) -> None:
    """Let a user write, as `setfacl -m u:UID:rwx` does (linux/posix_acl_xattr.h)."""
    nobody = 0xFFFFFFFF
    entries = [(0x01, 7, nobody), (0x02, 7, uid), (0x04, 5, nobody), (0x10, 7, nobody), (0x20, 5, nobody)]
    try:
        os.setxattr(
            path, "system.posix_acl_access", struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)
        )
    except OSError:
        pytest.skip("this kernel has no POSIX ACLs on this file system")


# Modules beside the file

LAZY = ("json", "re", "difflib", "datetime", "inspect", "cronsim", "watchdog", "traceback", "ast")


def test_nothing_of_ours_is_imported_from_the_folder_of_the_file(hako: Hako, folder: Path, caught: Path) -> None:
    for name in LAZY:
        plant(folder / f"{name}.py", caught)
    there = f"import sys; sys.path.insert(0, {str(folder)!r}); import difflib"
    subprocess.run([sys.executable, "-I", "-c", there], check=True)
    caught.unlink()  # without the defence
    path = folder / "x.haco.py"
    path.write_text(
        FILE
        + "    config.no_such_word = 1\n"
        + '    config.add_timer_hook(cron="x")\n'
        + "    config.add_mount_point(1, 2, wrong=3)\n"
    )
    told = hako("check", path, "--debug", status=125).stderr
    assert "no_such_word is unknown" in told
    path.write_text(FILE + "    config.add_mount_point(1, 2, wrong=3)\n")
    assert "unexpected keyword argument 'wrong'" in hako("check", path, status=125).stderr
    assert not caught.exists()


def test_a_stranger_s_module_is_not_taken_and_one_s_own_is(hako: Hako, folder: Path, caught: Path) -> None:
    path = folder / "x.haco.py"
    path.write_text("import helper\n" + FILE)
    stranger = plant(folder / "helper.py", caught)
    told = hako("check", path, status=125).stderr
    assert f"others can write to the folder {folder}, and uid {STRANGER} has put {stranger} there" in told
    os.chown(stranger, 0, 0)
    stranger.chmod(0o666)
    assert (
        f"{stranger}: others can write to this file, which root would execute" in hako("check", path, status=125).stderr
    )
    assert not caught.exists()
    stranger.chmod(0o644)
    hako("check", path)
    assert caught.exists()


def test_a_link_of_a_stranger_s_is_not_followed(hako: Hako, folder: Path, places: Path, caught: Path) -> None:
    plant(places / "other.py", caught, owner=0)
    (folder / "helper.py").symlink_to(places / "other.py")
    os.chown(folder / "helper.py", STRANGER, STRANGER, follow_symlinks=False)
    path = folder / "x.haco.py"
    path.write_text("import helper\n" + FILE)
    assert f"uid {STRANGER} has put {folder}/helper.py there" in hako("check", path, status=125).stderr
    assert not caught.exists()


def test_a_compiled_module_is_not_believed(hako: Hako, places: Path, caught: Path) -> None:
    source = places / "helper.py"
    cache = places / "__pycache__"
    evil = f"open({str(caught)!r}, 'w').close() #"
    source.write_text(evil)
    py_compile.compile(str(source), doraise=True)
    status = source.stat()
    source.write_text("pass".ljust(len(evil)))
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    cache.chmod(0o777)
    subprocess.run([sys.executable, "-c", "import helper"], cwd=places, check=True)
    caught.unlink()  # without the defence: it has the time and the size of its source
    path = places / "x.haco.py"
    path.write_text("import helper\n" + FILE)
    hako("check", path)
    assert not caught.exists()


def test_modules_beside_the_file_are_found(hako: Hako, box: Writer, places: Path) -> None:
    (places / "helper.py").write_text(
        "import tools.deep\nfrom plain import leaf\nvalue = tools.deep.value + leaf.value\n"
    )
    (places / "tools").mkdir()
    (places / "tools" / "__init__.py").write_text("")
    (places / "tools" / "deep.py").write_text("from . import more\nvalue = more.value\n")
    (places / "tools" / "more.py").write_text("value = 'found'\n")
    (places / "plain").mkdir()
    (places / "plain" / "leaf.py").write_text("value = ' too'\n")
    (places / "late.py").write_text("value = 'late'\n")
    path = box(
        "@config.add_general_hook('setup')\ndef hook(barn):\n    import importlib, late\n"
        "    print(late.value, importlib.import_module('helper').value)\nconfig.init_command = ['/bin/echo', helper.value]",
        head="import helper",
    )
    assert sorted(hako("start", path).stdout.splitlines()) == ["found too", "late found too"]
    (places / "helper").mkdir()
    (places / "helper" / "__init__.py").write_text("value = 'another'\n")
    assert "module helper is there twice" in hako("check", path, status=125).stderr


# Owner, mode, ACL, and the way


@pytest.fixture
def path(places: Path) -> Path:
    """A container file of root's in a folder of root's."""
    made = places / "a" / "b" / "x.haco.py"
    made.parent.mkdir(parents=True)
    made.write_text(FILE)
    made.chmod(0o644)
    return made


def test_a_file_of_somebody_else_s(hako: Hako, path: Path) -> None:
    os.chown(path, STRANGER, 0)
    assert f"this file belongs to uid {STRANGER}, and root would execute it" in hako("check", path, status=125).stderr
    hako("check", path, SUDO_UID=str(STRANGER))  # who has asked root to
    assert "belongs to uid" in hako("check", path, SUDO_UID="1", status=125).stderr


@pytest.mark.parametrize("depth", [0, 1])
def test_every_folder_above_counts(hako: Hako, path: Path, depth: int) -> None:
    above = path.parents[depth]
    above.chmod(0o777)
    assert f"others can write to the folder {above} (chmod go-w {above})" in hako("check", path, status=125).stderr
    above.chmod(0o755)
    os.chown(above, STRANGER, 0)
    assert f"the folder {above} belongs to uid {STRANGER}" in hako("check", path, status=125).stderr
    os.chown(above, 0, 0)
    hako("check", path)


def test_a_link_on_the_way_leads_where_it_is_checked(hako: Hako, path: Path, places: Path) -> None:
    (places / "link").symlink_to("a/b")
    path.parent.chmod(0o777)
    told = hako("check", places / "link" / "x.haco.py", status=125).stderr
    assert f"others can write to the folder {path.parent}" in told


def test_an_acl_lets_somebody_write(hako: Hako, path: Path) -> None:
    for target, told in ((path, "others can write to this file"), (path.parent, "others can write to the folder")):
        put_acl(target, STRANGER)
        assert told in (error := hako("check", path, status=125).stderr)
        assert f"its ACL lets uid {STRANGER} (setfacl -b {target})" in error
        os.removexattr(target, "system.posix_acl_access")
        target.chmod(0o755)
        hako("check", path)


def test_a_group_with_nobody_else_in_it_may_write(hako: Hako, path: Path) -> None:
    staff = 50  # nobody is in it, on Debian; daemon's own is 1, and nobody knows 54321
    for gid, status in ((0, 0), (staff, 0), (1, 125), (54321, 125)):
        for target, mode in ((path, 0o664), (path.parent, 0o775)):
            os.chown(target, 0, gid)
            target.chmod(mode)
            told = hako("check", path, status=status).stderr
            assert status == 0 or f": group {gid} (chmod go-w {target})" in told
            os.chown(target, 0, 0)


def test_strategies_of_packages(places: Path, monkeypatch: pytest.MonkeyPatch, caught: Path) -> None:
    brought = plant(places / "brought.py", caught, owner=0, mode=0o666)
    brought.write_text(brought.read_text() + "mine = None\n")
    (places / "brought-1.dist-info").mkdir()
    (places / "brought-1.dist-info" / "METADATA").write_text("Name: brought\nVersion: 1\n")
    (places / "brought-1.dist-info" / "entry_points.txt").write_text("[hakoniwa.strategies]\nmine = brought:mine\n")
    monkeypatch.syspath_prepend(places)
    with pytest.raises(trust.Distrust, match="others can write to this file"):
        load_installed("mine")
    assert not caught.exists()
    brought.chmod(0o644)
    load_installed("mine")
    assert caught.exists()


def test_a_package_beside_the_file_brings_no_strategy(hako: Hako, folder: Path, caught: Path) -> None:
    plant(folder / "brought.py", caught)
    (folder / "brought-1.dist-info").mkdir()
    (folder / "brought-1.dist-info" / "entry_points.txt").write_text("[hakoniwa.strategies]\nmine = brought:x\n")
    path = folder / "x.haco.py"
    path.write_text(FILE + '    config.bootstrap.strategy = "mine"\n')
    assert "must be the name of a strategy" in hako("create", path, status=125).stderr
    assert not caught.exists()


# Recipes


def test_a_recipe_of_a_stranger_s_replaces_none(hako: Hako, folder: Path, caught: Path) -> None:
    path = folder / "x.haco.py"
    path.write_text(FILE + '    config.bootstrap.strategy = "recipe"\n    config.bootstrap.recipe = "busybox"\n')
    evil = folder / "bootstrap" / "busybox"
    evil.parent.mkdir()
    evil.write_text(f"#!/bin/sh\ntouch {caught}\n")
    evil.chmod(0o755)
    os.chown(evil, STRANGER, STRANGER)
    os.chown(evil.parent, STRANGER, STRANGER)
    told = hako("create", path).stderr
    assert f"uid {STRANGER} has put {evil.parent} there" in told
    assert not caught.exists()
    assert hako("start", path, "--", "id", "-un").stdout == "root\n"
    path.write_text(path.read_text().replace('"busybox"', '"other"').replace("pass", 'config.name = "y"'))
    evil.rename(evil.with_name("other"))
    assert f"uid {STRANGER} has put {evil.parent} there" in hako("create", path, status=125).stderr
    assert not caught.exists()


# State


COMMANDS: dict[str, list[tuple[str, ...]]] = {
    "run": [(word, "box.haco.py") for word in ("kill", "attach", "status", "rm", "logs", "start")] + [("ps",), ("gc",)],
    "lib": [(word, "box.haco.py") for word in ("start", "create", "rm", "inspect")] + [("gc",), ("ps", "--all")],
    "log": [("logs", "box.haco.py")],
}


@pytest.mark.parametrize("word", COMMANDS)
@pytest.mark.parametrize("how", ["owner", "mode", "acl", "above"])
def test_state_folders_of_somebody_else_s(hako: Hako, box: Writer, places: Path, word: str, how: str) -> None:
    """The state says which processes a command ends."""
    above, copy = places / "above", places / "above" / word
    hako("start", "-D", box(), "--", "sleep", "1000")
    above.mkdir(mode=0o755)
    (places / word).mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["cp", "-a", "--", str(places / word), str(above)], check=True)
    changed = above if how == "above" else copy
    match how:
        case "mode" | "above":
            changed.chmod(0o777)
        case "owner":
            os.chown(changed, STRANGER, 0)
        case "acl":
            put_acl(changed, STRANGER)
    for words in COMMANDS[word]:
        told = hako(*words, status=125, **{f"HAKONIWA_{word.upper()}_DIR": str(copy)}).stderr
        assert f"the folder {changed}" in told, words
        assert "not ours alone" in told or "others can write" in told, words
    assert hako("attach", "box.haco.py", "--", "echo", "lives").stdout == "lives\n"
    hako("kill", "box.haco.py")


def test_what_a_stranger_has_put_into_a_state_folder(hako: Hako, box: Writer, places: Path) -> None:
    path = box()
    hako("start", path, "--", "true")
    state = places / "run" / "box"
    os.chown(state / "state.json", STRANGER, 0)
    (places / "run").chmod(
        0o755
    )  # into a folder that others cannot enter they put nothing, so that lists need not look
    done = hako("ps", "--all")  # and goes on with the others
    assert "the file is not ours alone" in done.stderr
    assert path.name not in done.stdout
    os.chown(state / "state.json", 0, 0)
    os.chown(state, STRANGER, 0)
    assert f"the folder {state} is not ours alone" in hako("start", path, "--", "true", status=125).stderr


def test_folders_are_made_closed_whatever_the_umask_is(places: Path, box: Writer) -> None:
    path = box('config.namespace.unshare("net", persist_in="kept/there/net")')
    deep = {f"HAKONIWA_{word.upper()}_DIR": str(places / word / "x" / "y") for word in ("run", "lib", "log", "cache")}
    subprocess.run([HAKO, "start", "-D", path, "--", "true"], check=True, env={**os.environ, **deep}, umask=0)
    subprocess.run([HAKO, "rm", path], check=True, env={**os.environ, **deep}, umask=0)
    made = [found for word in ("run", "lib", "log", "cache", "kept") for found in (places / word).rglob("*")]
    made += [places / word for word in ("run", "log", "cache", "kept")]
    assert len(made) > 8
    assert [found for found in made if not found.is_symlink() and found.stat().st_mode & 0o022] == []


# What is built, and what is believed


def test_a_build_does_not_go_on_in_a_stranger_s_folder(hako: Hako, write_file: Writer, folder: Path) -> None:
    aside = folder / ".box.building"
    aside.mkdir()
    os.chown(aside, STRANGER, STRANGER)
    path = write_file(f'config.chroot_to("{folder}/box")\nconfig.bootstrap.strategy = "host"')
    assert f"uid {STRANGER} has put {aside} there" in hako("create", path, status=125).stderr
    os.chown(aside, 0, 0)
    hako("create", path)


def test_a_seccomp_profile_of_a_stranger_s(hako: Hako, box: Writer, folder: Path) -> None:
    profile = folder / "p.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    path = box(f'config.seccomp.profile = "{profile}"')
    hako("start", path, "--", "true")
    os.chown(profile, STRANGER, STRANGER)
    assert f"uid {STRANGER} has put {profile} there" in hako("start", path, "--", "true", status=125).stderr
