"""Terminals: the container's own pty, and the user's terminal, restored on every way out."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.conftest import HAKO, Hako

Writer = Callable[..., Path]


class Terminal:
    """A user's terminal with a command on it."""

    def __init__(
        self,
        words: list[str],
        folder: Path,
        streams: tuple[int, ...] = (0, 1, 2),
        program: Sequence[str] = (str(HAKO),),
    ) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(30, 100)
        self.before = termios.tcgetattr(self.slave)
        pipes = {0: subprocess.DEVNULL, 1: subprocess.PIPE, 2: subprocess.PIPE}
        chosen = [self.slave if number in streams else pipes[number] for number in (0, 1, 2)]
        self.process = subprocess.Popen(
            [*program, *words],
            cwd=folder,
            stdin=chosen[0],
            stdout=chosen[1],
            stderr=chosen[2],
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        self.seen = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait_for(self, word: str) -> str:
        """Read until a word has been shown."""
        poll = select.poll()
        poll.register(self.master, select.POLLIN)
        while word.encode() not in self.seen:
            assert poll.poll(20_000), f"{word!r} is not in {self.seen!r}"
            self.seen += os.read(self.master, 65536)
        before, _, self.seen = self.seen.partition(word.encode())
        return before.decode()

    def end(self) -> int:
        """Wait for the command; the exit status."""
        status = self.process.wait(20)
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
        return status

    def restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(hako: Hako) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_one(*words: str | Path, streams: tuple[int, ...] = (0, 1, 2)) -> Terminal:
        opened.append(Terminal([str(word) for word in words], hako.folder, streams))
        return opened[-1]

    yield open_one
    for one in opened:
        one.process.kill()
        one.end()
        one.close()


Opener = Callable[..., Terminal]


@pytest.fixture(params=["start", "attach", "start in a user namespace", "attach in a user namespace"])
def shell(request: pytest.FixtureRequest, hako: Hako, box: Writer, terminal: Opener) -> Iterator[Terminal]:
    """A shell on a terminal, by `hako start` and by `hako attach`."""
    command, _, inner = request.param.partition(" ")
    path = box('config.namespace.unshare("user")' if inner else "")
    if command == "attach":
        hako("start", "-D", path, "--", "sleep", "1000")
    yield terminal(command, path, "--", "sh", "-i")
    hako("kill", path)


def test_the_terminal_is_the_containers_own(shell: Terminal) -> None:
    shell.wait_for("# ")
    shell.type("tty; stty size; echo $TERM; ls -l /proc/$$/fd/0; echo done\n")
    found = shell.wait_for("\r\ndone\r\n")
    assert "/dev/pts/0" in found
    assert "30 100" in found
    assert "xterm-256color" in found
    assert not shell.restored()
    shell.type("exit 7\n")
    assert shell.end() == 7
    assert shell.restored()


def test_a_new_size_arrives(shell: Terminal) -> None:
    shell.wait_for("# ")
    shell.type("""sh -c "trap 'stty size; exit 4' WINCH; echo s''et; while :; do sleep 0.1; done"; exit $?\n""")
    shell.wait_for("set\r\n")
    shell.resize(41, 99)
    shell.process.send_signal(signal.SIGWINCH)
    shell.wait_for("41 99")
    assert shell.end() == 4


def test_control_c_is_for_the_program_inside(shell: Terminal) -> None:
    shell.wait_for("# ")
    shell.type("sh -c 'echo u''p; cat'\n")
    shell.wait_for("up\r\n")
    shell.type("\x03")
    shell.wait_for("# ")
    shell.type("exit 3\n")
    assert shell.end() == 3


def test_output_at_the_end_is_not_lost(hako: Hako, box: Writer, terminal: Opener) -> None:
    one = terminal("start", box(), "--", "sh", "-c", "seq 1 20000; echo THE END")
    assert one.wait_for("THE END").count("\n") == 20000
    assert one.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_terminal_is_restored_when_the_front_is_killed(shell: Terminal, number: signal.Signals) -> None:
    shell.wait_for("# ")
    assert not shell.restored()
    os.kill(shell.process.pid, number)
    shell.end()
    wait_until(shell.restored)


def wait_until(done: Callable[[], bool]) -> None:
    """For what no event tells: the settings of a terminal, that another process restores."""
    import time

    end = time.monotonic() + 10
    while not done():
        assert time.monotonic() < end
        select.select([], [], [], 0.01)


def test_the_terminal_is_restored_when_the_supervisor_is_killed(hako: Hako, box: Writer, terminal: Opener) -> None:
    import json

    one = terminal("start", box(), "--", "sh", "-i")
    one.wait_for("# ")
    (known,) = json.loads(hako("ps", "--json").stdout)["containers"]
    os.kill(known["supervisor_pid"], signal.SIGKILL)
    one.wait_for("the supervisor of container 'box' was killed, and the container with it")
    assert one.end() == 125
    assert one.restored()


def test_streams_that_are_no_terminal_pass_through(hako: Hako, box: Writer, terminal: Opener) -> None:
    script = "for n in 0 1 2; do [ -t $n ] && echo $n >&2; done; echo out"
    one = terminal("start", box(), "--", "sh", "-c", script, streams=(0, 2))
    assert one.process.stdout is not None
    assert one.process.stdout.read() == b"out\n"
    assert one.wait_for("2\r\n") == "0\r\n"
    assert one.end() == 0
    assert one.restored()


def test_output_to_a_terminal_without_input_from_it(hako: Hako, box: Writer, terminal: Opener) -> None:
    one = terminal("start", box(), "--", "sh", "-c", "[ -t 1 ] && cat && echo shown", streams=(1,))
    assert one.wait_for("\r\n") == "shown"
    assert one.end() == 0


def test_a_terminal_without_a_devpts_inside(hako: Hako, box: Writer, terminal: Opener) -> None:
    one = terminal("start", box(mounts=False), "--", "sh", "-c", "[ -t 0 ] && echo a terminal")
    one.wait_for("a terminal")
    assert one.end() == 0


NOTES = """
@config.add_general_hook("before_start_wait")
def say(base):
    base.log("logged\\nby a hook")
    print("printed by a hook")
@config.add_async_hook()
def beside(base):
    print("printed beside")
    base.kill("KILL")
@config.add_general_hook("teardown_container")
def last(base):
    print("printed at the end")
"""


@pytest.mark.parametrize("streams", [(0, 1, 2), (0, 2), (1, 2)])
def test_what_hooks_say_begins_at_the_left(box: Writer, terminal: Opener, streams: tuple[int, ...]) -> None:
    one = terminal("start", box(NOTES), "--", "sleep", "1000", streams=streams)
    one.process.wait(20)
    one.seen += os.read(one.master, 65536)
    output = one.process.stdout.read() if one.process.stdout else b""
    lines = one.seen.split(b"\r\n")
    assert b"\n" not in b"".join(lines)
    said = [b"hako: box: logged", b"hako: box: by a hook"]
    printed = [b"printed by a hook", b"printed beside", b"printed at the end"]
    assert [line for line in lines if line in said] == said
    assert [line for line in (output.split(b"\n") if 1 not in streams else lines) if line in printed] == printed
    assert one.restored()


def test_the_terminal_is_restored_when_the_front_is_killed_and_hooks_have_said_something(
    box: Writer, terminal: Opener, hako: Hako
) -> None:
    one = terminal("start", box(NOTES.partition("@config.add_async")[0]), "--", "sh", "-i", streams=(1, 2))
    one.wait_for("printed by a hook")
    one.process.kill()
    one.end()
    hako("kill", "-n", "box")
    assert one.restored()
