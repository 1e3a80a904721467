"""User namespaces of root's containers: maps, files on both sides, idmapped mounts, and what is refused."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hakoniwa.kernel.processes import idmap
from tests.conftest import Hako

Writer = Callable[..., Path]
USER = 'config.namespace.unshare("user")\n'


def first_id(pid: int) -> int:
    """Who the root of a running container is outside."""
    return idmap.read_map(pid, "uid")[0][1]


def given(places: Path) -> dict[str, int]:
    """The ranges that are kept."""
    folder = places / "lib" / ".ids"
    entries = os.listdir(folder) if folder.is_dir() else []
    return {name: int(first) for name, _, first in (entry.rpartition("@") for entry in entries)}


def start(hako: Hako, path: Path) -> int:
    """Start in the background; the pid of the container's first process."""
    return int(hako("start", "-D", path, "--", "sleep", "1000").stdout.split()[1])


def test_root_inside_is_nobody_outside_and_the_rootfs_needs_no_chown(hako: Hako, box: Writer, rootfs: Path) -> None:
    path = box(USER)
    hako("start", "-D", path, "--", "sh", "-c", "touch /made; chown 5:7 /made; sleep 1000")
    pid = int(hako("ps").stdout.splitlines()[1].split()[2])
    assert os.stat(f"/proc/{pid}").st_uid == first_id(pid) >= 0x80000
    assert hako("attach", path, "--", "stat", "-c", "%u:%g", "/made", "/bin").stdout == "5:7\n0:0\n"
    assert (os.stat(rootfs / "made").st_uid, os.stat(rootfs / "made").st_gid) == (5, 7)
    hako("kill", path)


def test_maps_of_several_ranges(hako: Hako, box: Writer) -> None:
    body = ""
    for kind in ("uid", "gid"):
        body += f"config.namespace.set_{kind}_mapping(min=0, max=999, offset=700000)\n"
        body += f"config.namespace.set_{kind}_mapping(min=1000, max=1000, offset=4242)\n"
    body += 'config.uid = "alice"\nconfig.gid = 1000\nconfig.groups = [10]\n'
    path = box(body)
    found = hako("start", path, "--", "sh", "-c", "id -u; id -G; cat /proc/self/uid_map").stdout.split()
    assert found == ["1000", "1000", "10", *"0 700000 1000 1000 4242 1".split()]
    for wrong in ("config.uid = 5000", "config.gid = 5000", "config.groups = [5000]"):
        told = hako("start", box(body + wrong), "--", "true", status=125).stderr
        assert "not mapped in the user namespace (map it with namespace.set_uid_mapping()" in told


def test_a_rootfs_with_an_owner_is_taken_as_it_is(hako: Hako, write_file: Writer, places: Path, busybox: Path) -> None:
    body = f'config.bootstrap.strategy = "shell"\nconfig.bootstrap.code = "cp -a {busybox}/. $ROOTFS"\n'
    body += "config.rootfs_owner(uid=700000, gid=700000)\n"
    body += "config.namespace.set_uid_mapping(min=0, max=9, offset=700000)\n"
    body += "config.namespace.set_gid_mapping(min=0, max=9, offset=700000)\n"
    path = write_file(body)
    found = hako("start", "-b", path, "--", "sh", "-c", "touch /x; stat -c %u:%g /x /bin/sh").stdout
    assert found == "0:0\n0:0\n"
    assert os.stat(places / "lib" / "box" / "x").st_uid == 700000
    hako("rm", "--rootfs", path)


@pytest.mark.parametrize("user", [False, True])
def test_files_made_on_a_shared_folder_belong_to_its_owner(hako: Hako, box: Writer, places: Path, user: bool) -> None:
    project = places / "project"
    project.mkdir()
    (project / "theirs").write_text("x")
    (project / "roots").write_text("x")
    for path in (project, project / "theirs"):
        os.chown(path, 1234, 5678)
    head = (USER if user else "") + 'config.add_mount_point("project", to="/work", idmap=True)\n'
    for extra, ids in (("", "0:0"), ('config.uid = "alice"', "1000:1001")):
        script = "cd /work; touch made && mkdir folder && stat -c %u:%g made theirs roots"
        found = hako("start", box(head + extra), "--", "sh", "-c", script).stdout.split()
        # Whatever else lies there is nobody's: as root's, its set-user-ID files would be root's outside.
        assert found == [ids, ids, "65534:65534"]
        assert {(s.st_uid, s.st_gid) for s in map(os.stat, (project / "made", project / "folder"))} == {(1234, 5678)}
        (project / "made").unlink()
        (project / "folder").rmdir()


def test_the_host_s_copy_in_a_user_namespace(hako: Hako, write_file: Writer, places: Path) -> None:
    path = write_file(USER + 'config.bootstrap.strategy = "host"\nconfig.mount_independent("procfs", "devtmpfs")')
    script = (
        "stat -c %u:%g /etc/passwd /usr/bin/env; useradd inner && id -un inner; chown inner /root; rm /etc/hostname"
    )
    found = hako("start", "-b", path, "--", "sh", "-c", script).stdout.split()
    assert found == ["0:0", "0:0", "inner"]
    assert os.path.exists("/etc/hostname")
    upper = places / "lib" / "box" / "upper"
    assert os.stat(upper / "etc" / "passwd").st_uid == 0  # on the disk are the ids of the container
    plain = write_file('config.bootstrap.strategy = "host"\nconfig.mount_independent("procfs", "devtmpfs")')
    assert hako("start", plain, "--", "id", "-un", "inner").stdout == "inner\n"
    hako("rm", "--rootfs", path)


def test_a_terminal_and_redirected_streams(hako: Hako, box: Writer, places: Path) -> None:
    body = (
        USER + f'config.command.set_stdout(host_file={str(places / "out")!r})\nconfig.command.set_stderr(file="/err")'
    )
    hako("start", box(body), "--", "sh", "-c", "echo hello; echo no >&2; stat -c %u /err")
    assert (places / "out").read_text() == "hello\n0\n"


def test_devices_are_those_of_the_host_and_no_others_can_be_made(hako: Hako, box: Writer) -> None:
    body = USER + 'config.capabilities.allow("all")\nconfig.seccomp.profile = None'
    script = "head -c3 /dev/zero | wc -c; echo x > /dev/null; mknod /dev/sda b 254 0; mknod /x c 1 3"
    done = hako("start", box(body), "--", "sh", "-c", script, status=None)
    assert done.stdout == "3\n"
    assert done.stderr.count("Operation not permitted") == 2


def test_all_capabilities_inside_are_none_outside(hako: Hako, box: Writer) -> None:
    body = USER + 'config.capabilities.allow("all")\nconfig.seccomp.profile = None'
    path = box(body)
    script = "grep CapEff /proc/self/status; hostname inner; date -s 2000-01-01; cat /proc/1/uid_map"
    done = hako("start", path, "--", "sh", "-c", script, status=None)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert int(done.stdout.split()[1], 16) == (2 << last) - 1
    assert "Operation not permitted" in done.stderr
    assert os.uname().nodename != "inner"


def test_what_cannot_be_mapped_is_told(hako: Hako, box: Writer, places: Path) -> None:
    (places / "some").mkdir()
    subprocess.run(["mount", "-t", "proc", "proc", places / "some"], check=True)
    try:
        body = 'config.add_mount_point("some", to="/work", idmap=True)'
        told = hako("start", box(body), "--", "true", status=125).stderr
    finally:
        subprocess.run(["umount", places / "some"], check=True)
    assert f"the ids of {places}/some cannot be mapped: Invalid argument (its file system" in told


def test_a_source_that_is_missing_is_told_with_its_line(hako: Hako, box: Writer) -> None:
    body = USER + 'config.add_mount_point("/no/such", to="/work")'
    told = hako("start", box(body), "--", "true", status=125).stderr
    assert "cannot bind /no/such on /work: No such file or directory" in told
    assert "box.haco.py:" in told


def test_what_is_wrong_outside_is_told_once_and_leaves_nothing(hako: Hako, box: Writer, places: Path) -> None:
    body = USER + f'config.chroot_to("{places}/missing")'
    told = hako("start", box(body), "--", "true", status=125).stderr
    assert told.count("the rootfs") == 1
    assert "is missing" in told


def test_own_cgroups_can_be_managed_from_a_user_namespace_and_limits_cannot(hako: Hako, box: Writer) -> None:
    body = USER + 'config.mount_independent("cgroup")\nconfig.namespace.unshare("net")\n'
    script = r"""
        g=/sys/fs/cgroup; [ -d $g/unified ] && g=$g/unified
        mkdir $g/sub && echo $$ > $g/sub/cgroup.procs && grep -c "^$$\$" $g/sub/cgroup.procs
        echo 1 > $g/cgroup.kill; echo 5 > $g/cgroup.max.depth; cat /proc/self/cgroup | grep ^0::
    """
    done = hako("start", box(body), "--", "sh", "-c", script, status=None)
    assert done.stdout.split() == ["1", "0::/sub"]
    assert done.stderr.count("ermission denied") == 2


def test_the_cgroups_of_root_without_a_user_namespace_are_read_only(hako: Hako, box: Writer) -> None:
    body = 'config.mount_independent("cgroup")\nconfig.limit(pids=50)\n'
    script = (
        "cat /proc/self/cgroup | cut -d: -f3 | sort -u; find /sys/fs/cgroup -name cgroup.procs -o -name cgroup.freeze"
    )
    script += " | while read f; do echo 0 > $f; done"
    done = hako("start", box(body), "--", "sh", "-c", script, status=None)
    assert "Read-only file system" in done.stderr
    assert "/hakoniwa-box" not in done.stdout


def test_two_containers_never_have_the_same_ids(hako: Hako, box: Writer, places: Path) -> None:
    """Chosen by the name alone, these two have the same range (CRC-32 modulo the number of ranges)."""
    one, other = box(USER, "web16"), box(USER, "web19")
    first, second = first_id(start(hako, one)), first_id(start(hako, other))
    assert abs(first - second) >= 65536
    assert given(places) == {"web16": first, "web19": second}
    hako("kill", other)
    assert first_id(start(hako, other)) == second  # what exists keeps its range
    for path in (one, other):
        hako("kill", path)
        hako("rm", path)
    assert given(places) == {}  # and gives it back with itself
    assert first_id(start(hako, other)) == first
    hako("kill", other)
    hako("rm", other)


def test_many_starts_at_once_have_ids_of_their_own(hako: Hako, box: Writer, places: Path) -> None:
    names = ["web16", "web19", *(f"box{number}" for number in range(6))]
    paths = [box(USER, name) for name in names]
    starts = [hako.background("start", "-D", path, "--", "sleep", "1000") for path in paths]
    pids = [int(process.communicate(timeout=60)[0].split()[1]) for process in starts]
    assert len({first_id(pid) for pid in pids}) == len(names)
    for path in paths:
        hako("kill", path)
        hako("rm", path)


def test_ids_keep_clear_of_what_others_have(hako: Hako, box: Writer, places: Path) -> None:
    path = box(USER, "web16")
    first = first_id(start(hako, path))
    hako("kill", path)
    hako("rm", path)
    # of a range that another container's file names, though that does not run
    maps = "".join(
        f"config.namespace.set_{kind}_mapping(min=0, max=9, offset={first + 7})\n" for kind in ("uid", "gid")
    )
    named = box(maps, "named")
    hako("start", named, "--", "true")
    moved = first_id(start(hako, path))
    assert abs(moved - first) >= 65536
    hako("kill", path)
    for gone in (path, named):
        hako("rm", gone)
    # of a user namespace that somebody else has made
    with subprocess.Popen(["unshare", "--user", "sleep", "1000"]) as other:
        while os.readlink(f"/proc/{other.pid}/ns/user") == os.readlink("/proc/self/ns/user"):
            pass
        for kind in ("uid", "gid"):
            Path(f"/proc/{other.pid}/{kind}_map").write_text(f"0 {first} 65536")
        assert abs(first_id(start(hako, path)) - first) >= 65536
        other.kill()
    hako("kill", path)
    hako("rm", path)


def test_a_start_that_comes_to_nothing_keeps_no_ids(hako: Hako, box: Writer, places: Path) -> None:
    path = box(USER + 'config.add_mount_point("/no/such", to="/mnt")')
    hako("start", path, status=125)
    hako("rm", path, status=None)
    assert given(places) == {}
    (places / "lib" / ".ids").mkdir(parents=True, exist_ok=True)
    (places / "lib" / ".ids" / "gone@655360").touch()
    assert "ids of gone" in hako("gc").stdout
    assert given(places) == {}


@pytest.fixture
def mounted(rootfs: Path) -> Iterator[Callable[[str], None]]:
    """Make the folder of the rootfs a mount of some propagation, with a further mount on its /tmp."""

    def make(propagation: str) -> None:
        subprocess.run(["mount", "--bind", str(rootfs), str(rootfs)], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "below", str(rootfs / "tmp")], check=True)
        (rootfs / "tmp" / "seen").touch()
        for path in (rootfs / "tmp", rootfs):
            subprocess.run(["mount", f"--make-{propagation}", str(path)], check=True)

    yield make
    subprocess.run(["umount", "-R", str(rootfs)], check=True)


@pytest.mark.parametrize("propagation", ["shared", "unbindable"])
def test_the_mounts_below_the_rootfs_are_there_and_cut_off(
    hako: Hako, box: Writer, mounted: Callable[[str], None], propagation: str
) -> None:
    mounted(propagation)
    path = box(f'{USER}config.add_mount_point("tmpfs", to="/mnt", fs="tmpfs")')
    found = hako("start", path, "--", "sh", "-c", "ls /tmp; cat /proc/self/mountinfo").stdout
    assert found.startswith("seen\n")
    optional = [line.split(" - ")[0].split()[6:] for line in found.splitlines()[1:]]
    assert [word for words in optional for word in words if "shared" in word or "master" in word] == []
    assert "/mnt " not in Path("/proc/self/mountinfo").read_text()
