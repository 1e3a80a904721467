"""What a test could leave on the host, before and after. Only what is ours: other work on the machine is nobody's leak."""

from __future__ import annotations

import os
import resource
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakoniwa.kernel.netlink import elements, messages
from hakoniwa.kernel.netlink.routes import Links

GRACE = 5.0  # seconds that a process which was told to end, and was not waited for, may take

# All that a test starts inherits this limit, containers included, and nothing else on the machine has it. It is one of
# real-time scheduling, and holds after some thirty years of computing (`man 2 getrlimit`, RLIMIT_RTTIME).
MARK = 10**15 + os.getpid()


def mark_ourselves() -> None:
    """Have every process that is started from here on be known for ours."""
    _, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
    resource.setrlimit(resource.RLIMIT_RTTIME, (MARK, hard))


def _is_ours(pid: str) -> bool:
    try:
        limits = Path(f"/proc/{pid}/limits").read_text()
    except OSError:
        return False
    line = next((line for line in limits.splitlines() if line.startswith("Max realtime timeout")), "")
    return str(MARK) in line.split()


def _has_our_name(text: str, folder: Path) -> bool:
    """Whether a text names hakoniwa, or the folder of the tests."""
    return "hako" in text or str(folder) in text


def _mounts(folder: Path) -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line.split(" ", 1)[1] for line in lines if _has_our_name(line, folder)}


def _cgroups() -> set[str]:
    """Those with our name in which nobody else's processes are."""
    found = {folder for folder, _, _ in os.walk("/sys/fs/cgroup") if "hako" in folder}
    return {folder for folder in found if not _is_somebody_else_s(folder)}


def _is_somebody_else_s(cgroup: str) -> bool:
    try:
        pids = Path(cgroup, "cgroup.procs").read_text().split()
    except OSError:
        return False
    return bool(pids) and not any(map(_is_ours, pids))


def _names(folder: str) -> set[str]:
    return {name for name in os.listdir(folder) if "hako" in name} if os.path.isdir(folder) else set()


def _links() -> set[str]:
    """Those that are ours by their alias, or by their name."""
    links = Links(messages.open_socket())
    found = {link.name for link in links.every() if "hako" in link.name + link.alias or link.name.startswith("hk")}
    links.close()
    return found


def _written_down(pattern: str) -> set[str]:
    """What hakoniwa has written down of networks that are in use."""
    run = os.environ.get("HAKONIWA_RUN_DIR", "/run/hakoniwa")
    return {str(path) for path in Path(run, ".network").glob(pattern)}


def _rules() -> set[str]:
    """Tables of ours in this network namespace. What says so is there wherever nftables are."""
    try:
        channel = elements.open_socket()
    except OSError:
        return set()
    there = elements.comment_of_table(channel, "hakoniwa") is not None
    channel.close()
    return {"table inet hakoniwa"} if there else set()


def _processes() -> set[tuple[str, str]]:
    """Pid and start time of every process of ours that lives."""
    found = set()
    for pid in (entry for entry in os.listdir("/proc") if entry.isdigit()):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] not in "ZX" and _is_ours(pid):
            found.add((pid, fields[19]))
    return found


class Snapshot:
    """The state of the host at one moment, as far as it is ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes = _processes()
        self.rest = {
            "mounts": _mounts(folder),
            "cgroups": _cgroups(),
            "links": _links(),
            "network namespaces": _names("/run/netns"),
            "leases": _written_down("leases/[!.]*/*"),
            "rules": _rules(),
            "open files": {str(os.readlink(f"/proc/self/fd/{fd}")) for fd in _open_files()},
        }

    def leaked(self) -> list[str]:
        """What is there now and was not then."""
        found = [f"process {pid}: {_command(pid)}" for pid, _ in _processes() - self.processes if not _ends(int(pid))]
        if found:
            return found
        found = self._more()
        for _ in range(int(GRACE * 100)):
            # A pair of interfaces goes with its namespace, which the kernel takes down once its last process has ended.
            if not found or not all(one.startswith("links: ") for one in found):
                break
            select.poll().poll(10)
            found = self._more()
        return found

    def _more(self) -> list[str]:
        now = Snapshot(self.folder)
        return [f"{kind}: {item}" for kind, before in self.rest.items() for item in sorted(now.rest[kind] - before)]


def _open_files() -> list[str]:
    """Descriptors of this process that still lead somewhere (listing them opens one that does not).

    A library may have itself open (libffi 3.5, for its trampolines).
    """
    links = [fd for fd in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{fd}")]
    return [fd for fd in links if ".so" not in os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))]


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
def no_leaks(hako: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail a test after which there is a mount, cgroup, link, namespace, process or open file more than before."""
    before = Snapshot(tmp_path_factory.getbasetemp())
    yield
    leaked = before.leaked()
    assert not leaked, "left behind: " + "; ".join(leaked)
