"""Which containers a command means: by their file, by their name, by a pid; and whose a name is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Hako

Writer = Callable[..., Path]
SLEEP = ("--", "sleep", "1000")

FAST = 'import os\nconfig.name = os.environ["ID"]'


def states(hako: Hako, *words: str) -> dict[str, str]:
    """The containers that are known, with how they fare."""
    shown = json.loads(hako("ps", "--json", "--all", *words).stdout)["containers"]
    return {one["name"]: one["status"] for one in shown}


def pids(hako: Hako) -> dict[str, int]:
    return {one["name"]: one["pid"] for one in json.loads(hako("ps", "--json").stdout)["containers"]}


def project(places: Path, name: str, busybox: Path, body: str = "", file: str = "dev") -> Path:
    """A container file in a folder of its own, with a rootfs in the usual place."""
    folder = places / name
    folder.mkdir(exist_ok=True)
    path = folder / f"{file}.haco.py"
    strategy = f'config.bootstrap.strategy = "shell"\n    config.bootstrap.code = "cp -a {busybox}/. $ROOTFS; echo {name} > $ROOTFS/whose"'
    body = "\n    ".join(body.splitlines())
    path.write_text(f"from hakoniwa import Haconiwa\nwith Haconiwa.define() as config:\n    {strategy}\n    {body}\n")
    path.chmod(0o644)
    return path


# Names that are not written


def test_two_projects_with_one_stem_share_nothing(hako: Hako, places: Path, busybox: Path) -> None:
    shop, forum = (project(places, name, busybox) for name in ("shop", "forum"))
    for path in (shop, forum):
        hako("create", path)
        assert hako("start", path, "--", "cat", "/whose").stdout == f"{path.parent.name}\n"
    assert states(hako) == {"shop-dev": "stopped", "forum-dev": "stopped"}
    hako("rm", "--rootfs", shop)
    assert hako("start", forum, "--", "cat", "/whose").stdout == "forum\n"
    hako("rm", "--rootfs", forum)
    assert states(hako) == {}


def test_what_exists_under_the_stem_alone_goes_on(hako: Hako, places: Path, busybox: Path) -> None:
    path = project(places, "shop", busybox, 'config.name = "dev"')
    hako("create", path)
    path.write_text(path.read_text().replace('config.name = "dev"', "pass"))
    assert hako("start", path, "--", "hostname").stdout == "dev\n"
    hako("rm", "--rootfs", path)
    hako("create", path)
    assert states(hako) == {"shop-dev": "built"}
    hako("rm", "--rootfs", path)


def test_barns_of_one_stem_do_not_shut_each_other_out(hako: Hako, places: Path, rootfs: Path) -> None:
    body = "@config.add_general_hook('setup')\ndef s(barn): pass\nwith config.define() as c:\n    c.name = '{}'\n    c.chroot_to({!r})"
    for name in ("one", "two"):
        hako("start", "-D", project(places, name, rootfs, body.format(name, str(rootfs))), *())
    assert sorted(one["barn"] for one in json.loads(hako("ps", "--json", "-a").stdout)["containers"]) == [
        "one-dev",
        "two-dev",
    ]
    for name in ("one", "two"):
        hako("kill", places / name / "dev.haco.py")


# Whose a name is


def test_a_name_belongs_to_the_file_that_made_it(hako: Hako, places: Path, busybox: Path) -> None:
    first, second = (project(places, name, busybox, 'config.name = "clash"') for name in ("a", "b"))
    hako("create", first)
    for words in (
        ("create", second),
        ("create", "--rebuild", second),
        ("start", "-b", second),
        ("start", second, "--", "true"),
        ("provision", second),
    ):
        told = hako(*words, status=125).stderr
        assert f"{second}:5: the name 'clash' belongs to {first}, which made a container of it" in told
        assert "hako rm --rootfs -n clash sets it free" in told
    assert hako("start", first, "--", "cat", "/whose").stdout == "a\n"
    hako("rm", "--rootfs", first)
    hako("start", "-b", second, "--", "true")
    assert hako("start", second, "--", "cat", "/whose").stdout == "b\n"
    hako("rm", "--rootfs", second)
    assert states(hako) == {}


def test_what_was_only_started_has_its_name_too(hako: Hako, box: Writer) -> None:
    first, second = box('config.name = "clash"', name="a"), box('config.name = "clash"', name="b")
    hako("start", first, "--", "true")
    assert f"belongs to {first}" in hako("start", second, "--", "true", status=125).stderr
    hako("rm", "-n", "clash")
    hako("start", second, "--", "true")


def test_a_file_that_was_moved_keeps_its_name(hako: Hako, places: Path, busybox: Path) -> None:
    path = project(places, "shop", busybox, 'config.name = "dev"')
    hako("create", path)
    moved = places / "moved"
    path.parent.rename(moved)
    path = moved / "dev.haco.py"
    told = hako("start", path, "--", "cat", "/whose")
    assert told.stdout == "shop\n"
    assert f"dev: it was made by {places}/shop/dev.haco.py, which is gone, and belongs to {path} now" in told.stderr
    assert hako("start", path, "--", "true").stderr == ""
    hako("rm", "--rootfs", path)
    assert states(hako) == {}


# A file that makes containers of several names


@pytest.fixture
def fast(hako: Hako, box: Writer) -> Path:
    """A file that has made the containers a, b and c, which run."""
    path = box(FAST, name="fast")
    for name in "abc":
        hako("start", "-D", path, *SLEEP, ID=name)
    return path


def test_kill_means_the_name_that_the_file_gives_now(hako: Hako, fast: Path) -> None:
    hako("kill", fast, ID="b")
    assert states(hako) == {"a": "running", "b": "stopped", "c": "running"}
    assert "nothing is running" in hako("kill", fast, ID="b").stderr
    hako("rm", fast, ID="b")
    assert states(hako) == {"a": "running", "c": "running"}
    assert hako("attach", fast, "--", "hostname", ID="c").stdout == "c\n"
    assert "c: nothing has changed" in hako("reload", fast, ID="c").stdout
    told = hako("kill", fast, ID="zzz", status=125).stderr
    assert "it has made several containers (a c), and none of the name that it gives now, zzz" in told
    assert "-n NAME, or all with --all" in told
    hako("kill", "--all", fast)
    assert states(hako) == {"a": "stopped", "c": "stopped"}
    assert "hako: nothing is running" in hako("kill", fast, "--all").stderr
    hako("rm", "--all", fast)
    assert states(hako) == {}


@pytest.mark.parametrize("damage", ["no name", "broken", "gone"])
def test_a_file_that_does_not_tell_which_is_meant(hako: Hako, fast: Path, damage: str) -> None:
    if damage == "broken":
        fast.write_text("broken (")
    elif damage == "gone":
        fast.unlink()
    for command in ("kill", "rm", "attach", "reload", "snapshot", "rollback"):
        words = [command, fast, *(["x"] if command in ("snapshot", "rollback") else [])]
        told = hako(*words, status=125).stderr
        assert "it has made several containers (a b c), and does not tell which is meant: " in told
        assert "choose one with -n NAME" in told
        assert ("--all" in told) == (command in ("kill", "rm", "reload"))
    assert set(states(hako).values()) == {"running"}
    assert hako("status", fast).stdout.count("running") == 3  # nothing happens to them
    hako("kill", "-n", "a")
    hako("kill", "--all", fast)


def test_a_barn_is_one_and_its_file_is_not_executed(hako: Hako, box: Writer) -> None:
    members = "\n".join(f'with config.define() as c:\n    c.name = "{name}"' for name in "ab")
    path = box(f'config.init_command = ["sleep", "1000"]\n{members}')
    hako("start", "-D", path)
    path.write_text("broken (")
    hako("kill", path)
    assert states(hako) == {"a": "stopped", "b": "stopped"}


# What stands where FILE belongs


def test_a_name_where_the_file_belongs(hako: Hako, box: Writer, places: Path) -> None:
    path = box(name="web")
    assert hako("start", "web.haco.py", "-D", *SLEEP)
    (places / "elsewhere").mkdir()
    hako.folder = places / "elsewhere"
    assert hako("attach", "web", "--", "hostname").stdout == "web\n"
    assert "running" in hako("status", "web").stdout
    assert "nothing has changed" in hako("reload", "web").stdout
    hako("kill", "web")
    hako("start", "web", "-D", *SLEEP)  # by the file that made it
    assert states(hako) == {"web": "running"}
    hako("kill", "web")
    assert "nothing is running" in hako("kill", "web").stderr
    path.write_text(path.read_text().replace('config.name = "web"', 'config.name = "other"'))
    told = hako("start", "web", status=125).stderr
    assert told == f"hako: web: it was made by {path}, which defines other now (name the file for that)\n"
    hako("rm", "web")


def test_one_of_several_is_not_started_by_its_name(hako: Hako, box: Writer) -> None:
    members = "\n".join(f'with config.define() as c:\n    c.name = "{name}"' for name in "ab")
    path = box(f'config.init_command = ["true"]\n{members}')
    hako("start", path)
    assert (
        f"it is one of several containers of {path} (name the file for all: a b)"
        in hako("start", "a", status=125).stderr
    )
    barn = json.loads(hako("ps", "-a", "--json").stdout)["containers"][0]["barn"]
    hako("start", barn)
    hako("rm", "-n", barn)
    assert states(hako) == {}


@pytest.mark.parametrize(
    "command", ["kill", "rm", "attach", "reload", "status", "logs", "inspect", "start", "create", "check"]
)
def test_an_unknown_name_is_an_error_that_suggests(hako: Hako, box: Writer, command: str) -> None:
    box(name="web")
    hako("start", "-D", "web.haco.py", *SLEEP)
    told = hako(command, "wbe", status=125).stderr
    assert told == "hako: wbe: there is no such file, and no container has that name (did you mean 'web'?)\n"
    assert "(hako ps --all lists them)" in hako(command, "quite.other", status=125).stderr
    (hako.folder / "web.haco.py").rename(hako.folder / "fresh.haco.py")
    assert "(did you mean fresh.haco.py?)" in hako(command, "fresh", status=125).stderr
    if command not in ("start", "create", "check"):
        assert "no container 'wbe' is known (did you mean 'web'?)" in hako(command, "-n", "wbe", status=125).stderr
    assert states(hako) == {"web": "running"}
    hako("kill", "web")


def test_a_file_that_is_gone_is_found_still(hako: Hako, box: Writer) -> None:
    path = box(name="web")
    hako("start", "-D", path, *SLEEP)
    path.unlink()
    hako("kill", path)
    assert states(hako) == {"web": "stopped"}


# By pid


def test_a_pid_alone_is_enough(hako: Hako, box: Writer, places: Path) -> None:
    path, other = box(name="web"), box(name="other")
    hako("start", "-D", path, *SLEEP)
    pid = str(pids(hako)["web"])
    (places / "empty").mkdir()
    hako.folder = places / "empty"
    assert hako("attach", "-t", pid, "--", "hostname").stdout == "web\n"
    assert "nothing has changed" in hako("reload", "-t", pid).stdout
    assert hako("attach", "-t", pid, path, "--", "hostname").stdout == "web\n"
    assert hako("attach", "-t", pid, "-n", "web", "--", "hostname").stdout == "web\n"
    told = hako("kill", "-t", pid, other, status=125).stderr
    assert told == f"hako: {other}: container 'web' is not of this file, but of {path}\n"
    hako("start", other, "--", "true")
    told = hako("kill", "-t", pid, "-n", "other", status=125).stderr
    assert told == f"hako: -t: the process {pid} is of container 'web', not of 'other'\n"
    assert states(hako)["web"] == "running"
    hako("kill", "-t", pid)
    assert states(hako)["web"] == "stopped"


# Words that are empty, and options that contradict each other


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("kill", "-n", ""), "-n is empty (it takes NAME)"),
        (("kill", "--name="), "--name is empty (it takes NAME)"),
        (("kill", "-t", ""), "-t is empty (it takes PID)"),
        (("kill", ""), "one of the arguments is empty"),
        (("rm", ""), "one of the arguments is empty"),
        (("attach", "-u", "", "--", "true"), "-u is empty"),
        (("kill", "-n", "web", "-n", "other"), "-n was given twice: web and other"),
        (("kill", "web", "-n", "other"), "web and -n other are two containers"),
        (("kill", "--all", "-n", "web"), "--all is about all containers of a file"),
        (("kill", "-t", "0"), "a pid must be a number from 1 to 4194304, not '0'"),
        (("kill", "-t", "9" * 5000), "a pid must be a number"),
        (("kill", "-t", "٣"), "a pid must be a number"),
    ],
)
def test_what_names_nothing_ends_nothing(hako: Hako, box: Writer, words: tuple[str, ...], told: str) -> None:
    hako("start", "-D", box(name="web"), *SLEEP)
    assert told in hako(*words, status=2).stderr
    assert states(hako) == {"web": "running"}
    hako("kill", "-n", "web", "-n", "web")
