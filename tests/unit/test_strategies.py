"""What a strategy says of itself is all that the rest goes by: a new one is a new file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import hakoniwa
from hakoniwa.haco.loader import load
from hakoniwa.rootfs.build.strategy import own_strategy
from hakoniwa.spec.rules.buildchecks import KINDS
from hakoniwa.spec.strategies import SETTINGS

PROJECT = Path(hakoniwa.__file__).parent.parent

NEW = '''
"""`empty`: a folder with a file that names it."""

from pathlib import Path

SETTINGS = {"label": "argument", "colour": ("red", "green")}
HELP = {"label": "what it is called", "colour": "how it looks"}
EXAMPLE = """\\
b.strategy = "empty"
b.label = "mine"
"""


def fill(boot, bootstrap):
    Path(boot.rootfs, "label").write_text(bootstrap.settings["label"])
'''


def test_what_is_known_of_the_strategies_is_what_they_say() -> None:
    files = sorted((PROJECT / "hakoniwa" / "rootfs" / "strategies").glob("[!_]*.py"))
    assert [path.stem for path in files] == list(SETTINGS), "run `make install`"
    for name, settings in SETTINGS.items():
        assert settings == own_strategy(name).SETTINGS, "run `make install`"
        assert all(kind in KINDS for kind in settings.values() if isinstance(kind, str))


@pytest.mark.parametrize("name", SETTINGS)
def test_the_guide_tells_what_a_strategy_takes(name: str) -> None:
    (row,) = [
        line for line in (PROJECT / "docs" / "guide.md").read_text().splitlines() if line.startswith(f"| `{name}` |")
    ]
    assert [setting for setting in SETTINGS[name] if f"`{setting}" not in row] == []


def test_a_start_knows_what_a_strategy_takes_without_loading_it(write_file: Callable[..., Path]) -> None:
    path = write_file('b = config.bootstrap\nb.strategy = "git"\nb.git_url = "x"\nb.git_ref = "main"')
    code = (
        f"import sys; sys.path[:0] = {[entry for entry in sys.path if entry]!r}\n"
        f"from hakoniwa.haco.loader import load; load({str(path)!r}, 'start')\n"
        "print(*(name for name in sys.modules if name.startswith('hakoniwa.rootfs')))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


@pytest.fixture
def copied(places: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`hako` of a copy of the project, in which one file is new."""
    for folder in ("hakoniwa", "tools"):
        shutil.copytree(PROJECT / folder, places / "copy" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    copy = places / "copy"
    (copy / "hakoniwa" / "rootfs" / "strategies" / "empty.py").write_text(NEW)
    subprocess.run([sys.executable, "-I", str(copy / "tools" / "write_strategies.py")], check=True)  # `make install`
    assert "colour: Literal" in (copy / "hakoniwa" / "haco" / "sections" / "strategysettings.py").read_text()
    # `-I` keeps the folder of the test out, and the checkout comes in by way of its packages: ours goes before.
    code = f"import sys; sys.path.insert(0, {str(copy)!r}); from hakoniwa.cli import main; main()"

    def hako(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-I", "-c", code, *words]
        return subprocess.run(argv, capture_output=True, text=True, cwd=places, env={**os.environ}, check=False)

    return hako


def test_a_new_strategy_is_one_file(copied: Callable[..., subprocess.CompletedProcess[str]], places: Path) -> None:
    assert "empty" in copied("new", "--help").stdout
    done = copied("new", "box", "--strategy", "empty")
    assert done.returncode == 0, done.stderr
    file = places / "box.haco.py"
    assert 'b.label = "mine"' in file.read_text()
    assert copied("check", str(file)).returncode == 0
    text = file.read_text()
    file.write_text(text.replace('b.label = "mine"', 'b.colour = "blue"'))
    told = copied("check", str(file)).stderr
    assert "strategy 'empty' needs config.bootstrap.label" in told
    assert "config.bootstrap.colour must be" in told
    file.write_text(text.replace('"empty"', '"host"'))
    assert "config.bootstrap.label means nothing to strategy 'host'" in copied("check", str(file)).stderr
    file.write_text(text)
    done = copied("create", str(file))
    assert done.returncode == 0, done.stderr
    (label,) = (places / "lib").glob("*/label")
    assert label.read_text() == "mine"


def test_strategies_that_differ_in_what_a_setting_takes_are_told(places: Path) -> None:
    folder = places / "copy" / "hakoniwa" / "rootfs" / "strategies"
    folder.mkdir(parents=True)
    (folder / "one.py").write_text('SETTINGS = {"label": "argument"}\nHELP = {"label": ""}')
    (folder / "two.py").write_text('SETTINGS = {"label": "name"}\nHELP = {"label": ""}')
    tools = places / "copy" / "tools"
    tools.mkdir()
    shutil.copy(PROJECT / "tools" / "write_strategies.py", tools)
    words = [sys.executable, "-I", str(tools / "write_strategies.py")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "to other strategies label is 'argument', and not 'name'" in done.stderr


def test_what_hako_new_writes_of_a_strategy_can_be_read(write_file: Callable[..., Path]) -> None:
    for name in SETTINGS:
        (container,) = load(str(write_file("b = config.bootstrap\n" + own_strategy(name).EXAMPLE)), "check").containers
        assert container.build.bootstrap.strategy == name
