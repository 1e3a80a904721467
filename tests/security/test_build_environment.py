"""What the caller's environment could make the host's programs of a build do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Hako

Writer = Callable[..., Path]
SETTINGS = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]


def git(folder: Path, *words: str) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    words = ("git", "-C", str(folder), *SETTINGS, *words)
    return subprocess.run(words, check=True, capture_output=True, text=True, env=environ).stdout


def make_repository(folder: Path, content: str) -> Path:
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "file").write_text(content)
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", content)
    return folder


@pytest.mark.parametrize("variables", [("GIT_DIR",), ("GIT_DIR", "GIT_WORK_TREE"), ("GIT_DIR", "GIT_INDEX_FILE")])
def test_no_other_repository_is_changed(
    hako: Hako, write_file: Writer, places: Path, monkeypatch: pytest.MonkeyPatch, variables: tuple[str, ...]
) -> None:
    """As in a hook of git's, which has GIT_DIR set."""
    source, victim = make_repository(places / "source", "new"), make_repository(places / "victim", "old")
    values = {"GIT_DIR": f"{victim}/.git", "GIT_WORK_TREE": str(victim), "GIT_INDEX_FILE": f"{victim}/.git/index"}
    environ = {name: values[name] for name in variables}
    plain = make_repository(places / "plain", "old")
    told = {name: value.replace("/victim", "/plain") for name, value in environ.items()}
    for words in (("fetch", "-q", str(source), "HEAD"), ("checkout", "-q", "-f", "--detach", "FETCH_HEAD")):
        subprocess.run(["git", *words], check=True, env={**os.environ, **told}, cwd=places, capture_output=True)
    assert git(plain, "rev-parse", "--abbrev-ref", "HEAD") == "HEAD\n"  # without the defence: detached
    path = write_file(f'config.bootstrap.strategy = "git"\nconfig.bootstrap.git_url = "file://{source}"')
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    hako("create", path)
    assert (places / "lib" / "box").is_dir()
    assert git(victim, "rev-parse", "--abbrev-ref", "HEAD") == "main\n"
    assert git(victim, "status", "--porcelain") == ""
    assert (victim / "file").read_text() == "old"


def test_programs_get_an_environment_of_our_making(
    hako: Hako, write_file: Writer, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = places / "evil"
    evil.write_text(f"touch {places}/executed\n")
    environ = {
        "BASH_ENV": str(evil),
        "ENV": str(evil),
        "GIT_SSH": str(evil),
        "TAR_OPTIONS": f"--to-command=touch\\ {places}/executed",
        "XZ_OPT": "--no-such-option",
        "GZIP": "--no-such-option",
        "APT_CONFIG": str(evil),
        "PERL5OPT": "-Mevil",
        "PYTHONPATH": str(places),
        "PATH": f"{places}:{os.environ['PATH']}",
        "SECRET": "secret",
        "https_proxy": "http://127.0.0.1:1",
        "SSH_AUTH_SOCK": "/run/agent",
    }
    body = 'config.bootstrap.strategy = "shell"\nconfig.bootstrap.code = "env > $ROOTFS/env"'
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    hako("create", write_file(body))
    found = dict(line.split("=", 1) for line in (places / "lib" / "box" / "env").read_text().splitlines())
    assert {"https_proxy", "SSH_AUTH_SOCK", "HOME", "ROOTFS"} <= set(found)
    assert not (set(environ) - {"https_proxy", "SSH_AUTH_SOCK", "PATH"}) & set(found)
    assert found["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    hako("archive", places / "box.haco.py", "-d", "box.tar.xz")
    body = 'config.bootstrap.strategy = "tarball"\nconfig.bootstrap.archive_path = "box.tar.xz"'
    hako("create", write_file(body, "back"))
    assert not (places / "executed").exists()
