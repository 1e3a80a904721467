"""What is looked at and then used, and replaced by somebody in between: what is kept is what was looked at, or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import LONGEST, Hako
from tests.security.test_archives import archive, member

Writer = Callable[..., Path]

# Runs `hako` where something happens to files just after they were hashed, as somebody else would have it happen.
MEANWHILE = """
import os, sys
sys.path[:0] = {paths!r}
import hakoniwa.rootfs.{module} as module
original, happened = module.{name}, []
def call(*arguments, **options):
    result = original(*arguments, **options)
    if not happened:
        happened.append(True)
        {what}
    return result
module.{name} = call
sys.argv[1:] = {words!r}
from hakoniwa import cli
cli.main()
"""


def meanwhile(hako: Hako, module: str, name: str, what: str, *words: str | Path) -> tuple[int, str]:
    """Run a command; `what` happens once a function of ours has returned for the first time."""
    paths = [entry for entry in sys.path if entry]
    code = MEANWHILE.format(paths=paths, module=module, name=name, what=what, words=[str(word) for word in words])
    argv = [sys.executable, "-I", "-c", code]
    done = subprocess.run(argv, cwd=hako.folder, capture_output=True, text=True, timeout=LONGEST)
    return done.returncode, done.stderr


def layers(hako: Hako) -> list[str]:
    return [entry["kind"] for entry in json.loads(hako("cache", "ls", "--json").stdout)["cache"]]


@pytest.mark.parametrize("compression", ["plain", "gzip"])
@pytest.mark.parametrize("how", ["replaced", "written"])
@pytest.mark.parametrize("kept", [True, False])
def test_an_archive(hako: Hako, write_file: Writer, places: Path, compression: str, how: str, kept: bool) -> None:
    """By another file, or in place: it is unpacked, and then it is not what was asked for."""
    good = archive(places / "good.tar", member("bin/sh", content=b"good"))
    evil = archive(places / "evil.tar", member("bin/sh", content=b"evil"))
    if compression == "gzip":
        for path in (good, evil):
            subprocess.run(["gzip", "-n", path], check=True)
        good, evil = places / "good.tar.gz", places / "evil.tar.gz"
    digest = hashlib.sha256(good.read_bytes()).hexdigest()
    content = good.read_bytes()
    body = f'b = config.bootstrap\nb.strategy = "tarball"\nb.archive_path = "{good.name}"\nb.sha256 = "{digest}"\n'
    path = write_file(body + f"b.cache = {kept}")
    what = f"os.rename({str(evil)!r}, {str(good)!r})"
    if how == "written":
        what = f"open({str(good)!r}, 'r+b').write(open({str(evil)!r}, 'rb').read())"
    status, told = meanwhile(hako, "strategies.tarball", "file_digest", what, "create", path)
    assert status == 125
    assert f"and not {digest}" in told
    assert layers(hako) == []
    assert not (places / "lib" / "box").exists()
    good.write_bytes(content)
    hako("create", path)


def test_an_archive_that_was_fetched(hako: Hako, write_file: Writer, places: Path, tmp_path: Path) -> None:
    """What lies in the cache under a hash, and has another, is not used, and is not used the next time either."""
    evil = archive(places / "evil.tar", member("bin/sh", content=b"evil"))
    digest = hashlib.sha256(b"another").hexdigest()
    cache = places / "cache" / "downloads"
    cache.mkdir(parents=True, mode=0o700)
    cache.parent.chmod(0o700)
    evil.rename(cache / digest)
    body = f'b = config.bootstrap\nb.strategy = "tarball"\nb.archive_path = "https://localhost:1/x.tar"\nb.sha256 = "{digest}"'
    told = hako("create", write_file(body), status=125, HAKONIWA_CACHE_DIR=str(places / "cache")).stderr
    assert f"and not {digest}" in told
    assert os.listdir(cache) == []


def test_what_a_step_copies(hako: Hako, write_file: Writer, places: Path) -> None:
    """It is remembered by what was copied, or not at all."""
    (places / "data").write_text("good")
    body = 'config.bootstrap.strategy = "recipe"\nconfig.bootstrap.recipe = "busybox"\n'
    path = write_file(body + f"config.provision.copy({str(places / 'data')!r}, '/data')")
    what = f"open({str(places / 'data')!r}, 'w').write('evil')"
    status, told = meanwhile(hako, "tools.digests", "content_digest", what, "create", path)
    assert status == 125
    assert f"{places}/data was changed while it was being copied" in told
    assert layers(hako) == ["bootstrap"]
    hako("create", path)
    assert hako("start", path, "--", "cat", "/data").stdout == "evil"


@pytest.mark.parametrize("when", ["find", "run_step"])
def test_a_recipe(hako: Hako, write_file: Writer, places: Path, when: str) -> None:
    """Between its hash and its use, and while it is used."""
    script = places / "bootstrap" / "mine"
    script.parent.mkdir()
    text = "#!/bin/sh\nmkdir $ROOTFS/bin; cp /bin/busybox $ROOTFS/bin/sh; echo {} > $ROOTFS/word\n"
    script.write_text(text.format("one"))
    script.chmod(0o755)
    path = write_file('config.bootstrap.strategy = "recipe"\nconfig.bootstrap.recipe = "mine"')
    what = f"open({str(script)!r}, 'w').write({text.format('two')!r})"
    name = "run_step" if when == "run_step" else "_digest"
    status, told = meanwhile(hako, "strategies.recipe", name, what, "create", path)
    assert status == 125
    assert f"the recipe {script} was changed while it was used" in told
    assert layers(hako) == []


def test_a_branch_that_goes_on(hako: Hako, write_file: Writer, places: Path) -> None:
    """What is kept under the name of a commit is that commit."""
    repository = places / "repository"

    def git(*words: str) -> None:
        who = ["-c", "user.name=x", "-c", "user.email=x@x"]
        subprocess.run(["git", *who, "-C", str(repository), *words], check=True, capture_output=True)

    repository.mkdir()
    git("init", "-b", "main")
    (repository / "word").write_text("one")
    git("add", ".")
    git("commit", "-m", "one")
    path = write_file(f'config.bootstrap.strategy = "git"\nconfig.bootstrap.git_url = "file://{repository}"')
    commit = f"git -c user.name=x -c user.email=x@x -C {repository} commit -qam two"
    what = f"os.system('echo two > {repository}/word; {commit}')"
    status, told = meanwhile(hako, "strategies.git", "_commit", what, "create", path)
    assert status == 0, told
    (layer,) = (places / "lib" / ".layers").iterdir()
    assert (layer / "tree" / "word").read_text() == "one"
