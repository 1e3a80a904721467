"""Hooks beside the container: on clocks and on signals, whatever they do."""

from __future__ import annotations

import json
import os
import select
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.kernel.cgroup import find_hierarchies
from tests.conftest import Hako

Writer = Callable[..., Path]

# A hook tells by a line through a FIFO, which a test can wait on.
HEAD = "import os, sys, time, threading\ndef tell(word):\n    with open(FIFO, 'a') as fifo: fifo.write(word + '\\n')\n"
SLEEP = ("--", "sleep", "1000")


class Ears:
    """The reading end of that FIFO."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.head = f"FIFO = {str(path)!r}\n{HEAD}"
        self._file = os.open(path, os.O_RDWR)
        self._heard = b""

    def hear(self, count: int = 1) -> list[str]:
        """The next lines. Waits for each, but not for ever."""
        poll = select.poll()
        poll.register(self._file, select.POLLIN)
        while self._heard.count(b"\n") < count:
            assert poll.poll(20_000), f"heard {self._heard!r} and nothing more"
            self._heard += os.read(self._file, 4096)
        *lines, self._heard = self._heard.split(b"\n", count)
        return [line.decode() for line in lines]

    def close(self) -> None:
        os.close(self._file)


@pytest.fixture
def ears(places: Path) -> Ears:
    return Ears(places / "fifo")


@pytest.fixture
def run(hako: Hako, box: Writer, ears: Ears) -> Callable[[str], int]:
    """Start a container with these hooks; the pid of its supervisor."""

    def start(body: str) -> int:
        hako("start", "-D", box(body, head=ears.head), *SLEEP)
        (known,) = json.loads(hako("ps", "--json").stdout)["containers"]
        pid: int = known["supervisor_pid"]
        return pid

    return start


Run = Callable[[str], int]


@pytest.fixture(autouse=True)
def ended(hako: Hako, ears: Ears, no_leaks: None) -> object:
    """End the container before the look-out for leaks."""
    yield
    ears.close()
    hako("kill", "-n", "box", status=None)  # one test starts none


def log(hako: Hako) -> str:
    return hako("logs", "-n", "box").stdout


def test_async_hooks_once_and_at_intervals(run: Run, ears: Ears) -> None:
    run(
        """
count = 0
@config.add_async_hook(msec=1)
def once(base): tell("once " + base.name)
@config.after_spawn(msec=50, interval_msec=10, limit_count=3)
def thrice(base):
    global count
    count += 1
    tell(f"thrice {count}")
@config.add_async_hook(sec=0.2)
def end(base): tell("end")
"""
    )
    assert ears.hear(5) == ["once box", "thrice 1", "thrice 2", "thrice 3", "end"]


def test_async_def(run: Run, ears: Ears) -> None:
    body = "@config.add_async_hook()\nasync def f(base):\n    import asyncio\n    await asyncio.sleep(0)\n    tell('async')"
    run(body)
    assert ears.hear() == ["async"]


def test_a_timer_goes_on_after_the_supervisor_was_stopped(run: Run, ears: Ears) -> None:
    supervisor = run("@config.add_timer_hook(every=0.02)\ndef f(base): tell('tick')")
    ears.hear(3)
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(supervisor, signal.SIGCONT)
    assert ears.hear(3) == ["tick"] * 3


def test_signal_handlers(run: Run, ears: Ears) -> None:
    supervisor = run(
        """
@config.add_signal_handler("USR1")
def one(base): tell("one")
@config.add_handler(["SIGUSR2", "ttin"])
def two(base, sig): tell("two " + sig)
"""
    )
    for number, word in ((signal.SIGUSR1, "one"), (signal.SIGUSR2, "two USR2"), (signal.SIGTTIN, "two TTIN")):
        os.kill(supervisor, number)
        assert ears.hear() == [word]
    os.kill(supervisor, signal.SIGTTOU)  # has no handler, and harms nothing
    os.kill(supervisor, signal.SIGUSR1)
    assert ears.hear() == ["one"]


GATE = """
def wait(name):
    with open(os.path.join(os.path.dirname(FIFO), name)) as gate: gate.read()
"""


def test_signals_that_come_while_their_handler_is_busy_are_kept(
    hako: Hako, box: Writer, ears: Ears, places: Path
) -> None:
    os.mkfifo(places / "gate")
    body = """
@config.add_signal_handler(["USR1", "USR2"])
def slow(base, sig):
    tell(sig)
    wait("gate")
"""
    hako("start", "-D", box(body, head=ears.head + GATE), *SLEEP)
    (known,) = json.loads(hako("ps", "--json").stdout)["containers"]
    os.kill(known["supervisor_pid"], signal.SIGUSR1)
    assert ears.hear() == ["USR1"]
    for number in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR2):
        os.kill(known["supervisor_pid"], number)
        while len(pending(known["supervisor_pid"])) > 0:
            pass  # it is noted when it is not pending any more
    for word in ("USR2", "USR1"):
        (places / "gate").write_text("")
        assert ears.hear() == [word]
    (places / "gate").write_text("")
    os.kill(known["supervisor_pid"], signal.SIGUSR1)
    assert ears.hear() == ["USR1"]  # and no more than one was kept of each
    (places / "gate").write_text("")
    assert "was busy" not in log(hako)


def pending(pid: int) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return "".join(line.split()[1].strip("0") for line in lines if line.startswith(("SigPnd", "ShdPnd")))


def put(places: Path, name: str) -> None:
    """Have a file appear by one event: making it and writing to it are two."""
    (places / "aside").write_text("")
    (places / "aside").rename(places / "src" / name)


def test_files_that_change_while_their_hook_is_busy_are_told_after_it(
    hako: Hako, box: Writer, ears: Ears, places: Path
) -> None:
    (places / "src").mkdir()
    os.mkfifo(places / "gate")
    body = """
@config.add_watch_hook("src/*", debounce_msec=20)
def slow(base, paths):
    tell(" ".join(map(os.path.basename, paths)))
    wait("gate")
@config.add_watch_hook("src/*", debounce_msec=20)
def quick(base, paths): tell("quick")
"""
    hako("start", "-D", box(body, head=ears.head + GATE), *SLEEP)
    put(places, "a")
    assert sorted(ears.hear(2)) == ["a", "quick"]
    for name in ("b", "a"):
        put(places, name)
        assert ears.hear() == ["quick"]
    (places / "gate").write_text("")
    assert ears.hear() == ["a b"]
    (places / "gate").write_text("")


def test_a_slow_hook_delays_nobody_and_never_overlaps_itself(run: Run, ears: Ears, hako: Hako) -> None:
    supervisor = run(
        """
@config.add_timer_hook(every=0.01)
def slow(base):
    tell("slow begins")
    time.sleep(1.5)
    tell("slow ends")
@config.add_signal_handler("USR1")
def quick(base): tell("quick")
"""
    )
    assert ears.hear() == ["slow begins"]
    os.kill(supervisor, signal.SIGUSR1)
    assert ears.hear(3) == ["quick", "slow ends", "slow begins"]
    assert "timer hook: was busy, and has missed " in log(hako)


@pytest.mark.parametrize(
    "line",
    [
        "1 / 0",
        "sys.exit(3)",
        "print('x' * 1_000_000)",
        "threading.Thread(target=time.sleep, args=(1000,)).start()",
        "time.sleep(1000)",
        "while True: pass",
        "os.fork()",
    ],
)
def test_a_hook_that_misbehaves_harms_nobody(run: Run, ears: Ears, hako: Hako, line: str) -> None:
    supervisor = run(
        f"""
@config.add_async_hook()
def bad(base):
    tell("bad")
    {line}
@config.add_signal_handler("USR1")
def good(base): tell("good")
"""
    )
    assert ears.hear() == ["bad"]
    os.kill(supervisor, signal.SIGUSR1)
    assert ears.hear() == ["good"]
    hako("kill", "-n", "box")
    if line in ("1 / 0", "sys.exit(3)"):
        assert "box.haco.py:12: async hook: " in log(hako)
        assert "in bad" in log(hako)


@pytest.mark.parametrize("address", ["127.0.0.1", "[::]"])
def test_readiness_by_a_port(hako: Hako, box: Writer, ears: Ears, address: str) -> None:
    if address == "[::]" and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this kernel has no IPv6")
    body = f"""
config.namespace.unshare("net")
config.init_command = ["/bin/sh", "-c", "sleep 0.3; exec httpd -f -p {address}:80"]
@config.add_readiness_hook(port=80, interval_msec=20)
def ready(base, ok):
    tell(str(ok))
    return ok
"""
    hako("start", "-D", "--wait", box(body, head=ears.head))
    first = ears.hear()[0]
    assert first == "False"
    while ears.hear() == ["False"]:
        pass


def test_readiness_that_does_not_come_stops_the_container(hako: Hako, box: Writer) -> None:
    body = "@config.add_readiness_hook(timeout=0.2, interval_msec=10)\ndef ready(base, ok): return False"
    path = box(body)
    done = hako("start", "-D", "--wait", path, *SLEEP, status=125)
    assert "box.haco.py:7: the container was not ready after 0.2 s" in done.stderr
    assert done.stdout == ""
    assert json.loads(hako("ps", "--json").stdout)["containers"] == []
    hako("start", "-D", path, *SLEEP)  # without --wait it goes on


def test_a_container_that_ends_before_it_is_ready(hako: Hako, box: Writer) -> None:
    path = box("@config.add_readiness_hook()\ndef ready(base, ok): return False")
    done = hako("start", "-D", "--wait", path, "--", "sh", "-c", "exit 3", status=125)
    assert "container 'box' has ended, with status 3, before it was ready" in done.stderr


def test_wait_is_about_the_background(hako: Hako, box: Writer) -> None:
    assert "--wait is about containers in the background" in hako("start", "--wait", box(), *SLEEP, status=2).stderr


def test_base_run_runs_inside(run: Run, ears: Ears) -> None:
    run(
        """
@config.add_async_hook()
def f(base):
    done = base.run(["sh", "-c", "hostname; echo $$ >&2; exit 3"])
    tell(repr((done.returncode, done.stdout, int(done.stderr) > 1)))
    try:
        base.run(["sleep", "1000"], timeout=0.3)
    except Exception as error:
        tell(type(error).__name__)
    tell(base.run(["ps"]).stdout.count("sleep 1000").__repr__())
"""
    )
    assert ears.hear(3) == ["(3, 'box\\n', True)", "TimeoutExpired", "1"]


def test_cron(run: Run, ears: Ears) -> None:
    """Seconds are not in a cron expression: here the next full minute is made to come soon."""
    head = "from hakoniwa.run.hooks import background as w\n"
    run(
        f"{head}w._next_cron = lambda expression: time.monotonic() + 0.01\n"
        '@config.add_timer_hook(cron="* * * * *")\ndef f(base): tell("cron")'
    )
    assert ears.hear(2) == ["cron", "cron"]


def test_watch_hooks(run: Run, ears: Ears, places: Path) -> None:
    (places / "src").mkdir()
    (places / "src" / "old.py").write_text("")
    run(
        """
@config.add_watch_hook("src/**/*.py", debounce_msec=50)
def f(base, paths): tell(" ".join(os.path.relpath(path, os.path.dirname(__file__)) for path in paths))
@config.add_watch_hook("later/deep/file", debounce_msec=0)
def g(base, paths): tell("later")
"""
    )
    (places / "src" / "a.py").write_text("x")
    (places / "src" / "b.py").write_text("x")
    (places / "src" / "c.txt").write_text("x")
    assert ears.hear() == ["src/a.py src/b.py"]
    (places / "src" / "old.py").write_text("y")
    assert ears.hear() == ["src/old.py"]
    (places / "src" / "a.py").rename(places / "src" / "moved.py")
    assert ears.hear() == ["src/a.py src/moved.py"]
    (places / "src" / "b.py").unlink()
    assert ears.hear() == ["src/b.py"]
    (places / "src" / "new").mkdir()
    (places / "src" / "new" / "d.py").write_text("x")
    assert ears.hear() == ["src/new/d.py"]
    (places / "later" / "deep").mkdir(parents=True)
    (places / "later" / "deep" / "file").write_text("x")
    assert ears.hear() == ["later"]


WATCH = """
@config.add_watch_hook("src/**", debounce_msec=50)
def f(base, paths): tell(" ".join(os.path.relpath(path, os.path.dirname(__file__)) for path in paths))
"""


def stop(pid: int) -> None:
    """Stop a process that is no child of ours, and wait until each of its threads has."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    while any((task / "stat").read_text().rpartition(")")[2].split()[0] != "T" for task in tasks.iterdir()):
        os.sched_yield()


def test_changes_that_never_stop_are_told_all_the_same(run: Run, ears: Ears, places: Path) -> None:
    (places / "src").mkdir()
    run(WATCH)
    over = threading.Event()

    def write() -> None:
        while not over.wait(0.005):
            (places / "src" / "file").write_text("x")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert ears.hear(2) == ["src/file"] * 2
    finally:
        over.set()
        writer.join()


def test_many_paths_are_told_as_the_folder_that_they_lie_below(run: Run, ears: Ears, places: Path) -> None:
    (places / "src" / "many").mkdir(parents=True)
    supervisor = run(WATCH)
    stop(supervisor)
    for number in range(1500):
        (places / "src" / "many" / str(number)).touch()
    os.kill(supervisor, signal.SIGCONT)
    assert ears.hear() == ["src/many"]


def test_changes_that_the_kernel_could_not_keep_are_told_as_the_folder_that_is_watched(
    run: Run, ears: Ears, places: Path
) -> None:
    (places / "src").mkdir()
    supervisor = run(WATCH)
    stop(supervisor)
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(most // 2 + 1):  # two events each
        (places / "src" / f"{number % 50}").touch()
        (places / "src" / f"{number % 50}").unlink()
    (places / "src" / "new").mkdir()  # nobody hears of it
    os.kill(supervisor, signal.SIGCONT)
    while "src" not in (told := ears.hear()[0]).split():
        assert all(word.startswith("src/") for word in told.split())
    (places / "src" / "new" / "file").touch()
    while "src/new/file" not in ears.hear()[0].split():
        (places / "src" / "new" / "file").touch()  # the folder is told once more when all is watched again


def test_a_watched_folder_that_goes_and_comes_back(run: Run, ears: Ears, places: Path) -> None:
    (places / "src").mkdir()
    run(WATCH)
    (places / "src").rmdir()
    assert ears.hear() == ["src"]
    (places / "src").mkdir()
    (places / "src" / "file").touch()
    while "src/file" not in ears.hear()[0].split():
        pass


HAS_MEMORY = "memory" in find_hierarchies().v1 or "memory" in find_hierarchies().v2_controllers
with_memory = pytest.mark.skipif(not HAS_MEMORY, reason="this kernel has no memory controller")


@with_memory
def test_oom(hako: Hako, box: Writer, ears: Ears) -> None:
    body = 'config.limit(memory="24M")\n@config.add_cgroup_hook(type="oom")\ndef f(base): tell("oom")'
    hako(
        "start",
        "-D",
        box(body, head=ears.head),
        "--",
        "sh",
        "-c",
        "sleep 0.2; head -c 100000000 /dev/zero | tail; sleep 1000",
    )
    assert ears.hear() == ["oom"]


@with_memory
def test_memory_pressure(hako: Hako, box: Writer, ears: Ears) -> None:
    body = 'config.limit(memory="24M")\n@config.add_cgroup_hook(type="memory_pressure")\ndef f(base): tell("pressure")'
    fill = "while :; do cat /tmp/big > /dev/null; done"
    script = f"sleep 0.2; head -c 60000000 /dev/zero > /tmp/big; {fill}"
    hako("start", "-D", box(body, head=ears.head), "--", "sh", "-c", script)
    assert ears.hear() == ["pressure"]


@with_memory
def test_a_cgroup_hook_needs_no_limit(run: Run, hako: Hako) -> None:
    run('@config.add_cgroup_hook(type="oom")\ndef f(base): pass')
    assert "hakoniwa-box" in hako("attach", "-n", "box", "--", "cat", "/proc/self/cgroup").stdout
