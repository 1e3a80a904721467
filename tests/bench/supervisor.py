"""What the supervisor reaches: timers, signals, the end of a container."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import time
from pathlib import Path

from tests.bench.limits import Row

PROJECT = Path(__file__).parents[2]
HAKO = str(PROJECT / ".venv" / "bin" / "hako")

HEAD = """
import os, time
from hakoniwa import Haconiwa

TOLD = os.open({told!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

def tell(base):
    os.write(TOLD, repr(time.monotonic()).encode() + b"\\n")

with Haconiwa.define() as config:
    config.name = {name!r}
    config.chroot_to({rootfs!r})
    config.mount_independent("devtmpfs")
"""
POLITE = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]


def report(folder: Path, rootfs: Path) -> list[Row]:
    """The rows of the table."""
    idle, busy = timers(folder, rootfs, busy=0), timers(folder, rootfs, busy=2)
    handler, teardown = signals(folder, rootfs), teardowns(folder, rootfs)
    kill, version = kills(folder, rootfs)
    wakeups = idle_wakeups(folder, rootfs)
    return [
        Row("wake-ups of an idle supervisor in 5 s", wakeups, "{:.0f}", 0),
        Row("100 ms timer, idle: standard deviation", idle, "{:.2f} ms", 0.3),
        Row("the same beside two busy processes", busy, "{:.2f} ms", 2),
        Row("signal to its handler, median", handler, "{:.2f} ms", 2),
        Row("death of the container to `teardown_container`, median", teardown, "{:.2f} ms", 5),
        Row("`hako kill` of a container that ends on TERM, to `hako version`", kill / version, "{:.2f} ×", 1.4),
    ]


def write(folder: Path, rootfs: Path, name: str, body: str) -> tuple[str, Path]:
    """A container file, and the file that its hooks tell times in."""
    told = folder / f"{name}.told"
    path = folder / f"{name}.haco.py"
    path.write_text(HEAD.format(told=str(told), name=name, rootfs=str(rootfs)) + body)
    return str(path), told


def start(path: str, *words: str) -> None:
    """Start in the background."""
    subprocess.run([HAKO, "start", "-D", path, *words], check=True, stdout=subprocess.DEVNULL)


def known(name: str) -> dict[str, int]:
    """The pids of a running container."""
    listed = json.loads(subprocess.run([HAKO, "ps", "--json"], check=True, capture_output=True).stdout)["containers"]
    found: dict[str, int] = next(container for container in listed if container["name"] == name)
    return found


def end(path: str) -> None:
    """Kill and forget."""
    subprocess.run([HAKO, "kill", path], check=True)
    subprocess.run([HAKO, "rm", path], check=True)


def times(told: Path) -> list[float]:
    """What hooks have told."""
    return [float(line) for line in told.read_text().split()]


def timers(folder: Path, rootfs: Path, *, busy: int, seconds: float = 10.0) -> float:
    """The standard deviation of a 100 ms timer from its times, in ms."""
    path, told = write(folder, rootfs, f"bench-timer-{busy}", "    config.add_timer_hook(every=0.1)(tell)\n")
    start(path, "--", "sleep", "1000")
    load = [subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"]) for _ in range(busy)]
    time.sleep(seconds)
    for process in load:
        process.kill()
        process.wait()
    end(path)
    moments = times(told)
    late = [moment - moments[0] - 0.1 * number for number, moment in enumerate(moments)]
    return statistics.pstdev(late) * 1e3


def signals(folder: Path, rootfs: Path, rounds: int = 50) -> float:
    """From kill(2) to the handler, in ms."""
    path, told = write(folder, rootfs, "bench-signal", '    config.add_signal_handler("USR1")(tell)\n')
    start(path, "--", "sleep", "1000")
    supervisor = known("bench-signal")["supervisor_pid"]
    sent = []
    for _ in range(rounds):
        sent.append(time.monotonic())
        os.kill(supervisor, signal.SIGUSR1)
        time.sleep(0.02)
    end(path)
    return statistics.median(later - earlier for earlier, later in zip(sent, times(told), strict=True)) * 1e3


def teardowns(folder: Path, rootfs: Path, rounds: int = 15) -> float:
    """From the death of the first process to the hook, in ms."""
    path, told = write(folder, rootfs, "bench-end", '    config.add_general_hook("teardown_container")(tell)\n')
    died = []
    for _ in range(rounds):
        start(path, "--", "sleep", "1000")
        pid = known("bench-end")["pid"]
        died.append(time.monotonic())
        os.kill(pid, signal.SIGKILL)
        subprocess.run([HAKO, "logs", "-f", path], check=True, stdout=subprocess.DEVNULL)
    end(path)
    return statistics.median(later - earlier for earlier, later in zip(died, times(told), strict=True)) * 1e3


def kills(folder: Path, rootfs: Path, rounds: int = 30) -> tuple[float, float]:
    """`hako kill` and `hako version`, in seconds."""
    path, _ = write(folder, rootfs, "bench-kill", "")
    found: dict[str, list[float]] = {"kill": [], "version": []}
    for _ in range(rounds):
        start(path, "--", *POLITE)
        time.sleep(0.02)
        for word, words in (("kill", ["kill", path]), ("version", ["version"])):
            began = time.perf_counter()
            subprocess.run([HAKO, *words], check=True, stdout=subprocess.DEVNULL)
            found[word].append(time.perf_counter() - began)
    subprocess.run([HAKO, "rm", path], check=True)
    return statistics.median(found["kill"]), statistics.median(found["version"])


def idle_wakeups(folder: Path, rootfs: Path, seconds: float = 5.0) -> int:
    """How often the threads of an idle supervisor with a handler have been switched to."""
    path, _ = write(folder, rootfs, "bench-idle", '    config.add_signal_handler("USR1")(tell)\n')
    start(path, "--", "sleep", "1000")
    supervisor = known("bench-idle")["supervisor_pid"]
    time.sleep(0.2)
    before = switches(supervisor)
    time.sleep(seconds)
    after = switches(supervisor)
    end(path)
    return after - before


def switches(pid: int) -> int:
    """Context switches of all threads of a process. `man 5 proc_pid_status`."""
    lines = [
        line for task in Path(f"/proc/{pid}/task").iterdir() for line in (task / "status").read_text().splitlines()
    ]
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
