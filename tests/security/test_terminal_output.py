"""What comes from inside, or from files, does nothing to the terminal of who looks at it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import HAKO, Hako

Writer = Callable[..., Path]
EVIL = "\x1b]0;t\x07\x1b[2Jx\x9b2J\u202ey\x1b[8mz\x07"
ACTING = (b"\x1b]", b"\x1b[2J", b"\x07", b"\x9b", "\x9b".encode(), "\u202e".encode(), b"\x1b[8m")


def on_a_terminal(folder: Path, *words: str | Path) -> bytes:
    """What a command writes to a terminal."""
    master, slave = pty.openpty()
    with subprocess.Popen([HAKO, *map(str, words)], stdin=slave, stdout=slave, stderr=slave, cwd=folder) as command:
        os.close(slave)
        output = b""
        while True:
            try:
                more = os.read(master, 65536)
            except OSError:  # EIO: nobody has the other end open
                break
            if not more:
                break
            output += more
        os.close(master)
        command.wait(60)
    return output


def acts(output: bytes) -> list[bytes]:
    return [word for word in ACTING if word in output.replace(b"\x1b[?25", b"")]


def printing(places: Path) -> list[str]:
    """A command that prints it, raw C1 included."""
    return ["sh", "-c", "printf '%s\\233%s\\n' \"$0\" true$(printf '\\r')lie", EVIL]


def test_the_log(hako: Hako, box: Writer, places: Path) -> None:
    path = box()
    hako("start", "-D", path, "--", *printing(places))
    with hako.background("logs", "-f", path) as follower:
        raw, _ = follower.communicate(timeout=60)
    assert len(acts(raw)) == len(ACTING)  # without the defence: as it is, where it goes to a file
    shown = on_a_terminal(places, "logs", path)
    assert acts(shown) == []
    assert b"\\x1b]0;t\\x07" in shown
    assert b"true\r\nlie\r\n" in shown


def test_a_barn_of_several_in_the_foreground(write_file: Writer, rootfs: Path, places: Path) -> None:
    body = "".join(
        f'with config.define() as c:\n    c.name = "{name}"\n    c.chroot_to({str(rootfs)!r})\n'
        f"    c.init_command = {printing(places)!r}\n"
        for name in ("one", "two")
    )
    shown = on_a_terminal(places, "start", write_file(body))
    assert acts(shown) == []
    for name in (b"one", b"two"):
        assert name + b" | \\x1b]0;t\\x07" in shown
        assert name + b" | lie" in shown


def test_what_is_told_of_files_and_definitions(hako: Hako, box: Writer, places: Path) -> None:
    path = box(f"config.init_command = ['/bin/true', {EVIL!r}]\nconfig.metadata['note'] = {EVIL!r}")
    for words in (("start", "--dry-run", path), ("start", path), ("ps", "--all"), ("status", path), ("inspect", path)):
        assert acts(on_a_terminal(places, *words)) == [], words
    missing = places / f"{EVIL.replace('/', '')}.haco.py"
    assert acts(on_a_terminal(places, "check", missing)) == []


@pytest.mark.parametrize("command", ["ls", "prune"])
def test_the_cache(hako: Hako, places: Path, command: str) -> None:
    layer = places / "lib" / ".layers" / ("a" * 32)
    (layer / "tree").mkdir(parents=True)
    for folder in (places / "lib", layer.parent, layer):
        folder.chmod(0o700)
    (layer / "layer.json").write_text(json.dumps({"what": EVIL, "kind": "step", "schema": 1}))
    shown = on_a_terminal(places, "cache", command)
    assert acts(shown) == []
    assert b"a" * 12 in shown


def test_the_output_of_a_build(write_file: Writer, places: Path) -> None:
    code = f"printf '%s\\n' {EVIL!r}; mkdir $ROOTFS/bin; false"
    path = write_file(f'config.bootstrap.strategy = "shell"\nconfig.bootstrap.code = {code!r}')
    shown = on_a_terminal(places, "create", path)
    assert acts(shown) == []
    assert b"exit status 1" in shown
