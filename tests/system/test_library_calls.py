"""Calls of the library from programs that fork, have few threads, ignore SIGCHLD, or pass what no call takes."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import hakoniwa
from hakoniwa import Box, Haconiwa, HakoError
from hakoniwa.haco.container import ContainerBuilder
from tests.conftest import LONGEST


@pytest.fixture
def config(rootfs: Path) -> ContainerBuilder:
    """A definition of a program's own."""
    with Haconiwa.define() as config:
        config.chroot_to(str(rootfs))
        config.rootfs.readonly = True
        config.mount_independent("procfs", "devtmpfs", "shm")
    return config


def run_program(rootfs: Path, body: str, *options: str, **environ: str) -> str:
    """Run a program that has such a definition, `config`, and return what it prints."""
    head = f"""\
import hakoniwa, os, signal, sys
with hakoniwa.Haconiwa.define() as config:
    config.chroot_to({str(rootfs)!r})
    config.mount_independent("procfs")
"""
    done = subprocess.run(
        [sys.executable, *options, "-c", head + textwrap.dedent(body)],
        capture_output=True,
        text=True,
        timeout=LONGEST,
        cwd=rootfs,  # and not the checkout, which would be imported from
        env={**os.environ, **environ},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_coroutines_do_not_wait_for_threads_of_the_loop(config: ContainerBuilder) -> None:
    async def both(box: hakoniwa.Running) -> bytes:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        reading = asyncio.create_task(box.run_async(["cat", "/dev/shm/fifo"], timeout=LONGEST))
        await asyncio.sleep(0)  # it has begun
        await box.run_async(["sh", "-c", "echo through > /dev/shm/fifo"], timeout=LONGEST)
        return (await reading).stdout

    with Box(config).start(["sleep", "1000"]) as box:
        box.run(["mkfifo", "/dev/shm/fifo"], check=True)
        assert asyncio.run(both(box)) == b"through\n"


def test_a_coroutine_that_is_cancelled_twice_ends_what_it_has_begun(config: ContainerBuilder) -> None:
    async def cancelled(box: hakoniwa.Running) -> None:
        work = asyncio.create_task(box.run_async(["sh", "-c", "echo > /dev/shm/there; exec sleep 999"]))
        while box.run(["test", "-e", "/dev/shm/there"]).returncode:
            await asyncio.sleep(0)
        for _ in range(3):
            work.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await work

    with Box(config).start(["sleep", "1000"]) as box:
        asyncio.run(cancelled(box))
        assert b"sleep 999" not in box.run(["ps"]).stdout


def test_what_a_command_leaves_running_is_not_waited_for(config: ContainerBuilder) -> None:
    with Box(config).start(["sleep", "1000"]) as box:
        done = box.run(["sh", "-c", "sleep 999 & seq 10000"], timeout=LONGEST)
        assert done.stdout.endswith(b"\n10000\n")
        assert b"sleep 999" in box.run(["ps"]).stdout


def test_a_process_that_the_program_forks_ends_nothing(places: Path, rootfs: Path) -> None:
    told = run_program(
        rootfs,
        """
        running = hakoniwa.Box(config).start(["sleep", "1000"])
        pid = os.fork()
        if pid == 0:
            sys.exit(3)
        os.waitpid(pid, 0)
        print(running.status)
        """,
    )
    assert told == "running\n"


def test_a_program_that_ignores_sigchld_learns_how_it_ended(places: Path, rootfs: Path) -> None:
    told = run_program(
        rootfs,
        """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        print(hakoniwa.run(config, ["sh", "-c", "exit 3"]).returncode)
        with hakoniwa.Box(config).start(["sleep", "1000"]) as running:
            print(running.run(["sh", "-c", "exit 4"]).returncode)
        try:
            hakoniwa.run(config, ["nowhere"])
        except hakoniwa.HakoError as error:
            print(error.status)
        """,
    )
    assert told == "3\n4\n127\n"


def test_a_definition_that_is_in_no_file_needs_no_name(places: Path, rootfs: Path) -> None:
    assert run_program(rootfs, "print(hakoniwa.run(config, ['hostname']).stdout.decode()[:4])") == "box-\n"
    assert run_program(rootfs, "print(hakoniwa.Box(config, name='a').run(['hostname']).stdout)") == "b'a\\n'\n"


def test_the_hakoniwa_that_runs_is_the_program_s(places: Path, rootfs: Path) -> None:
    (places / "lib").mkdir()
    (places / "lib" / "hakoniwa").symlink_to(Path(hakoniwa.__file__).parent)
    file = places / "told.py"
    file.write_text(
        "import hakoniwa, os\ndef told(base):\n    with open(os.environ['TOLD'], 'w') as f: f.write(hakoniwa.__file__)\n"
    )
    body = f"""
    sys.path.insert(0, {str(places)!r})
    import told
    with hakoniwa.Haconiwa.define() as other:
        other.name = "other"
        other.chroot_to({str(rootfs)!r})
        other.add_general_hook("before_start_wait", told.told)
    hakoniwa.run(other, ["true"])
    """
    run_program(rootfs, body, PYTHONPATH=str(places / "lib"), TOLD=str(places / "there"))
    assert (places / "there").read_text() == str(places / "lib" / "hakoniwa" / "__init__.py")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"environ": {"A": 1}}, "environ.A: must be str, not 1"),
        ({"argv": ["echo", "a\0b"]}, "without NUL"),
        ({"argv": ["echo", "\ud800"]}, "can be encoded"),
        ({"argv": []}, "begins with a program"),
    ],
)
def test_what_no_call_takes(config: ContainerBuilder, wrong: dict[str, object], told: str) -> None:
    with pytest.raises(HakoError, match=told):
        hakoniwa.run(config, **{"argv": ["true"], **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [math.inf, 1e10])
def test_a_time_that_is_as_good_as_none(config: ContainerBuilder, timeout: float) -> None:
    assert hakoniwa.run(config, ["echo", "a"], timeout=timeout).stdout == b"a\n"
    with Box(config).start(["sleep", "0.1"]) as running:
        assert running.wait(timeout) == 0


def test_a_time_that_is_no_number(config: ContainerBuilder) -> None:
    with pytest.raises(ValueError, match="nan"):
        hakoniwa.run(config, ["true"], timeout=math.nan)


def test_what_is_no_json_is_told(rootfs: Path) -> None:
    spec: dict[str, object] = {"schema": 1}
    spec["containers"] = [spec]
    with pytest.raises(HakoError, match="cannot be passed"):
        Box(spec).check()


def test_boxes_that_are_made_at_once_of_one_definition_have_names_of_their_own(config: ContainerBuilder) -> None:
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            boxes = list(pool.map(lambda _: Box(config), range(200)))
    finally:
        sys.setswitchinterval(switching)
    names = [(box._request.spec or {})["containers"][0]["name"] for box in boxes]
    assert len({*names}) == 200
    assert all(box._request.forget for box in boxes)


def test_a_program_without_standard_streams(places: Path, rootfs: Path) -> None:
    body = f"""
    for number in range(3):
        os.close(number)
    done = hakoniwa.run(config, ["sh", "-c", "cat; echo out; echo err >&2"], input=b"in ")
    with open({str(places / "told")!r}, "wb") as file:
        file.write(done.stdout + done.stderr)
    """
    run_program(rootfs, body)
    assert (places / "told").read_bytes() == b"in out\nerr\n"


def test_a_call_that_no_descriptor_is_left_for_leaves_nothing(
    config: ContainerBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, box = os.pidfd_open, Box(config)

    def pidfd_open(pid: int) -> int:
        if pid == os.getpid():
            return original(pid)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(HakoError, match="Too many open files"):
        box.run(["sleep", "1000"], input=b"")
    assert os.listdir("/proc/self/fd") == before
