"""What goes wrong: killed processes, full disks, many at once. Nothing is left, and the next run works."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hakoniwa.kernel.filesystem.files import lock_file, wait_readable
from hakoniwa.kernel.processes.pidfd import wait_end
from tests.conftest import HAKO, Hako
from tests.leaks import Snapshot
from tests.system.stepping import children, stopped_at_step

Writer = Callable[..., Path]

HARNESS = Path(__file__).with_name("harness.py")
SLEEP = ("--", "sleep", "1000")
APART = 'config.container_pid_file = "box.pid"'  # something to be undone: the supervisor is a process of its own
# The front process supervises it, too; a kill leaves a cgroup.
ISOLATED = 'config.namespace.unshare("user")\nconfig.cgroup.v2["cgroup.max.depth"] = 5'
STEPS = 30  # at least as many as a plan has; beyond the last the payload runs


def known(hako: Hako, *words: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(hako("ps", "--json", *words).stdout)["containers"]
    return found


def wait_for_end(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert wait_end(pidfd, 10)
    os.close(pidfd)


@pytest.mark.parametrize("body", ["", 'config.namespace.share("pid")'])
def test_the_death_of_the_supervisor_takes_the_container_down(hako: Hako, box: Writer, body: str) -> None:
    path = box(body + '\nconfig.container_pid_file = "box.pid"', mounts="devtmpfs")
    hako("start", "-D", path, "--", "sh", "-c", "sleep 1000 & setsid sleep 1000 & wait")
    (found,) = known(hako)
    os.kill(int(str(found["supervisor_pid"])), signal.SIGKILL)
    wait_for_end(int(str(found["pid"])))
    assert known(hako, "-a")[0]["status"] == "dead"
    done = hako("start", path, "--", "echo", "again")  # at once, and clears what was left
    assert done.stdout == "again\n"
    assert "cleared what a killed supervisor had left: file" in done.stderr
    assert ("cgroup" in done.stderr) == bool(body)
    assert known(hako, "-a")[0]["status"] == "stopped"


def test_kill_clears_what_a_killed_supervisor_has_left(hako: Hako, box: Writer) -> None:
    path = box('config.namespace.share("pid")', mounts="devtmpfs")
    hako("start", "-D", path, "--", "sh", "-c", "setsid sleep 1000 & sleep 1000")
    os.kill(int(str(known(hako)[0]["supervisor_pid"])), signal.SIGKILL)
    assert "cleared what a killed supervisor had left: cgroup" in hako("kill", path).stderr


def test_gc_clears_what_a_killed_supervisor_has_left(hako: Hako, box: Writer) -> None:
    path = box('config.namespace.share("pid")', mounts=False)
    hako("start", "-D", path, *SLEEP)
    (found,) = known(hako)
    os.kill(int(str(found["supervisor_pid"])), signal.SIGKILL)
    assert "box: cgroup /sys/fs/cgroup" in hako("gc").stdout
    assert hako("gc").stdout == "nothing was left\n"
    hako("rm", path)


def test_the_death_of_the_front_ends_the_container(hako: Hako, box: Writer) -> None:
    front = hako.background("start", box(APART), "--", "sh", "-c", "echo ready; exec sleep 1000")
    assert front.stdout is not None
    assert front.stdout.readline() == b"ready\n"
    (found,) = known(hako)
    front.kill()
    front.communicate()
    wait_for_end(int(str(found["supervisor_pid"])))
    assert known(hako) == []


def test_the_death_of_a_front_that_supervises_takes_the_container_down(hako: Hako, box: Writer) -> None:
    path = box()
    front = hako.background("start", path, "--", "sh", "-c", "setsid sleep 1000 & echo ready; trap '' TERM; wait")
    assert front.stdout is not None
    assert front.stdout.readline() == b"ready\n"
    while not known(hako):  # its state is written beside the program
        pass
    (found,) = known(hako)
    assert found["supervisor_pid"] == front.pid
    front.kill()
    front.communicate()
    wait_for_end(int(str(found["pid"])))
    assert known(hako, "-a")[0]["status"] == "dead"
    again = hako("start", path, "--", "echo", "again")
    assert (again.stdout, again.stderr) == ("again\n", "")  # nothing was left to clear


def test_a_stopped_job_is_ended_by_kill(hako: Hako, box: Writer) -> None:
    """Ctrl-Z at a terminal stops the supervisor, too, where that is the command itself."""
    path = box()
    front = hako.background(
        "start", path, "--", "sh", "-c", "trap 'echo ending; exit 5' TERM; echo ready; sleep 1000 & wait"
    )
    assert front.stdout is not None
    assert front.stdout.readline() == b"ready\n"
    while not known(hako):  # its state is written beside the program
        pass
    front.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, front.pid, os.WSTOPPED)
    assert hako("attach", path, "--", "hostname").stdout == "box\n"
    hako("kill", path)
    assert front.communicate(timeout=20) == (b"ending\n", b"")
    assert front.returncode == 5
    assert known(hako, "-a")[0]["status"] == "stopped"


def test_a_dead_supervisor_is_told_in_the_foreground(hako: Hako, box: Writer) -> None:
    front = hako.background("start", box(APART), "--", "sh", "-c", "echo ready; exec sleep 1000")
    assert front.stdout is not None
    front.stdout.readline()
    os.kill(int(str(known(hako)[0]["supervisor_pid"])), signal.SIGKILL)
    _, err = front.communicate(timeout=20)
    assert b"the supervisor of container 'box' was killed, and the container with it" in err
    assert front.returncode == 125


def cgroups() -> list[str]:
    """The groups of the container, and those below it."""
    return [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if "hakoniwa-box" in folder]


def test_the_death_of_an_isolated_front_takes_the_container_down(hako: Hako, box: Writer) -> None:
    path = box(ISOLATED)
    hako("start", path, "--", "true")
    front = hako.background("start", path, "--", "sh", "-c", "setsid sleep 1000 & echo ready; trap '' TERM; wait")
    assert front.stdout is not None
    assert front.stdout.readline() == b"ready\n"
    while not known(hako):  # its state is written beside the program
        pass
    (found,) = known(hako)
    assert found["supervisor_pid"] == front.pid
    (group,) = cgroups()
    front.kill()
    front.communicate()
    wait_for_end(int(str(found["pid"])))
    assert known(hako, "-a")[0]["status"] == "dead"
    assert "was lost" in hako("attach", path, "--", "true", status=125).stderr
    assert Path(group, "cgroup.procs").read_text() == ""  # the kernel has ended them all
    assert f"cleared what a killed supervisor had left: cgroup {group}" in hako("kill", path).stderr
    assert cgroups() == []
    assert hako("start", path, "--", "echo", "again").stdout == "again\n"


# Before the cgroup is noted, noted and not made, made; ids are mapped or not; opened and not sent; sent.
PLACES = ("groups.make_groups", "groups.make", "groups._set", "helper.establish", "helper.provide_all", "helper.close")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("first", [True, False], ids=["unknown", "known"])
def test_a_front_killed_before_a_state_tells_of_what_it_has_made(
    hako: Hako, box: Writer, places: Path, place: str, first: bool
) -> None:
    path = box(ISOLATED)
    if not first:
        hako("start", path, "--", "true")
    words = [sys.executable, "-I", str(HARNESS), "made", place, "start", str(path), "--", "true"]
    front = subprocess.run(words, cwd=places, capture_output=True, timeout=30)
    assert front.returncode == -signal.SIGKILL, front.stderr
    assert len(cgroups()) == (place not in PLACES[:2])
    told = hako("gc").stdout
    assert ("box: cgroup /sys/fs/cgroup" in told) == (place not in PLACES[:2])
    assert cgroups() == []
    assert sorted(os.listdir(places / "run")) == [".rootfs", *([] if first else ["box"])]
    assert len(os.listdir(places / "lib" / ".ids")) == (not first)
    assert hako("gc").stdout == "nothing was left\n"
    assert hako("start", path, "--", "echo", "again").stdout == "again\n"


@pytest.mark.parametrize("body", ["", APART, ISOLATED], ids=["front", "apart", "isolated"])
@pytest.mark.parametrize("step", range(STEPS))
def test_a_supervisor_killed_at_each_step_of_the_plan(
    hako: Hako, box: Writer, places: Path, step: int, body: str
) -> None:
    path = box(f'{body}\nconfig.add_mount_point("tmpfs", to="/tmp", fs="tmpfs")')
    with stopped_at_step(places, path, step) as stopped:
        front = stopped.front
        if stopped.reached:
            (supervisor,) = children(front.pid) if body == APART else [front.pid]
            (init,) = children(supervisor)
            first = os.pidfd_open(init)
            os.kill(supervisor, signal.SIGKILL)
            stopped.go_on()
            assert wait_end(first, 10)
            os.close(first)
        assert front.wait(20) == (0 if not stopped.reached else 125 if body == APART else -signal.SIGKILL)
    assert hako("start", path, "--", "echo", "again").stdout == "again\n"
    assert cgroups() == []


@pytest.mark.parametrize(
    "body", ["", ISOLATED, f'{APART}\nconfig.namespace.share("pid")'], ids=["front", "isolated", "apart"]
)
@pytest.mark.parametrize(
    "method",
    ["_claim", "_clone", "_start", "_await_program", "_run", "_end", "_tell_end"],
)
def test_a_supervisor_killed_in_each_phase(hako: Hako, box: Writer, places: Path, method: str, body: str) -> None:
    path = box(body, mounts=False)
    front = subprocess.run(
        [sys.executable, "-I", str(HARNESS), "supervisor", method, "start", str(path), "--", "true"],
        cwd=places,
        capture_output=True,
        timeout=30,
    )
    assert front.returncode == (125 if APART in body else -signal.SIGKILL)
    assert hako("start", path, "--", "echo", "again").stdout == "again\n"
    assert cgroups() == []


@pytest.mark.parametrize("method", ["_claim", "_clone", "_start", "_await_program", "_run", "_end"])
def test_a_front_killed_in_each_phase_leaves_a_whole_state_or_none(
    hako: Hako, box: Writer, places: Path, method: str
) -> None:
    path = box(APART, mounts=False)
    payload = ["true"] if method == "_end" else ["sleep", "1000"]
    front = subprocess.Popen(
        [sys.executable, "-I", str(HARNESS), "front", method, "start", str(path), "--", *payload],
        cwd=places,
        stderr=subprocess.PIPE,
    )
    front.wait(20)
    front.communicate(timeout=20)  # until the supervisor has ended, which has the other end
    listed = hako("ps", "-a", "--json")
    assert listed.stderr == ""
    assert [one["status"] for one in json.loads(listed.stdout)["containers"]] in (["failed"], ["stopped"], [])
    hako("gc")
    assert hako("start", path, "--", "echo", "again").stdout == "again\n"


def test_ten_starts_at_the_same_moment(hako: Hako, box: Writer) -> None:
    path = box()
    starts = [hako.background("start", "-D", path, *SLEEP) for _ in range(10)]
    ended = [(start.communicate(timeout=30), start.returncode) for start in starts]
    assert sorted(status for _, status in ended) == [0] + [125] * 9
    for (_, err), status in ended:
        assert bool(err) == bool(status)
        assert b"Traceback" not in err
    assert len(known(hako)) == 1
    hako("kill", path)


def test_three_hundred_rounds_leave_nothing(hako: Hako, box: Writer, places: Path) -> None:
    path = box('config.namespace.unshare("net")')
    hako("start", path, "--", "true")
    before, files = Snapshot(places), sorted(map(str, places.rglob("*")))
    for _ in range(300):
        hako("start", "-D", path, *SLEEP)
        hako("kill", path)
    assert not before.leaked()
    assert [name for name in sorted(map(str, places.rglob("*"))) if name not in files] == [
        str(places / "log"),
        str(places / "log" / "box.log"),
    ]


def test_a_caller_that_ignores_sigchld(hako: Hako, box: Writer) -> None:
    script = f"trap '' CHLD; {HAKO} start {box()} -- sh -c 'exit 3'; echo $?"
    done = subprocess.run(["sh", "-c", script], cwd=hako.folder, capture_output=True, text=True, timeout=20)
    assert done.stdout == "3\n"


# Full disks


@pytest.fixture
def full(places: Path) -> Iterator[Callable[[str], Path]]:
    """A folder of hakoniwa on a file system without room."""
    mounted = []

    def fill(name: str) -> Path:
        folder = places / name
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(folder)], check=True)
        mounted.append(folder)
        with open(folder / "filler", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass
        return folder

    yield fill
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("option", [[], ["-D"]])
def test_a_full_disk_under_the_run_directory(
    hako: Hako, box: Writer, full: Callable[[str], Path], option: list[str]
) -> None:
    run = full("run")
    path = box()
    assert "No space left on device" in hako("start", *option, path, *SLEEP, status=125).stderr
    (run / "filler").unlink()
    assert hako("start", path, "--", "echo", "again").stdout == "again\n"


def test_a_full_disk_under_the_library_directory(hako: Hako, write_file: Writer, full: Callable[[str], Path]) -> None:
    lib = full("lib")
    path = write_file('config.bootstrap.strategy = "recipe"\nconfig.bootstrap.recipe = "busybox"')
    assert "recipe busybox failed with exit status" in hako("create", path, status=125).stderr
    assert sorted(os.listdir(lib)) in (["filler"], [".layers", "filler"])


def test_a_full_disk_under_the_pid_file(hako: Hako, box: Writer, full: Callable[[str], Path]) -> None:
    folder = full("pids")
    path = box(f'config.container_pid_file = "{folder}/box.pid"')
    told = hako("start", path, *SLEEP, status=125).stderr
    assert f"cannot write the pid file {folder}/box.pid: No space left on device" in told
    assert os.listdir(folder) == ["filler"]
    assert known(hako) == []


def test_a_log_that_cannot_be_opened(hako: Hako, box: Writer, places: Path) -> None:
    (places / "log").write_text("a file")
    assert "cannot open the log" in hako("start", "-D", box(), *SLEEP, status=125).stderr
    assert known(hako) == []


def test_after_a_reboot_nothing_runs(hako: Hako, box: Writer, places: Path) -> None:
    path = box()
    hako("start", "-D", path, *SLEEP)
    file = places / "run" / "box" / "state.json"
    state = file.read_text()
    boot = json.loads(state)["boot_id"]
    file.write_text(state.replace(boot, "0" * len(boot)))
    assert known(hako) == []
    assert "dead" in hako("status", path).stdout
    file.write_text(state)
    hako("kill", path)


class Held:
    """A lock whose taker has ended, and that a message which nobody has received keeps: as the kernel does late in an end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            lock = lock_file(str(path))
            assert lock is not None
            socket.send_fds(theirs, [b"lock"], [lock])
            os._exit(0)
        theirs.close()
        assert os.waitpid(child, 0)[1] == 0
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._opened = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        in_open = 0x20
        assert self._libc.inotify_add_watch(self._opened, os.fsencode(path), in_open) >= 0

    def tried_again(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until the lock was tried a second time, or a process has ended that did not."""
        pidfd, found = os.pidfd_open(process.pid), b""
        try:
            while len(found) < 3 * 16:  # each is a struct inotify_event, without a name
                if pidfd in wait_readable(self._opened, pidfd, seconds=30):
                    return False
                found += os.read(self._opened, 16)
            return True
        finally:
            os.close(pidfd)

    def let_go(self) -> None:
        self._ours.close()
        os.close(self._opened)


@pytest.mark.parametrize("words", [["gc"], ["start", "box.haco.py", "--", "true"], ["rm", "box.haco.py"]], ids=" ".join)
def test_the_lock_of_one_who_has_gone_is_waited_for(hako: Hako, box: Writer, places: Path, words: list[str]) -> None:
    path = box()
    hako("start", path, "--", "true")
    folder = places / "run" / "box"
    if words == ["gc"]:
        (folder / "state.json").unlink()
    held = Held(folder / "lock")
    done = hako.background(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    tried = held.tried_again(done)
    held.let_go()
    assert (done.wait(30), tried) == (0, True)
    assert folder.exists() == (words[0] == "start")


def test_what_is_in_use_is_told_by_gc_if_asked(hako: Hako, box: Writer) -> None:
    hako("start", "-D", box(), *SLEEP)
    (found,) = known(hako)
    assert hako("gc").stdout == "nothing was left\n"
    told = f"in use: box: process {found['supervisor_pid']} has its lock"
    assert hako("gc", "--verbose").stdout == f"{told}\nnothing was left\n"
    hako("kill", "-n", "box")
