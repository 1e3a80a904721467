"""Signals to each process of ours: none is lost, whenever it comes and whatever a caller has handed down."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.kernel.processes.pidfd import takes
from tests.conftest import HAKO, INITS, LONGEST, Hako, wait_for_log
from tests.system.test_rootfs import await_line, remains

Writer = Callable[..., Path]

HARNESS = Path(__file__).with_name("interrupting.py")
TAKER = Path(__file__).with_name("taker.c")
SLEEP = ("--", "sleep", "1000")
POLITE = ("--", "sh", "-c", "trap 'echo ending; exit 5' TERM; echo ready; while :; do sleep 0.1; done")
MASKS = ("--", "grep", "^Sig[PBIC]", "/proc/self/status")  # of signals that are pending, blocked, ignored, caught
APART = 'config.container_pid_file = "box.pid"'  # something to be undone: the supervisor is a process of its own
MOMENTS = 12  # of each process's way to the container's program


def running(hako: Hako) -> list[str]:
    return [known["name"] for known in json.loads(hako("ps", "--json").stdout)["containers"]]


def interrupt(
    hako: Hako, who: str, call: int, number: int, last: str, *words: str | Path
) -> tuple[int, int, subprocess.CompletedProcess[bytes]]:
    """At which call the signal came, the exit status (128 + n after signal n), and the rest."""
    reader, writer = os.pipe()
    os.dup2(writer, 100)
    os.close(writer)
    try:
        argv = [sys.executable, "-I", str(HARNESS), who, str(call), str(number), last, *map(str, words)]
        done = subprocess.run(
            argv, cwd=hako.folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=LONGEST, pass_fds=(100,)
        )
    finally:
        os.close(100)
    told = os.read(reader, 16)
    os.close(reader)
    assert b"Traceback" not in done.stderr
    return int(told or 0), done.returncode if done.returncode >= 0 else 128 - done.returncode, done


def spread(latest: int) -> list[int]:
    """Calls from the first to the latest."""
    return sorted({1 + (latest - 1) * moment // MOMENTS for moment in range(MOMENTS)})


@pytest.mark.parametrize(
    ("who", "last", "body"),
    [
        ("command", "tell_ready", ""),  # it supervises the container by itself
        ("command", "receive", APART),
        ("supervisor", "tell_ready", APART),
        ("daemon", "_exit", ""),
    ],
)
def test_a_signal_at_any_moment_of_a_start_ends_it(hako: Hako, box: Writer, who: str, last: str, body: str) -> None:
    path = box(body)
    daemon = ("-D",) if who == "daemon" else ()
    who = "command" if daemon else who
    latest, _, _ = interrupt(hako, who, 0, signal.SIGTERM, last, "start", *daemon, path, "--", "true")
    assert latest
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        for call in spread(latest):
            _, status, done = interrupt(hako, who, call, number, last, "start", *daemon, path, *SLEEP)
            if daemon and status == 0:
                assert running(hako) == ["box"], (call, done)
                hako("kill", path)
            else:
                assert status in (128 + number, 137, 125), (call, done)
                assert running(hako) == [], (call, done)


def test_a_signal_at_any_moment_of_attach_ends_the_command(hako: Hako, box: Writer) -> None:
    path = box()
    hako("start", "-D", path, *SLEEP)
    words = ("attach", path, "--", "sleep", "999")
    latest, _, _ = interrupt(hako, "command", 0, signal.SIGTERM, "wait_readable", *words)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        for call in spread(latest):
            _, status, done = interrupt(hako, "command", call, number, "wait_readable", *words)
            assert status == 128 + number, (call, done)
    assert "sleep 999" not in hako("attach", path, "--", "ps").stdout
    hako("kill", path)


def test_a_signal_while_a_start_waits_until_the_container_is_ready_ends_it(hako: Hako, box: Writer) -> None:
    path = box("@config.add_readiness_hook()\ndef never(base, ok):\n    print('asked', flush=True)")
    start = hako.background("start", "-D", "--wait", path, *SLEEP)
    while not running(hako):
        pass
    wait_for_log(hako, path, "asked")
    start.send_signal(signal.SIGTERM)
    out, err = start.communicate(timeout=20)
    assert (out, err, start.returncode) == (b"", b"hako: interrupted\n", 143)
    assert running(hako) == []


def handed_down(ignored: tuple[int, ...] = (), blocked: tuple[int, ...] = ()) -> Callable[[], None]:
    """What a caller does to itself before it executes `hako`."""

    def prepare() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)

    return prepare


EVERY = tuple(number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_caller_that_blocks_signals(hako: Hako, box: Writer, number: signal.Signals) -> None:
    front = hako.background("start", box(), *POLITE, preexec_fn=handed_down(blocked=EVERY))
    assert front.stdout is not None
    assert front.stdout.readline() == b"ready\n"
    front.send_signal(number)
    out, _ = front.communicate(timeout=20)
    assert (out, front.returncode) == (b"ending\n", 5)


@pytest.mark.parametrize("command", ["start", "attach"])
def test_the_program_gets_no_mask_and_the_default_actions(hako: Hako, box: Writer, command: str) -> None:
    path = box()
    if command == "attach":
        hako("start", "-D", path, *SLEEP)
    ignored = tuple(number for number in EVERY if number < signal.SIGRTMIN)
    front = hako.background(command, path, *MASKS, preexec_fn=handed_down(ignored=ignored, blocked=EVERY))
    out, _ = front.communicate(timeout=20)
    assert [line.split()[1].strip(b"0") for line in out.splitlines()] == [b""] * 4
    hako("kill", path)


def test_what_the_c_library_of_make_hands_down(hako: Hako, box: Writer) -> None:
    """Its posix_spawn leaves SIGCANCEL ignored, which no function of the library gives back."""
    path = box()
    words = f"{HAKO} start {path} -- grep -E SigIgn /proc/self/status"
    done = subprocess.run(
        ["make", "--no-print-directory", "-f", "-"],
        input=f"all:\n\t@{words}\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["SigIgn:", "0" * 16], done.stderr


def test_nohup_is_kept_up(hako: Hako, box: Writer) -> None:
    front = hako.background("start", box(), *POLITE, preexec_fn=handed_down(ignored=(signal.SIGHUP, signal.SIGTERM)))
    assert front.stdout is not None
    assert front.stdout.readline() == b"ready\n"
    masks = dict(line.split(":\t") for line in Path(f"/proc/{front.pid}/status").read_text().splitlines())
    assert int(masks["SigIgn"], 16) & 1 << signal.SIGHUP - 1
    assert int(masks["SigCgt"], 16) & 1 << signal.SIGTERM - 1
    front.send_signal(signal.SIGTERM)
    out, _ = front.communicate(timeout=20)
    assert (out, front.returncode) == (b"ending\n", 5)


SPOIL = """
import signal
def spoil(it):
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
def tell(it):
    open("told", "w").close()
"""


@pytest.mark.parametrize("point", ["setup", "before_fork", "before_start_wait", "after_fork", "after_chroot"])
def test_a_hook_that_changes_what_is_done_about_signals(hako: Hako, box: Writer, places: Path, point: str) -> None:
    body = f"config.add_general_hook('{point}')(spoil)"
    path = box(body, head=SPOIL)
    assert all(not line.split()[1].strip("0") for line in hako("start", path, *MASKS).stdout.splitlines())
    os.mkfifo(places / "told")
    box(f"{body}\nconfig.add_general_hook('before_start_wait')(tell)", head=SPOIL)
    front = hako.background("start", path, *POLITE)
    (places / "told").read_text()  # the last hook is at work: what the first has changed was put back
    assert front.stdout is not None
    assert front.stdout.readline() == b"ready\n"
    front.send_signal(signal.SIGINT)
    out, _ = front.communicate(timeout=20)
    assert (out, front.returncode) == (b"ending\n", 5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", ["create", "start -b"])
def test_a_build_that_is_asked_to_end_leaves_nothing(
    hako: Hako, write_file: Writer, places: Path, command: str, number: signal.Signals
) -> None:
    strategy = 'config.bootstrap.strategy = "shell"\nconfig.bootstrap.code = "echo started >&2; exec sleep 1000"'
    build = hako.background(*command.split(), write_file(strategy))
    await_line(build, b"bootstrap code: started")
    build.send_signal(number)
    _, err = build.communicate(timeout=20)
    assert (build.returncode, err.splitlines()[-1]) == (128 + number, b"hako: interrupted")
    assert remains(places) == []


def test_a_build_whose_code_swallows_the_end(hako: Hako, write_file: Writer, places: Path) -> None:
    """The code goes on, and the command ends when that is over."""
    head = """
import os
def fill(boot):
    try:
        print("started", flush=True)
        open(FIFO).read()
    except BaseException:
        os.mkdir(boot.rootfs / "bin")
"""
    os.mkfifo(places / "fifo")
    body = 'config.bootstrap.strategy = "python"\nconfig.bootstrap.code = fill'
    build = hako.background("create", write_file(body, head=f"FIFO = {str(places / 'fifo')!r}\n{head}"))
    assert build.stdout is not None
    assert build.stdout.readline() == b"started\n"
    build.send_signal(signal.SIGTERM)
    _, err = build.communicate(timeout=20)
    assert (build.returncode, err.splitlines()[-1]) == (143, b"hako: interrupted")


FIFO = 'config.command.set_stdout(host_file="fifo")'


def test_a_fifo_that_nobody_reads_is_not_waited_for(hako: Hako, box: Writer, places: Path) -> None:
    os.mkfifo(places / "fifo")
    assert "nobody reads that FIFO yet" in hako("start", box(FIFO), "--", "true", status=125).stderr


@pytest.mark.parametrize("command", ["start", "attach"])
def test_output_that_nobody_takes_can_be_given_up(hako: Hako, box: Writer, places: Path, command: str) -> None:
    os.mkfifo(places / "fifo")
    reader = os.open(places / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    fill = ("--", "sh", "-c", "head -c 100000 /dev/zero; echo done >&2")
    if command == "start":
        waiting = hako.background("start", box(FIFO), *fill)
    else:
        path = box()
        hako("start", "-D", path, *SLEEP)
        with open(places / "fifo", "wb") as fifo:
            waiting = hako.background("attach", path, *fill, stdout=fifo)
    assert waiting.stderr is not None
    assert waiting.stderr.readline() == b"done\n"
    while waiting.poll() is None:  # the first may come before the program has ended
        waiting.send_signal(signal.SIGTERM)
        select.select([waiting.stderr], [], [], 0.1)
    waiting.communicate()
    os.close(reader)
    hako("kill", "-n", "box", status=None)


# The first process of a container, and whether it takes TERM


@pytest.fixture(scope="session")
def taker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("taker") / "taker"
    subprocess.run(["gcc", "-static", "-pthread", "-o", program, TAKER], check=True)
    return program


@pytest.fixture
def taking(box: Writer, rootfs: Path, taker: Path) -> Callable[[str], tuple[str | Path, ...]]:
    """What to start for a program that takes TERM in some way."""

    def words(how: str) -> tuple[str | Path, ...]:
        shutil.copy(taker, rootfs / "bin" / "taker")
        return (box(), "--", "/bin/taker", how)

    return words


Taking = Callable[[str], tuple[str | Path, ...]]
HOW = ["sigwait", "signalfd", "thread", "tini"]


@pytest.mark.parametrize("how", HOW)
def test_kill_asks_who_takes_term_without_a_handler(hako: Hako, taking: Taking, how: str) -> None:
    words = taking(how)
    hako("start", "-D", *words)
    wait_for_log(hako, Path(words[0]), "ready")
    await_taking(hako)
    hako("kill", words[0])
    assert hako("logs", words[0]).stdout == "ready\ntaken\n"
    (known,) = json.loads(hako("ps", "-a", "--json").stdout)["containers"]
    assert known["exit"] == {"code": 9, "signal": None}


def await_taking(hako: Hako) -> None:
    (known,) = json.loads(hako("ps", "--json").stdout)["containers"]
    while not takes(known["pid"], signal.SIGTERM):
        pass


@pytest.mark.parametrize("how", HOW)
def test_a_start_that_is_asked_to_end_asks_such_a_program(hako: Hako, taking: Taking, how: str) -> None:
    front = hako.background("start", *taking(how))
    assert front.stdout is not None
    assert front.stdout.readline() == b"ready\n"
    await_taking(hako)
    front.send_signal(signal.SIGTERM)
    out, _ = front.communicate(timeout=20)
    assert (out, front.returncode) == (b"taken\n", 9)


@pytest.mark.parametrize("init", INITS)
def test_under_an_init_the_command_gets_the_signal(hako: Hako, box: Writer, init: str) -> None:
    path = box(f"config.init = {init!r}")
    hako("start", "-D", path, *POLITE)
    wait_for_log(hako, path, "ready")
    hako("kill", path)
    assert hako("logs", path).stdout == "ready\nending\n"


@pytest.mark.parametrize("how", ["chld", "sleep"])
def test_who_does_not_take_term_is_killed_at_once(hako: Hako, taking: Taking, how: str) -> None:
    path, *words = taking(how)
    hako("start", "-D", path, *(words if how == "chld" else SLEEP))
    if how == "chld":
        wait_for_log(hako, Path(path), "ready")
    hako("kill", path, "-T", "1000")  # the test's own limit is shorter
    (known,) = json.loads(hako("ps", "-a", "--json").stdout)["containers"]
    assert known["exit"] == {"code": 137, "signal": 9}


TYPING = """
import fcntl, os, pty, subprocess, sys, termios
master, slave = pty.openpty()

def take_terminal():
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

front = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, preexec_fn=take_terminal)
assert front.stdout.readline() == b"ready\\n"
os.write(master, termios.tcgetattr(slave)[6][termios.VINTR])
print(front.stdout.read().decode(), front.wait(20))
"""


@pytest.mark.parametrize("body", ["", APART], ids=["front", "apart"])
def test_what_is_typed_asks_the_command_alone(hako: Hako, box: Writer, body: str) -> None:
    """Ctrl-C goes to all of a job. The container is none of it: it is asked by TERM, and may take its time."""
    program = "trap 'echo interrupted' INT; trap 'echo ending; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    words = [sys.executable, "-c", TYPING, str(HAKO), "start", str(box(body)), "--", "sh", "-c", program]
    done = subprocess.run(words, cwd=hako.folder, capture_output=True, text=True, timeout=LONGEST)
    assert done.stdout == "ending\n 5\n", done.stderr
