"""A start or a reload says what the file says otherwise than what there is, and what it takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Hako

Writer = Callable[..., Path]

FILL = 'b = config.bootstrap\nb.strategy = "shell"\nb.code = "cp -a {}/. $ROOTFS{}"\n'
STEPS = 'config.provision.run_shell("echo {} > /one", name="one")\n'
TRUE = ("--", "true")


def told(hako: Hako, path: Path, *words: str) -> str:
    """What a start says of the rootfs, without what is always the same."""
    said = hako("start", *words, path, *TRUE).stderr
    if not said:
        return ""
    head = f"hako: box: the rootfs {hako.folder}/lib/box is as it was created: "
    assert said.startswith(head), said
    assert said.count("\n") == 1
    return said.removeprefix(head).rstrip("\n").replace(str(path), "FILE")


@pytest.mark.parametrize("words", [(), ("-b",)])
def test_a_start_says_what_differs(hako: Hako, write_file: Writer, busybox: Path, words: tuple[str, ...]) -> None:
    fill = FILL.format(busybox, "")
    path = write_file(fill + STEPS.format("x"))
    hako("create", path)
    assert told(hako, path, *words) == ""
    write_file("\n\n# elsewhere\n" + fill + STEPS.format("x") + 'config.environ["A"] = "1"\nconfig.metadata["B"] = 2')
    assert told(hako, path, *words) == "", "this takes effect at the start"
    write_file(fill + STEPS.format("y") + 'config.provision.run_shell("true", name="two")')
    both = "the step 'one' has changed; the step 'two' is new (hako provision FILE, or create --rebuild FILE)"
    assert told(hako, path, *words) == both.replace("rebuild FILE", "rebuild")
    hako("provision", path)
    assert told(hako, path, *words) == ""
    write_file(fill + STEPS.format("y"))
    assert told(hako, path, *words) == "the step 'two' is gone (hako create --rebuild FILE)"
    write_file(FILL.format(busybox, "; echo more > $ROOTFS/more") + STEPS.format("y"))
    assert told(hako, path, *words) == "bootstrap.code has changed; the step 'two' is gone (hako create --rebuild FILE)"
    hako("create", "--rebuild", path)
    assert told(hako, path, *words) == ""
    write_file('config.bootstrap.strategy = "recipe"; config.bootstrap.recipe = "busybox"')
    changed = told(hako, path, *words)
    assert changed.startswith(
        "bootstrap.strategy was 'shell' and is 'recipe'; bootstrap.code has changed; bootstrap.recipe was unset and is 'busybox'; "
    )
    write_file(fill)
    hako("rm", "--rootfs", path)


def test_one_step_that_was_chosen_is_as_it_is_now(hako: Hako, write_file: Writer, busybox: Path) -> None:
    fill = FILL.format(busybox, "")
    path = write_file(fill + STEPS.format("x") + 'config.provision.run_shell("true", name="two")')
    hako("create", path)
    write_file(fill + STEPS.format("y") + 'config.provision.run_shell("echo", name="two")')
    hako("provision", "--run-only", "one", path)
    assert told(hako, path) == "the step 'two' has changed (hako provision FILE, or create --rebuild)"
    hako("rm", "--rootfs", path)


def test_functions_are_compared_by_what_they_do(hako: Hako, write_file: Writer, busybox: Path) -> None:
    function = (
        "import shutil{}\ndef fill(boot):\n    words = 'a' in {{'a', 'b', 'c'}}\n"
        "    shutil.copytree({!r}, boot.rootfs, symlinks=True, dirs_exist_ok=True){}\n"
        "config.bootstrap.strategy = 'python'\nconfig.bootstrap.code = fill"
    )
    path = write_file(function.format("", str(busybox), ""))
    hako("create", path)
    for _ in range(3):  # the order of a set is another one in each process
        assert told(hako, path) == ""
    write_file("# a line more\n" + function.format("", str(busybox), ""))
    assert told(hako, path) == ""
    write_file(function.format("", str(busybox), "; print('more')"))
    assert told(hako, path) == "bootstrap.code has changed (hako create --rebuild FILE)"
    hako("rm", "--rootfs", path)


def test_a_reload_says_what_it_takes(hako: Hako, write_file: Writer, busybox: Path) -> None:
    fill = FILL.format(busybox, "")
    path = write_file(fill + STEPS.format("x"))
    hako("create", path)
    hako("start", "-D", path)
    write_file(
        FILL.format(busybox, "; true") + STEPS.format("y") + 'config.workdir = "/tmp"\nconfig.environ["A"] = "1"'
    )
    assert hako("reload", path).stdout.replace(str(path), "FILE").splitlines() == [
        "box: workdir: '/' → '/tmp': needs a restart",
        "box: environ: needs a restart",
        "box: bootstrap.code has changed: needs hako create --rebuild FILE, and a restart",
        "box: the step 'one' has changed: needs hako create --rebuild FILE, and a restart",
    ]
    hako("kill", path)
    hako("rm", "--rootfs", path)


def test_a_mark_of_an_earlier_version_tells_nothing(hako: Hako, write_file: Writer, busybox: Path) -> None:
    path = write_file(FILL.format(busybox, ""))
    hako("create", path)
    (mark,) = (hako.folder / "lib" / ".boxes").glob("*.json")
    found = json.loads(mark.read_text())
    del found["said"]
    mark.write_text(json.dumps(found))
    write_file(FILL.format(busybox, "; true"))
    assert told(hako, path) == ""
    mark.write_text(json.dumps({**found, "said": 7}))
    assert "said: must be an outline" in hako("start", path, *TRUE, status=125).stderr
    hako("rm", "--rootfs", path)
