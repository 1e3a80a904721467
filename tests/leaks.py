"""What a container could leave on the host, before and after."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

GRACE = 5.0  # seconds that a process which was told to end, and was not waited for, may take


def _mounts() -> set[str]:
    return {line.split(" ", 1)[1] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def _cgroups() -> set[str]:
    return {folder for folder, _, _ in os.walk("/sys/fs/cgroup") if "hako" in folder}


def _names(folder: str) -> set[str]:
    return set(os.listdir(folder)) if os.path.isdir(folder) else set()


def _namespaces() -> set[str]:
    found = set()
    for pid in _pids():
        for kind in ("mnt", "net", "pid", "uts", "ipc"):
            try:
                found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
            except OSError:
                continue
    return found


def _pids() -> list[str]:
    return [entry for entry in os.listdir("/proc") if entry.isdigit()]


def _processes() -> set[tuple[str, str]]:
    """Pid and start time of every living process that is no kernel thread."""
    found = set()
    for pid in _pids():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if fields[0] not in "ZX" and Path(f"/proc/{pid}/cmdline").read_text():
                found.add((pid, fields[19]))
        except OSError:
            continue
    return found


class Snapshot:
    """The state of the host at one moment."""

    def __init__(self) -> None:
        self.processes = _processes()
        self.rest = {
            "mounts": _mounts(),
            "cgroups": _cgroups(),
            "links": _names("/sys/class/net"),
            "network namespaces": _names("/run/netns"),
            "open files": {str(os.readlink(f"/proc/self/fd/{fd}")) for fd in _open_files()},
        }

    def leaked(self) -> list[str]:
        """What is there now and was not then."""
        found = [f"process {pid}: {_command(pid)}" for pid, _ in _processes() - self.processes if not _ends(int(pid))]
        if found:
            return found
        now = Snapshot()
        return [f"{kind}: {item}" for kind, before in self.rest.items() for item in sorted(now.rest[kind] - before)]


def _open_files() -> list[str]:
    """Descriptors of this process that still lead somewhere (listing them opens one that does not)."""
    return [fd for fd in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{fd}")]


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return "?"


def _ends(pid: int) -> bool:
    """Whether a process ends soon: one that has been told to may still be at it."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(GRACE * 1000))
    finally:
        os.close(pidfd)


@pytest.fixture(autouse=True)
def no_leaks(hako: object) -> Iterator[None]:
    """Fail a test after which there is a mount, cgroup, link, namespace, process or open file more than before."""
    before = Snapshot()
    yield
    leaked = before.leaked()
    assert not leaked, "left behind: " + "; ".join(leaked)
