"""Standard streams lead to files of the host. A process inside opens them once more, and changes what it has open."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import HAKO, Hako

Writer = Callable[..., Path]
# Each of these changes a file that is open as one of the streams, and the next is tried when it cannot.
SCRIPT = """
for n in 0 1 2; do
    chmod 4777 /proc/self/fd/$n; chown 1000:1000 /proc/self/fd/$n; : > /proc/self/fd/$n; echo evil >> /proc/self/fd/$n
done 2>/dev/null; true
"""
CONTENT = "what the host has put there\n"


def looks(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)


@pytest.fixture
def host_file(places: Path) -> Path:
    """A file of the host that a stream is led to."""
    path = places / "host-file"
    path.write_text(CONTENT)
    path.chmod(0o600)
    return path


@pytest.fixture
def null() -> Iterator[tuple[int, int, int]]:
    """The look of the host's null device, which is put right should an attack work."""
    before = looks(Path("/dev/null"))
    yield before
    os.chmod("/dev/null", before[0])
    os.chown("/dev/null", before[1], before[2])


def hako_with(words: list[str | Path], number: int, file: Path, flags: int) -> subprocess.CompletedProcess[bytes]:
    """Run `hako` with one stream led to a file by the caller, as a shell does it."""
    opened = os.open(file, flags)
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    streams[("stdin", "stdout", "stderr")[number]] = opened
    try:
        return subprocess.run([str(HAKO), *map(str, words)], **streams, timeout=60, check=False, cwd=file.parent)  # type: ignore[call-overload, no-any-return]
    finally:
        os.close(opened)


FLAGS = {0: os.O_RDONLY, 1: os.O_WRONLY | os.O_APPEND, 2: os.O_WRONLY | os.O_APPEND}


def test_the_attack_works_on_a_file_that_is_passed_as_it_is(host_file: Path) -> None:
    """Without the defence: whoever has it open for reading may write to it, and change who it belongs to."""
    with open(host_file) as stream:
        script = "chown 1000:1000 /proc/self/fd/0; echo evil >> /proc/self/fd/0"
        subprocess.run(["sh", "-c", script], stdin=stream, check=True)
    assert "evil" in host_file.read_text()
    assert looks(host_file)[1] == 1000


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("command", ["start", "attach"])
def test_what_the_caller_has_redirected(hako: Hako, box: Writer, host_file: Path, number: int, command: str) -> None:
    path = box()
    before = looks(host_file)
    if command == "attach":
        hako("start", "-D", path, "--", "sleep", "1000")
    done = hako_with([command, path, "--", "sh", "-c", SCRIPT], number, host_file, FLAGS[number])
    assert done.returncode == 0
    assert looks(host_file) == before
    found = host_file.read_text()
    assert found.startswith(CONTENT)
    if number == 0:
        assert found == CONTENT
    hako("kill", path)


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("how", ["foreground", "background"])
def test_what_the_container_file_has_redirected(
    hako: Hako, box: Writer, host_file: Path, places: Path, number: int, how: str
) -> None:
    word = ("stdin", "stdout", "stderr")[number]
    path = box(f"config.command.set_{word}(host_file={str(host_file)!r})")
    before = looks(host_file)
    hako("start", *(["-D", "--wait"] if how == "background" else []), path, "--", "sh", "-c", SCRIPT, status=None)
    hako("kill", path)
    assert looks(host_file) == before
    assert host_file.read_text().startswith(CONTENT)


@pytest.mark.parametrize("command", ["start", "start -D", "attach"])
def test_the_null_device_is_the_container_s_own(
    hako: Hako, box: Writer, rootfs: Path, null: tuple[int, int, int], command: str
) -> None:
    path = box()
    script = (
        "chmod 777 /proc/self/fd/0; chown 7:7 /proc/self/fd/0; stat -c '%a %u %t:%T' -L /proc/self/fd/0 > /tmp/seen"
    )
    if command == "attach":
        hako("start", "-D", path, "--", "sleep", "1000")
    if command == "start -D":
        hako("start", "-D", path, "--", "sh", "-c", script + "; sleep 1000", status=None)
        hako("attach", path, "--", "sh", "-c", "while [ ! -s /tmp/seen ]; do :; done")
    else:
        subprocess.run(
            [str(HAKO), command, str(path), "--", "sh", "-c", script], stdin=subprocess.DEVNULL, check=True, cwd=rootfs
        )
    hako("kill", path)
    assert (rootfs / "tmp" / "seen").read_text() == "777 7 1:3\n"
    assert looks(Path("/dev/null")) == null


def test_the_null_device_of_what_hooks_and_steps_run(
    hako: Hako, write_file: Writer, busybox: Path, places: Path, null: tuple[int, int, int]
) -> None:
    body = f"""
config.bootstrap.strategy = "shell"
config.bootstrap.code = "cp -a {busybox}/. $ROOTFS"
config.provision.run_shell("chmod 777 /proc/self/fd/0; chown 7:7 /proc/self/fd/0; ls -lL /proc/self/fd/0 | grep rwxrwxrwx", name="evil")
config.mount_independent("procfs", "devtmpfs")
@config.add_async_hook()
def evil(base):
    base.log(base.run(["sh", "-c", "chmod 777 /proc/self/fd/0; stat -c %a -L /proc/self/fd/0"]).stdout.strip())
    base.kill("KILL")
"""
    path = write_file(body)
    hako("create", path)
    hako("start", "-D", path, "--", "sleep", "1000")
    told = hako("logs", "-f", path).stdout
    assert "777" in told
    assert looks(Path("/dev/null")) == null


def test_a_folder_is_no_stream(hako: Hako, box: Writer, places: Path) -> None:
    """From a folder that is open, `openat` reaches all of the host."""
    path = box('config.command.set_stdin(host_file="/")')
    told = hako("start", path, "--", "ls", "/proc/self/fd/0/etc", status=125)
    assert "standard input is a folder" in told.stderr
    assert told.stdout == ""
