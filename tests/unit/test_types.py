"""What editors and type checkers see of a container file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import hakoniwa
import hakoniwa.types
from hakoniwa.haco.container import SECTIONS, ContainerBuilder
from hakoniwa.haco.explain import KINDS
from hakoniwa.haco.explain import SECTIONS as CLASSES
from hakoniwa.spec.rules import buildchecks
from tests.unit.test_structure import EXAMPLES, PACKAGE

WRONG = """from hakoniwa import Haconiwa

with Haconiwa.define() as config:
    config.nmae = "x"
    config.uid = 1.5
    config.bootstrap.stratgy = "host"
    config.rootfs.readonly = "yes"
    config.cgroup.assign_only = True
    config.add_mount_point("x")
    config.unshare("net")
    with config.seccomp.filter() as rule:
        rule.alow("read")
"""


def check(folder: Path, *files: str) -> str:
    """What `mypy --strict` says of container files, by names that modules can have."""
    typings = f"{PACKAGE.parent}:{PACKAGE.parent / 'typings'}"
    words = ("--strict", "--explicit-package-bases", "--no-error-summary", "--cache-dir", str(folder / "cache"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *words, *files],
        cwd=folder,
        env={**os.environ, "MYPYPATH": typings},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.stdout + done.stderr


def test_examples_are_typed_and_mistakes_are_seen(tmp_path: Path) -> None:
    names = [path.name.replace(".haco", "") for path in EXAMPLES]
    for path, name in zip(EXAMPLES, names, strict=True):
        shutil.copy(path, tmp_path / name)
    (tmp_path / "wrong.py").write_text(WRONG)
    lines = check(tmp_path, *names, "wrong.py").splitlines()
    places = [line.partition(" error:")[0] for line in lines if " error:" in line]
    assert places == [f"wrong.py:{number}:" for number in (4, 5, 6, 7, 8, 9, 10, 12)], lines


def test_every_setting_is_declared_with_a_text() -> None:
    for kind in KINDS:
        source = (PACKAGE.parent / f"{kind.__module__.replace('.', '/')}.py").read_text().splitlines()
        for name in kind._checks:
            if name in buildchecks.CHECKS and name != "options":
                continue  # of a strategy, which declares it in its own file
            places = [at for at, line in enumerate(source) if line.startswith(f"        {name}: ")]
            assert places, (kind, name)
            assert any(source[at + 1].strip().startswith('"""') for at in places), (kind, name)


def test_every_section_is_known_by_its_word() -> None:
    assert set(SECTIONS) == set(CLASSES)
    from hakoniwa.haco.container import _section

    assert {word: _section(word) for word in SECTIONS} == CLASSES
    assert all(kind.__doc__ for kind in CLASSES.values())
    words = {name for kind in KINDS for name, word in vars(kind).items() if callable(word) and not name.startswith("_")}
    assert {"add_mount_point", "set_limit", "unshare", "run_shell"} <= words
    assert all(getattr(kind, name).__doc__ for kind in KINDS for name in words if hasattr(kind, name))
    assert ContainerBuilder in KINDS


def test_the_types_of_arguments_are_there() -> None:
    for name in hakoniwa.types.__all__:
        assert isinstance(getattr(hakoniwa.types, name), type)
