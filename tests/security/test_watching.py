"""What a container does in a folder that a watch hook looks at does not cost its supervisor more than it is given."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Hako, wait_for_log
from tests.system.test_background_hooks import Ears

Writer = Callable[..., Path]

SOURCE = Path(__file__).with_name("flood.c")
MOST_GROWTH = 24  # MB
MOST_FOLDERS = 16384

# What the field does: watchdog's observer, whose queues have no limit, with a hook that is not as fast as the container.
OBSERVER = """
import sys, time
from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer
class Handler(FileSystemEventHandler):
    def on_any_event(self, event): time.sleep(0.001)
observer = Observer()
observer.schedule(Handler(), sys.argv[1], recursive=True)
observer.start()
print("watching", flush=True)
time.sleep(1000)
"""


def megabytes(pid: int) -> int:
    """What a process has in memory."""
    found = re.search(r"^VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) // 1024


@pytest.fixture
def shared() -> Iterator[Path]:
    """In memory, since many folders are made there."""
    folder = Path(tempfile.mkdtemp(prefix="hako-test-", dir="/dev/shm"))
    yield folder
    subprocess.run(["rm", "-rf", "--", str(folder)], check=True)


@pytest.fixture
def start(hako: Hako, box: Writer, places: Path, shared: Path) -> Iterator[Callable[..., tuple[int, Ears]]]:
    """Start a container that shares the folder that its hook looks at: the pid of its supervisor, and what the hook tells."""
    ears = Ears(places / "fifo")
    body = f"""
config.add_mount_point({str(shared)!r}, to="/src")
@config.add_watch_hook({str(shared / "**")!r}, debounce_msec=20)
def changed(base, paths): tell(paths[0])
"""

    def go(*words: str) -> tuple[int, Ears]:
        hako("start", "-D", box(body, head=ears.head), "--", *words)
        (known,) = json.loads(hako("ps", "--json").stdout)["containers"]
        return known["supervisor_pid"], ears

    yield go
    ears.close()
    hako("kill", "-n", "box")


def await_change(file: Path, ears: Ears) -> None:
    """Change a file until it is told by itself, after all that has changed before."""
    file.write_text("x")
    while ears.hear() != [str(file)]:
        file.write_text("x")


def test_a_flood_of_changes(
    start: Callable[..., tuple[int, Ears]], rootfs: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    flood = tmp_path_factory.mktemp("flood") / "flood"
    subprocess.run(["gcc", "-static", "-O2", "-o", flood, SOURCE], check=True)
    shutil.copy(flood, rootfs / "bin" / "flood")
    supervisor, ears = start("/bin/flood", "/src")
    ears.hear()
    before = megabytes(supervisor)
    observer = subprocess.Popen([sys.executable, "-c", OBSERVER, shared], stdout=subprocess.PIPE)
    try:
        assert observer.stdout is not None
        assert observer.stdout.readline() == b"watching\n"
        began = megabytes(observer.pid)
        while (
            megabytes(observer.pid) < began + 2 * MOST_GROWTH
        ):  # without the defence it grows, for as long as one likes
            assert observer.poll() is None
            ears.hear()  # and ours is told all the time
    finally:
        observer.kill()
        observer.communicate()
    assert megabytes(supervisor) < before + MOST_GROWTH


def test_folders_in_folders(start: Callable[..., tuple[int, Ears]], hako: Hako, shared: Path, places: Path) -> None:
    """Without the defence: whoever walks them by recursion gives up, and the thread that watches has ended."""
    script = "cd /src; i=0; while [ $i -lt 1500 ]; do mkdir d; cd d; i=$((i+1)); done; echo made; exec sleep 1000"
    _, ears = start("sh", "-c", script)
    wait_for_log(hako, places / "box.haco.py", "made")
    ears.hear()
    await_change(shared / "file", ears)


def test_more_folders_than_are_watched(
    start: Callable[..., tuple[int, Ears]], hako: Hako, shared: Path, places: Path
) -> None:
    """Without the defence: what root may watch on this host (fs.inotify.max_user_watches) is used up."""
    script = f"cd /src; seq 1 {MOST_FOLDERS + 2000} | xargs mkdir; exec sleep 1000"
    supervisor, ears = start("sh", "-c", script)
    wait_for_log(hako, places / "box.haco.py", f"there are more than {MOST_FOLDERS} folders")
    (inotify,) = [number for number in descriptors(supervisor) if number[1] == "anon_inode:inotify"]
    watched = Path(f"/proc/{supervisor}/fdinfo/{inotify[0]}").read_text().count("inotify wd:")
    assert 0 < watched <= MOST_FOLDERS
    await_change(shared / "file", ears)


def descriptors(pid: int) -> Iterator[tuple[str, str]]:
    """Numbers, and what they lead to."""
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            yield number, os.readlink(f"/proc/{pid}/fd/{number}")
        except FileNotFoundError:
            continue  # closed in between
