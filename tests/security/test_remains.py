"""What a container leaves behind to harm who clears it away: it stops neither that nor the work on any other."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hakoniwa.kernel import cgroup
from hakoniwa.kernel.filesystem import tree
from tests.conftest import Hako
from tests.security.test_escapes import built_probe

__all__ = ["built_probe"]

Writer = Callable[..., Path]

RECIPE = 'config.bootstrap.strategy = "recipe"\nconfig.bootstrap.recipe = "busybox"\np = config.provision\n'
PLAIN = RECIPE + "config.bootstrap.cache = False\n"
HOST = 'config.bootstrap.strategy = "host"\n'
USER = 'config.namespace.unshare("user", "net")\n'
# Deeper than Python recurses, and than a path is long.
DEPTH = 2100
GROUPS = 1500
HIERARCHY = cgroup.find_hierarchies().v2


@pytest.fixture
def cleared(places: Path) -> Iterator[None]:
    """What a failed test leaves is too deep for pytest."""
    yield
    if (places / "lib").is_dir():
        tree.remove(str(places / "lib"))


def depth(top: Path) -> int:
    with tree.Place(str(top)) as place:
        return sum(event == tree.ENTERED and name == "n" for event, name in place.walk())


def show_recursion(path: Path) -> None:
    """Without the defence: the standard library's own walks recurse, each until one of the later versions of Python."""
    if sys.version_info < (3, 12):
        with pytest.raises(RecursionError):
            list(os.walk(path))
    if sys.version_info < (3, 13):
        with pytest.raises((RecursionError, OSError)):
            shutil.rmtree(path)


@pytest.mark.skipif(HIERARCHY is None, reason="this kernel has no v2 hierarchy mounted")
def test_nested_cgroups(hako: Hako, box: Writer, rootfs: Path, built_probe: Path) -> None:
    """A container that manages its own groups ends, and goes, however many it has made in each other."""
    group = Path(str(HIERARCHY)) / "hakoniwa-box"
    path = box(USER + 'config.mount_independent("cgroup")\n')
    other = box(USER + 'config.mount_independent("cgroup")\n', "other")
    shutil.copy(built_probe, rootfs / "probe")
    into = f"g=/sys/fs/cgroup; [ -d $g/unified ] && g=$g/unified; cd $g; /probe nest {GROUPS}; "
    done = hako("start", path, "--", "sh", "-c", into + "/probe sink; true")
    assert f"{GROUPS} sink" in done.stdout
    assert done.stderr == ""
    assert not group.exists()
    # The same of a supervisor that was killed: `gc` clears it, and the others that there are.
    for file in (path, other):
        hako("start", "-D", file, "--", "sh", "-c", into + "exec sleep 1000")
        wait_for_groups(Path(str(HIERARCHY)) / f"hakoniwa-{file.name.partition('.')[0]}")
    if sys.version_info < (3, 12):
        with pytest.raises(RecursionError):
            list(os.walk(group))
    for file in (path, other):
        hako("kill", "-s", "KILL", "--supervisor", file)
    cleared = hako("gc").stdout
    assert f"box: cgroup {group}\n" in cleared
    assert "other: cgroup" in cleared
    assert not group.exists()
    hako("start", path, "--", "true")


def wait_for_groups(group: Path) -> None:
    """Until a container has nested all of its groups."""
    descendants = f"nr_descendants {GROUPS}\n"
    while not (group / "cgroup.stat").read_text().startswith(descendants):
        os.sched_yield()


@pytest.mark.usefixtures("cleared")
@pytest.mark.parametrize("kind", [RECIPE, PLAIN, HOST], ids=["layers", "plain", "host"])
def test_nested_folders(hako: Hako, write_file: Writer, places: Path, built_probe: Path, kind: str) -> None:
    """Whatever is done with a rootfs is done with one in which folders lie deep as well."""
    path, other = write_file(kind), write_file(kind, "other")
    root = places / "lib" / "box"
    hako("create", path)
    shutil.copy(built_probe, (root if kind == PLAIN else root / "upper") / "probe")
    assert hako("start", path, "--", "/probe", "nest", str(DEPTH)).stdout == "nest done\n"
    assert depth(root) == DEPTH
    copy = copy_of(root, places)
    show_recursion(copy)
    tree.remove(str(copy))
    hako("snapshot", path, "one")
    hako("rollback", path, "one")
    hako("clone", path, other)
    for file in (path, other):
        assert hako("start", file, "--", "/probe", "sink").stdout == f"{DEPTH} sink done\n"
    if kind != HOST:
        hako("archive", path, "-d", "out.tar")
    hako("snapshot", "--delete", path, "one")
    hako("create", "--rebuild", path)
    assert depth(root) == 0
    hako("cache", "ls")
    hako("rm", "--rootfs", other)
    hako("rm", "--rootfs", path)
    hako("cache", "prune")
    assert hako("gc").stdout == "nothing was left\n"
    assert [entry for entry in os.listdir(places / "lib") if not entry.startswith(".")] == []


def copy_of(root: Path, places: Path) -> Path:
    """Folders as deep as there, for what harms to be tried on."""
    found = places / "lib" / "copy"
    found.mkdir()
    folder = os.open(found, os.O_RDONLY)
    for _ in range(depth(root)):
        os.mkdir("n", dir_fd=folder)
        below = os.open("n", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    return found


@pytest.mark.usefixtures("cleared")
def test_nested_folders_of_a_failed_build(hako: Hako, write_file: Writer, places: Path, built_probe: Path) -> None:
    """A step nests folders and fails; the next build, or `gc`, clears what was kept."""
    steps = f"p.copy({str(built_probe)!r}, '/probe')\np.run_shell('/probe nest {DEPTH}; exit 3', name='deep')"
    path = write_file(PLAIN + steps)
    hako("create", path, status=125)
    assert depth(places / "lib" / ".box.building") == DEPTH
    hako("create", path, status=125)
    assert "unfinished build" in hako("gc").stdout
    hako("create", write_file(PLAIN))


def test_what_cannot_be_removed_stops_nothing_else(hako: Hako, write_file: Writer, places: Path) -> None:
    """Of one container something stays that nobody can remove; the others are cleared all the same, and it is told."""
    lib = places / "lib"
    hako("create", write_file(PLAIN))
    for name in (".a.building", ".z.building", ".a.removing"):
        (lib / name).mkdir()
    stuck = lib / ".a.building" / "stuck"
    stuck.touch()
    set_immutable(stuck, 0x10)
    try:
        done = hako("gc", status=125)
        assert f"unfinished build {lib}/.z.building" in done.stdout
        assert f"unfinished build {lib}/.a.building: stuck: Operation not permitted" in done.stderr
        assert not (lib / ".z.building").exists()
        hako("create", write_file(PLAIN, "another"))
    finally:
        set_immutable(stuck, 0)
    hako("gc")
    assert not (lib / ".a.building").exists()


def test_a_replaced_rootfs_that_cannot_be_removed(hako: Hako, write_file: Writer, places: Path) -> None:
    path = write_file(PLAIN)
    hako("create", path)
    stuck = places / "lib" / "box" / "stuck"
    stuck.touch()
    set_immutable(stuck, 0x10)
    gone = places / "lib" / ".box.removing" / "stuck"
    try:
        assert "cannot remove what was replaced" in hako("create", "--rebuild", path).stderr
        assert hako("start", path, "--", "ls", "/").stdout.count("stuck") == 0
        hako("create", "--rebuild", path)  # beside what stays of the first
        hako("rm", "--rootfs", path)
    finally:
        set_immutable(gone if gone.exists() else stuck, 0)
    hako("gc")
    assert not gone.parent.exists()


def set_immutable(path: Path, flags: int) -> None:
    """FS_IOC_SETFLAGS, FS_IMMUTABLE_FL: `man 2 ioctl_iflags`. A container may not."""
    file = os.open(path, os.O_RDONLY)
    fcntl.ioctl(file, 0x40086602, flags.to_bytes(8, sys.byteorder))
    os.close(file)


def test_a_root_folder_that_is_passed_on(hako: Hako, write_file: Writer, places: Path, built_probe: Path) -> None:
    """Another container keeps the root folder of one that has ended open, and locked: nobody is kept from the rootfs."""
    path = write_file(PLAIN)
    hako("create", path)
    root = places / "lib" / "box"
    shutil.copy(built_probe, root / "probe")
    name = f"hakoniwa-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0{name}")
        listening.listen()
        hako("start", path, "--", "/probe", "pass", name)
        accepted, _ = listening.accept()
        with accepted:
            _, (held,), _, _ = socket.recv_fds(accepted, 1, 1)
    try:
        # Without the defence: a lock on the folder is not to be had any more.
        folder = os.open(root, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(folder)
        fcntl.flock(held, fcntl.LOCK_EX)
        hako("start", path, "--", "true")
        hako("snapshot", path, "one")
        hako("rollback", path, "one")
        fcntl.flock(held, fcntl.LOCK_UN)
        hako("create", "--rebuild", path)
        hako("rm", "--rootfs", path)
        assert hako("gc").stdout == "nothing was left\n"
    finally:
        os.close(held)
