"""Command lines that nobody means, and streams that take nothing: each is told, with the status that it has."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import HAKO, Hako

Writer = Callable[..., Path]
SLEEP = ("--", "sleep", "1000")
FULL = "cannot write to standard output: No space left on device\n"


def run(hako: Hako, line: str) -> subprocess.CompletedProcess[str]:
    """A line of the shell, in which `hako` is ours."""
    done = subprocess.run(
        ["sh", "-c", f'hako() {{ {HAKO} "$@"; }}; {line}'], cwd=hako.folder, capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(
    "words",
    [
        "ps",
        "ps --json",
        "check web.haco.py",
        "status web",
        "inspect web",
        "version",
        "--help",
        "start --help",
        "start --dry-run web",
    ],
)
def test_output_that_is_lost_is_a_failure(hako: Hako, box: Writer, words: str) -> None:
    hako("start", "-D", box(name="web"), *SLEEP)
    done = run(hako, f"hako {words} > /dev/full")
    assert (done.returncode, done.stderr) == (125, f"hako: {FULL}")
    hako("kill", "web")


def test_a_start_whose_output_is_lost_has_started(hako: Hako, box: Writer) -> None:
    box(name="web")
    done = run(hako, "hako start -D web.haco.py > /dev/full")
    assert (done.returncode, done.stderr) == (125, f"hako: {FULL}")
    assert "running" in hako("ps").stdout
    hako("kill", "web")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("hako nope 2> /dev/full", 2),
        ("hako nope 2>&-", 2),
        ("hako check nope 2> /dev/full", 125),
        ("hako kill web.haco.py 2> /dev/full", 0),
        ("hako ps 2>&- <&-", 0),
        ("hako ps >&-", 0),
        ("hako ps | true", 0),
        ("hako start web.haco.py -- nope 2> /dev/full", 127),
    ],
)
def test_the_status_is_the_same_when_nobody_is_told(hako: Hako, box: Writer, line: str, status: int) -> None:
    box(name="web")
    assert run(hako, line).returncode == status


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("checkpoint", "web"), 2, "hako: checkpoint: this command is not supported yet"),
        (("restore",), 2, "hako: restore: this command is not supported yet"),
        (("help", "nope"), 2, "unknown command 'nope'"),
        (("start", "web.haco.py", "--", ""), 2, "the command after -- is empty"),
        (("attach", "web", "--", ""), 2, "the command after -- is empty"),
        (("attach", "-A", ",", "web", "--", "true"), 2, "-A: names no capability"),
        (("attach", "-u", "-1", "web", "--", "true"), 2, "-u: must be a name, or a number from 0 to 4294967294"),
        (("kill", "-T", "nan", "web"), 2, "-T takes seconds from 0 on, or -1, not 'nan'"),
        (("kill", "-T", "1e400", "web"), 2, "-T takes seconds from 0 on, or -1"),
        (("kill", "-s", "0", "web"), 2, "signal '0' is unknown"),
        (("snapshot", "web.haco.py", "../x"), 2, "the name of a snapshot must be"),
        (("cache",), 2, "what of it? (hako cache ls, or hako cache prune)"),
        (("cache", "lsx"), 2, "there is no action 'lsx' (did you mean 'ls'?)"),
        (("new", "folder"), 2, "folder names a folder (hako new folder/dev.haco.py)"),
        (("check", "folder"), 125, "folder: not a regular file"),
        (("kill", "folder"), 125, "folder: it is a folder, and no container has that name"),
    ],
)
def test_what_nobody_means(
    hako: Hako, box: Writer, places: Path, words: tuple[str, ...], status: int, told: str
) -> None:
    (places / "folder").mkdir()
    hako("start", "-D", box(name="web"), *SLEEP)
    assert told in hako(*words, status=status).stderr
    assert "running" in hako("status", "web").stdout
    hako("kill", "web")


def test_an_unknown_command_is_compared_with_those_that_work(hako: Hako) -> None:
    told = hako("chekpoint", status=2).stderr
    assert "unknown command 'chekpoint'" in told
    assert "checkpoint'?" not in told
    assert "restore" not in hako("foo", status=2).stderr
    assert hako("help", "start").stdout == hako("start", "--help").stdout


def test_what_does_not_run_is_told_with_how_it_fares(hako: Hako, box: Writer) -> None:
    path = box(name="web")
    hako("start", path, "--", "sh", "-c", "exit 3", status=3)
    for command in ("attach", "reload"):
        told = hako(command, "web", status=125).stderr
        assert told == f"hako: no container runs: web has ended with status 3 (hako start -D {path} runs one)\n"
    hako("start", "-D", path)
    hako("kill", path)
    assert f"{path}: no container runs: web was ended by signal 9" in hako("attach", path, status=125).stderr


def test_a_file_that_cannot_be_read(hako: Hako, box: Writer, places: Path) -> None:
    os.mkfifo(places / "pipe.haco.py")
    assert "not a regular file" in hako("check", "pipe.haco.py", status=125).stderr
