"""`hako start`: what runs inside, what it sees, and how it ends."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import HAKO, INITS, Hako

Writer = Callable[..., Path]


def sh(hako: Hako, path: Path, script: str, status: int = 0) -> str:
    """What a shell script prints inside."""
    return hako("start", path, "--", "sh", "-c", script, status=status).stdout


def test_the_payload_is_pid_1_with_its_own_name_and_processes(hako: Hako, box: Writer) -> None:
    path = box('config.hostname = "inner"')
    assert sh(hako, path, "echo $$; hostname; set -- /proc/[0-9]*; echo $#").split() == ["1", "inner", "1"]


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 3", 3), ("exit 255", 255)])
def test_the_exit_status_is_the_payloads(hako: Hako, box: Writer, script: str, status: int) -> None:
    sh(hako, box(), script, status)


def test_a_signal_is_128_and_its_number(hako: Hako, box: Writer) -> None:
    path = box('config.namespace.share("pid")', mounts=False)  # as pid 1 of a namespace it could not kill itself
    sh(hako, path, "kill -9 $$", 137)
    sh(hako, path, "kill -15 $$", 143)


@pytest.mark.parametrize(
    ("program", "status", "told"),
    [
        ("nope", 127, "there is no program 'nope' inside (PATH is /usr/local/sbin:"),
        ("/bin/nope", 127, "there is no program '/bin/nope' inside"),
        ("/etc/passwd", 126, "cannot execute /etc/passwd: not executable by this user"),
        ("/etc", 126, "cannot execute /etc: not a regular file"),
        ("/tmp/broken", 127, "No such file or directory (its interpreter or loader may be missing)"),
        ("/tmp/text", 126, "Exec format error (not a program for this machine?)"),
    ],
)
@pytest.mark.parametrize("where", ["foreground", "background"])
def test_a_program_that_cannot_be_executed(
    hako: Hako, box: Writer, rootfs: Path, program: str, status: int, told: str, where: str
) -> None:
    for name, text in (("broken", "#!/no/such\n"), ("text", "neither\n")):
        (rootfs / "tmp" / name).write_text(text)
        (rootfs / "tmp" / name).chmod(0o755)
    option = ["-D"] if where == "background" else []
    done = hako("start", *option, box(), "--", program, status=status)
    assert told in done.stderr
    assert done.stdout == ""
    assert hako("ps").stdout.splitlines()[1:] == []


def test_the_environment_is_the_files_and_nothing_of_the_host(hako: Hako, box: Writer) -> None:
    done = hako("start", box('config.environ["A"] = "b c"'), "--", "env", SECRET="x", LD_PRELOAD_X="y")
    assert sorted(done.stdout.splitlines()) == [
        "A=b c",
        "HOME=/root",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "TERM=dumb",
        "container=hakoniwa",
    ]


def test_only_the_standard_streams_reach_the_payload(hako: Hako, box: Writer) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        done = subprocess.run(
            [str(HAKO), "start", str(box()), "--", "sh", "-c", "ls /proc/$$/fd; true"],
            cwd=hako.folder,
            capture_output=True,
            text=True,
            close_fds=False,
            timeout=30,
        )
    finally:
        os.close(reader)
        os.close(writer)
    assert done.stdout.split() == ["0", "1", "2"]


def test_a_hundred_megabytes_pass_untouched(hako: Hako, box: Writer) -> None:
    content = os.urandom(1 << 20) * 100
    done = subprocess.run(
        [str(HAKO), "start", str(box()), "--", "cat"], cwd=hako.folder, input=content, capture_output=True, timeout=60
    )
    assert done.returncode == 0
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(content).digest()


def test_closed_standard_streams_are_no_way_in(hako: Hako, box: Writer) -> None:
    script = f"exec 0<&- 2>&-; {HAKO} start {box()} -- sh -c 'ls -l /proc/self/fd; cat'"
    done = subprocess.run(["sh", "-c", script], cwd=hako.folder, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    assert done.stdout.count("/dev/null") == 2


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('config.uid = "alice"', "uid=1000(alice) gid=1001(alice) groups=10(wheel)"),
        ("config.uid = 1000", "uid=1000(alice) gid=1001(alice) groups=10(wheel)"),
        ("config.uid = 4242", "uid=4242 gid=4242"),
        ('config.uid, config.gid, config.groups = "alice", "wheel", [7]', "uid=1000(alice) gid=10(wheel) groups=7"),
        ("", "uid=0(root) gid=0(root)"),
    ],
)
def test_users_are_those_of_the_rootfs(hako: Hako, box: Writer, line: str, found: str) -> None:
    assert sh(hako, box(line), "id").strip() == found


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('config.uid = "bob"', "user 'bob' is not in the rootfs's /etc/passwd (give a number)"),
        ('config.groups = ["bobs"]', "group 'bobs' is not in the rootfs's /etc/group"),
        ('config.workdir = "/nowhere"', "cannot enter the folder /nowhere: No such file or directory"),
        ('config.workdir = "/etc/passwd"', "cannot enter the folder /etc/passwd: Not a directory"),
        ('config.add_mount_point("/no/such", to="/mnt")', "cannot bind /no/such on /mnt: No such file or directory"),
        ('config.add_mount_point("/etc", to="/etc/passwd")', "cannot bind /etc on /etc/passwd: "),
        ('config.add_mount_point("x", to="/mnt", fs="nofs")', "this kernel has no file system 'nofs'"),
        (
            'config.add_mount_point("x", to="/mnt", fs="tmpfs", options="size=zz")',
            "cannot mount tmpfs on /mnt (size=zz)",
        ),
        ('config.add_mount_point("/etc", to="/mnt", options="bogus")', "a bind mount has no option 'bogus'"),
        (
            'config.rootfs.readonly = True; config.add_mount_point("/etc", to="/no/such")',
            "the mount target /no/such is missing in a read-only rootfs",
        ),
        ('config.command.set_stdin(file="/none")', "cannot redirect stream 0 to /none inside: No such file"),
        ('config.capabilities.allow("sys_resource")', "capability 'cap_sys_resource' is not held by the caller"),
        ('config.resource.set_limit("NOFILE", 2**40)', "cannot set the limit NOFILE to"),
        ('config.container_pid_file = "/no/such/file"', "cannot write the pid file /no/such/file"),
    ],
)
@pytest.mark.parametrize("where", ["foreground", "background"])
def test_a_set_up_that_fails_is_told_with_its_line(hako: Hako, box: Writer, line: str, told: str, where: str) -> None:
    if "sys_resource" in line and "cap_sys_resource" in held_capabilities():
        pytest.skip("the caller holds every capability")
    option = ["-D"] if where == "background" else []
    done = hako("start", *option, box(line), "--", "true", status=125)
    assert told in done.stderr
    assert "box.haco.py:" in done.stderr
    hako("start", box(), "--", "true")  # the next run works


def held_capabilities() -> list[str]:
    from hakoniwa.kernel.security import capabilities

    return capabilities.names(capabilities.held())


@pytest.mark.parametrize("state", ["missing", "file", "empty", "loop", "dangling"])
def test_a_rootfs_that_is_none(hako: Hako, write_file: Writer, places: Path, state: str) -> None:
    root = places / "r"
    match state:
        case "file":
            root.write_text("x")
        case "empty":
            root.mkdir()
        case "loop":
            root.symlink_to(root)
        case "dangling":
            root.symlink_to(places / "gone")
    done = hako("start", write_file(f"config.chroot_to({str(root)!r})"), status=125)
    assert f"the rootfs {root} " in done.stderr
    assert "box.haco.py:4: " in done.stderr


def test_mounts_private_dev_and_names(hako: Hako, box: Writer) -> None:
    found = sh(hako, box(), "ls /dev; ls -l /dev/null /dev/ptmx; stat -c %a /dev/shm /dev/null; cat /proc/mounts")
    names = found.split("crw")[0].split()
    assert names == "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero".split()
    assert "/dev/ptmx -> pts/ptmx" in found
    assert "1777\n666\n" in found
    mounts = {line.split()[1]: line.split()[3] for line in found.splitlines() if line.count(" ") == 5}
    assert mounts["/proc"].startswith("rw,nosuid,nodev,noexec")
    assert mounts["/sys"].startswith("ro,nosuid,nodev,noexec")
    assert "nodev" in mounts["/"]
    assert mounts["/dev/pts"].startswith("rw,nosuid,noexec")


def test_bind_mounts(hako: Hako, box: Writer, places: Path) -> None:
    (places / "data" / "sub").mkdir(parents=True)
    (places / "data" / "file").write_text("content\n")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(places / "data" / "sub")], check=True)
    try:
        path = box(
            'config.add_mount_point("data", to="/rw/made/here")\n'
            'config.add_mount_point("data", to="/ro", readonly=True)\n'
            'config.add_mount_point("data/file", to="/etc/one")\n'
            'config.add_mount_point("tmpfs", to="/t", fs="tmpfs", options="size=1m,mode=700,noexec")\n'
        )
        found = sh(
            hako,
            path,
            "cat /ro/file /etc/one; echo new > /rw/made/here/new; touch /ro/x /ro/sub/x 2>&1; stat -c %a /t;"
            "touch /rw/made/here/sub/x && echo sub",
        )
    finally:
        subprocess.run(["umount", str(places / "data" / "sub")], check=True)
    assert found.count("content\n") == 2
    assert found.count("Read-only file system") == 2
    assert found.endswith("700\nsub\n")
    assert (places / "data" / "new").read_text() == "new\n"


def test_rootfs_readonly(hako: Hako, box: Writer) -> None:
    found = sh(hako, box("config.rootfs.readonly = True"), "touch /x 2>&1; touch /dev/shm/x && echo shm")
    assert "Read-only file system" in found
    assert found.endswith("shm\n")


def test_another_source_as_the_rootfs(hako: Hako, box: Writer, rootfs: Path, places: Path) -> None:
    (places / "other").mkdir()
    path = box(f'config.add_mount_point({str(rootfs)!r}, to="/", readonly=True)\nconfig.chroot_to("other")')
    assert "Read-only" in sh(hako, path, "touch /x 2>&1; true")


def test_network_etc(hako: Hako, box: Writer, rootfs: Path, places: Path) -> None:
    (places / "etc").mkdir()
    (places / "etc" / "hosts").write_text("1.2.3.4 h\n")
    (places / "etc" / "resolv.conf").write_text("nameserver 1.2.3.4\n")
    (rootfs / "etc" / "resolv.conf").symlink_to("../run/resolve/stub.conf")
    found = sh(
        hako, box(f"config.mount_network_etc(host_root={str(places / 'etc')!r})"), "cat /etc/hosts /etc/resolv.conf"
    )
    assert found == "1.2.3.4 h\nnameserver 1.2.3.4\n"


def test_a_network_namespace_has_lo_and_nothing_else(hako: Hako, box: Writer) -> None:
    found = sh(
        hako, box('config.namespace.unshare("net")'), "ls /sys/class/net; ip -o addr; ping -c1 127.0.0.1 >&2; true"
    )
    links = found.split("1: lo")[0].split()
    assert "lo" in links
    assert "eth0" not in links
    assert "inet 127.0.0.1/8" in found


def test_shared_namespaces(hako: Hako, box: Writer) -> None:
    def own(kind: str) -> str:
        return os.readlink(f"/proc/self/ns/{kind}")

    body = 'config.namespace.share("ipc", "uts", "pid")\nconfig.add_mount_point("/proc", to="/proc")'
    found = sh(hako, box(body, mounts=False), "for n in ipc uts pid mnt; do readlink /proc/$$/ns/$n; done").split()
    assert found[:3] == [own("ipc"), own("uts"), own("pid")]
    assert found[3] != own("mnt")


def test_cgroup_and_time_namespaces(hako: Hako, box: Writer) -> None:
    found = sh(
        hako,
        box('config.namespace.unshare("cgroup", "time")'),
        "readlink /proc/self/ns/cgroup; readlink /proc/self/ns/time",
    ).split()
    assert found[0] != os.readlink("/proc/self/ns/cgroup")
    assert found[1] != os.readlink("/proc/self/ns/time")


def test_without_a_pid_namespace_everything_ends_all_the_same(hako: Hako, box: Writer) -> None:
    path = box('config.namespace.share("pid")', mounts=False)
    sh(hako, path, "sleep 1000 & (setsid sleep 1000 &) ; exit 4", 4)


def test_limits_and_capabilities(hako: Hako, box: Writer) -> None:
    body = 'config.resource.set_limit("NOFILE", 50, 60)\nconfig.capabilities.allow("net_raw")\nconfig.capabilities.drop("kill")'
    found = sh(hako, box(body), "ulimit -n; ulimit -Hn; grep -E 'Cap|NoNew' /proc/self/status")
    lines = dict(line.split(":\t") for line in found.splitlines() if ":" in line)
    assert found.startswith("50\n60\n")
    assert lines["CapEff"] == lines["CapPrm"] == lines["CapBnd"]
    names = set(decoded(lines["CapEff"]))
    assert "cap_net_raw" in names
    assert "cap_kill" not in names
    assert "cap_sys_admin" not in names
    assert int(lines["CapInh"], 16) == int(lines["CapAmb"], 16) == 0
    assert lines["NoNewPrivs"] == "1"


def decoded(bits: str) -> list[str]:
    from hakoniwa.kernel.security import capabilities

    return capabilities.names(int(bits, 16))


def test_capabilities_of_another_user(hako: Hako, box: Writer) -> None:
    found = sh(hako, box("config.uid = 1000\nconfig.no_new_privs = False"), "grep -E 'Cap|NoNew' /proc/self/status")
    lines = dict(line.split(":\t") for line in found.splitlines())
    assert int(lines["CapEff"], 16) == int(lines["CapPrm"], 16) == int(lines["CapAmb"], 16) == 0
    assert "cap_chown" in decoded(lines["CapBnd"])
    assert lines["NoNewPrivs"] == "0"


def test_everything_that_the_caller_has(hako: Hako, box: Writer) -> None:
    found = sh(
        hako,
        box('config.capabilities.reset_to_privileged(); config.capabilities.drop("sys_boot")'),
        "grep CapEff /proc/self/status",
    )
    assert set(decoded(found.split()[1])) == set(held_capabilities()) - {"cap_sys_boot"}


def test_legacy_chroot(hako: Hako, box: Writer) -> None:
    found = sh(
        hako,
        box("config.filesystem.use_legacy_chroot = True"),
        "ls /bin/busybox; grep CapEff /proc/self/status; hostname",
    )
    assert "cap_sys_chroot" not in decoded(found.split()[2])
    assert found.endswith("box\n")


def test_redirected_streams(hako: Hako, box: Writer, rootfs: Path, places: Path) -> None:
    (places / "in").write_text("given\n")
    (rootfs / "tmp" / "out").write_text("before\n")
    (rootfs / "tmp" / "out").chmod(0o666)
    body = (
        'config.command.set_stdin(host_file="in")\nconfig.command.set_stdout(file="/tmp/out")\n'
        'config.command.set_stderr(host_file="err")\nconfig.uid = "alice"'
    )
    done = hako("start", box(body), "--", "sh", "-c", "cat; echo no >&2")
    assert done.stdout == done.stderr == ""
    assert (rootfs / "tmp" / "out").read_text() == "before\ngiven\n"
    assert (places / "err").read_text() == "no\n"


def test_a_file_inside_is_opened_as_the_containers_user(hako: Hako, box: Writer) -> None:
    body = 'config.command.set_stdout(file="/etc/passwd")\nconfig.uid = "alice"'
    assert "Permission denied" in hako("start", box(body), "--", "true", status=125).stderr


@pytest.mark.parametrize("init", INITS)
def test_an_init_before_the_command(hako: Hako, box: Writer, init: str) -> None:
    path = box(f"config.init = {init!r}")
    found = sh(hako, path, "echo $$; cat /proc/1/comm; (sleep 0 &); exit 9", 9).split()
    assert found[0] != "1"
    assert found[1].endswith(init)
    assert "there is no program 'nope'" in hako("start", path, "--", "nope", status=127).stderr


def test_the_default_command_is_a_shell(hako: Hako, box: Writer) -> None:
    assert hako("start", box(), input="echo from the shell").stdout == "from the shell\n"


def test_workdir(hako: Hako, box: Writer) -> None:
    assert sh(hako, box('config.workdir = "/usr/bin"'), "pwd") == "/usr/bin\n"


def test_start_dry_run_takes_no_step(hako: Hako, box: Writer, places: Path) -> None:
    found = hako("start", "--dry-run", box('config.add_mount_point("/no/such", to="/mnt")')).stdout
    assert "box: bind /no/such on /mnt\n" in found
    assert not (places / "run").exists()


def test_validate_real_id(hako: Hako, box: Writer) -> None:
    body = "@config.validate_real_id\ndef f(uid, gid):\n    return uid == 4242"
    assert "uid 0, gid 0 may not run this file" in hako("start", box(body), "--", "true", status=125).stderr


def test_the_pid_file_holds_the_supervisor(hako: Hako, box: Writer, places: Path) -> None:
    path = box('config.container_pid_file = "box.pid"')
    hako("start", "-D", path, "--", "sleep", "1000")
    (known,) = json.loads(hako("ps", "--json").stdout)["containers"]
    assert int((places / "box.pid").read_text()) == known["supervisor_pid"]
    hako("kill", path)
    assert not (places / "box.pid").exists()


def test_start_is_also_called_run(hako: Hako, box: Writer) -> None:
    assert hako("run", box(), "--", "echo", "x").stdout == "x\n"
