"""Each test is an attack. Where it can be shown, it is shown to work without the defence."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.plan.container import MASKED, READONLY
from tests.conftest import HAKO, Hako

Writer = Callable[..., Path]


def sh(hako: Hako, path: Path, script: str, status: int | None = 0) -> str:
    return hako("start", path, "--", "sh", "-c", script, status=status).stdout


def replace_by_link(path: Path, target: str) -> None:
    """Put a symlink in the place of a folder or file of the rootfs."""
    subprocess.run(["rm", "-rf", "--", str(path)], check=True)
    path.symlink_to(target)


# Mount targets that lead out (CVE-2021-30465, CVE-2025-31133, CVE-2025-52565, CVE-2025-52881)


@pytest.mark.parametrize("name", ["proc", "sys", "dev", "mnt", "etc"])
@pytest.mark.parametrize("link", ["{outside}", "../../../../../../../../..{outside}"])
def test_a_mount_target_that_is_a_symlink_stays_inside(
    hako: Hako, box: Writer, rootfs: Path, places: Path, name: str, link: str
) -> None:
    outside = places / "outside"
    outside.mkdir()
    replace_by_link(rootfs / name, link.format(outside=outside))
    # Without the defence: the host's own resolution leads out.
    assert os.path.realpath(rootfs / name) == str(outside)
    path = box('config.add_mount_point("tmpfs", to="/mnt/x", fs="tmpfs")\nconfig.mount_network_etc()')
    mounts = sh(hako, path, "cat /proc/mounts")
    assert os.listdir(outside) == []
    assert f"{outside}" in mounts  # it was followed inside, where the same path was made
    assert (rootfs / str(outside).lstrip("/")).is_dir()


def test_a_chain_of_links_in_the_place_of_a_device(hako: Hako, box: Writer, rootfs: Path, places: Path) -> None:
    victim = places / "victim"
    victim.write_text("untouched")
    (rootfs / "dev").mkdir(exist_ok=True)
    for name in ("null", "ptmx", "pts"):
        (rootfs / "dev" / name).symlink_to(victim)
    found = sh(hako, box(), "echo x > /dev/null; ls -l /dev/null; : > /proc/kcore; wc -c < /proc/keys", status=None)
    assert "1,   3" in found
    assert victim.read_text() == "untouched"


def test_targets_that_are_swapped_all_the_time(hako: Hako, box: Writer, rootfs: Path, places: Path) -> None:
    outside = places / "outside"
    outside.mkdir()
    code = f"""
import os
a, b = {str(rootfs / "mnt")!r}, {str(rootfs / "other")!r}
os.symlink({str(outside)!r}, b)
os.makedirs(a, exist_ok=True)
print("go", flush=True)
import ctypes
libc = ctypes.CDLL(None)
while True:
    libc.renameat2(-100, a.encode(), -100, b.encode(), 2)
"""
    swapper = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert swapper.stdout is not None
    swapper.stdout.readline()
    try:
        path = box('config.add_mount_point("tmpfs", to="/mnt/deep/er", fs="tmpfs")')
        for _ in range(30):
            hako("start", path, "--", "true", status=None)
    finally:
        swapper.kill()
        swapper.communicate()
    assert os.listdir(outside) == []


def test_passwd_as_a_link_to_the_host_s(hako: Hako, box: Writer, rootfs: Path, places: Path) -> None:
    (places / "passwd").write_text("intruder:x:0:0::/:/bin/sh\n")
    replace_by_link(rootfs / "etc" / "passwd", f"{'../' * 20}{str(places / 'passwd').lstrip('/')}")
    assert (rootfs / "etc" / "passwd").read_text().startswith("intruder")  # outside it leads there
    told = hako("start", box('config.uid = "intruder"'), "--", "true", status=125).stderr
    assert "user 'intruder' is not in the rootfs's /etc/passwd" in told


@pytest.mark.parametrize("kind", ["fifo", "huge", "folder"])
def test_a_passwd_file_that_would_hang_or_fill_the_memory(hako: Hako, box: Writer, rootfs: Path, kind: str) -> None:
    passwd = rootfs / "etc" / "passwd"
    passwd.unlink()
    match kind:
        case "fifo":
            os.mkfifo(passwd)
        case "huge":
            with open(passwd, "wb") as file:
                file.truncate(1 << 40)
        case "folder":
            passwd.mkdir()
    assert "cannot look up the user" in hako("start", box(), "--", "true", status=125).stderr


# The interpreter of the host (CVE-2019-5736)


def test_the_host_interpreter_cannot_be_reached_through_proc_self_exe(hako: Hako, box: Writer, rootfs: Path) -> None:
    evil = rootfs / "bin" / "evil"
    evil.write_text("#!/proc/self/exe\nprint('the interpreter ran')\n")
    evil.chmod(0o755)
    interpreter = Path(os.path.realpath(sys.executable))
    before = hashlib.sha256(interpreter.read_bytes()).digest()
    # Without the defence: such a script executes what executes it, here the interpreter.
    direct = subprocess.run(
        [sys.executable, "-c", f"import os; os.execv({str(evil)!r}, ['evil'])"],
        capture_output=True,
        text=True,
    )
    assert direct.stdout == "the interpreter ran\n"
    assert hako("start", box(), "--", "/bin/evil", status=126).stdout == ""
    hako("start", "-D", box(), "--", "sleep", "1000")
    assert hako("attach", box(), "--", "/bin/evil", status=126).stdout == ""
    hako("kill", box())
    assert hashlib.sha256(interpreter.read_bytes()).digest() == before


@pytest.mark.parametrize(
    "body",
    [
        "",
        'config.namespace.unshare("user")\nconfig.capabilities.allow("all")\nconfig.seccomp.profile = None',
    ],
)
def test_an_attaching_process_cannot_be_looked_into(hako: Hako, box: Writer, rootfs: Path, body: str) -> None:
    """A process inside looks at every newcomer's executable and descriptors as fast as it can, and opens what it can."""
    spy = "while [ ! -e /tmp/stop ]; do for p in /proc/[0-9]*; do readlink $p/exe; ls -l $p/fd; done; done 2>/dev/null >> /tmp/seen"
    path = box(body)
    hako("start", "-D", path, "--", "sh", "-c", spy)
    for _ in range(30):
        hako("attach", path, "--", "true")
    (rootfs / "tmp" / "stop").write_text("")
    hako("kill", path)
    seen = (rootfs / "tmp" / "seen").read_text()
    assert "busybox" in seen
    assert "python" not in seen
    assert str(HAKO.parent) not in seen


# Descriptors and the working folder (CVE-2024-21626)


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 8, 9, 10])
def test_the_working_folder_leads_through_no_descriptor(hako: Hako, box: Writer, number: int) -> None:
    told = hako("start", box(f'config.workdir = "/proc/self/fd/{number}"'), "--", "sh", "-c", "pwd; ls ..", status=125)
    assert "cannot enter the folder" in told.stderr


# What is left of the host


def test_the_old_root_is_gone(hako: Hako, box: Writer, places: Path) -> None:
    (places / "mark").write_text("x")
    script = f"cd /; for i in 1 2 3 4 5 6 7 8; do cd ..; done; ls .{places}/mark; ls /proc/1/cwd/"
    done = hako("start", box(), "--", "sh", "-c", script, status=None)
    assert "mark" not in done.stdout.replace("No such file", "")
    assert "bin" in done.stdout


def test_chroot_twice_is_refused_in_a_legacy_chroot(hako: Hako, box: Writer, rootfs: Path, places: Path) -> None:
    (places / "mark").write_text("x")
    script = "mkdir -p /tmp/a; chroot /tmp/a /bin/true; echo $?"
    legacy = box("config.filesystem.use_legacy_chroot = True")
    assert "Operation not permitted" in hako("start", legacy, "--", "sh", "-c", script).stderr


SECRETS = "cat /etc/shadow /etc/gshadow; ls -a /root /home; ls /etc/ssh; cat /etc/ssh/ssh_host_*; ls /var/backups"


def test_secrets_of_the_host_are_not_in_its_copy(hako: Hako, write_file: Writer, places: Path) -> None:
    path = write_file('config.bootstrap.strategy = "host"')
    mark = Path("/root") / f".hakoniwa-test-{os.getpid()}"
    key = Path("/etc/ssh") / f"ssh_host_test{os.getpid()}_key"
    shadow = Path("/etc") / f"shadow.test{os.getpid()}"
    made = not key.parent.exists()
    try:
        mark.write_text("secret in root")
        hako("create", path)
        key.parent.mkdir(exist_ok=True)  # these two appear after the rootfs was made
        key.write_text("secret key")
        shadow.write_text("root:$6$secret:1::::::\n")
        found = sh(hako, path, SECRETS + f"; cat {shadow} {mark} {key}", status=None)
    finally:
        for one in (mark, key, shadow):
            one.unlink(missing_ok=True)
        if made:
            key.parent.rmdir()
    assert "secret" not in found
    assert "$" not in found.replace("$USER", "")
    assert "root:*:" in found
    hako("rm", "--rootfs", path)


def test_a_container_that_turns_etc_into_a_link_gains_nothing(hako: Hako, write_file: Writer, places: Path) -> None:
    """The hiding of what has newly appeared works on a layer that is the container's: it must not follow its links."""
    outside = places / "outside"
    outside.mkdir()
    path = write_file('config.bootstrap.strategy = "host"')
    hako("create", path)
    upper = places / "lib" / "box" / "upper"
    subprocess.run(["rm", "-rf", str(upper / "etc")], check=True)
    (upper / "etc").symlink_to(outside)
    hako("start", path, "--", "/bin/true", status=None)
    assert os.listdir(outside) == []


def test_nothing_of_the_host_can_be_changed_from_its_copy(hako: Hako, write_file: Writer) -> None:
    path = write_file('config.bootstrap.strategy = "host"\nconfig.mount_independent("procfs", "sysfs", "devtmpfs")')
    victim = Path("/etc") / f"hakoniwa-test-{os.getpid()}"
    victim.write_text("untouched")
    victim.chmod(0o600)
    try:
        script = f"echo x > {victim}; chmod 777 {victim}; chown 7 {victim}; "
        script += f"ln {victim} /etc/hard && echo y >> /etc/hard; rm {victim}"
        hako("create", path)
        sh(hako, path, script, status=None)
        assert victim.read_text() == "untouched"
        assert stat.S_IMODE(victim.stat().st_mode) == 0o600
        assert victim.stat().st_uid == 0
    finally:
        victim.unlink()


@pytest.mark.parametrize("path", MASKED)
def test_masked_paths_show_nothing_and_cannot_be_laid_bare(hako: Hako, box: Writer, path: str) -> None:
    if not os.path.exists(path):
        pytest.skip(f"this kernel has no {path}")
    file = box('config.capabilities.allow("sys_chroot")')
    mode = os.stat("/dev/null").st_mode
    found = sh(
        hako,
        file,
        f"cat {path}; ls -A {path} | grep -v {path}; umount {path}; chmod 0 {path}; chown 7 {path}",
        status=None,
    )
    assert found == ""
    assert os.stat("/dev/null").st_mode == mode
    assert os.stat("/dev/null").st_uid == 0


@pytest.mark.parametrize("path", READONLY)
def test_every_file_below_a_read_only_path_is_read_only(hako: Hako, box: Writer, path: str) -> None:
    if not os.path.exists(path):
        pytest.skip(f"this kernel has no {path}")
    body = 'config.capabilities.allow("dac_override")\nconfig.namespace.unshare("net")'
    script = f"find {path} -type f | while read f; do ( : >> $f ) && echo open $f; done 2>&1 | grep -v 'Read-only file system'"
    found = hako("start", box(body), "--", "sh", "-c", script, status=None).stdout
    # A file of ours that another namespace may write to is denied for its own reason.
    assert [line for line in found.splitlines() if line.startswith("open")] == []


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/uevent_helper",
        "/sys/power/state",
    ],
)
def test_what_can_change_the_host_is_read_only(hako: Hako, box: Writer, path: str) -> None:
    if not os.path.exists(path):
        pytest.skip(f"this kernel has no {path}")
    done = hako("start", box(), "--", "sh", "-c", f"echo x > {path}", status=None)
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr


def test_masked_and_read_only_paths_of_ones_own(hako: Hako, box: Writer) -> None:
    body = "f = config.filesystem\nf.add_masked_path('/etc/passwd'); f.add_readonly_path('/etc'); f.add_masked_path('/usr')"
    found = sh(hako, box(body), "cat /etc/passwd; ls /usr; touch /etc/x 2>&1; true")
    assert found.strip() == "touch: /etc/x: Read-only file system"


# Privileges


def test_no_way_to_a_device(hako: Hako, box: Writer, rootfs: Path) -> None:
    os.mknod(rootfs / "disk", stat.S_IFBLK | 0o666, os.stat("/").st_dev)
    os.mknod(rootfs / "memory", stat.S_IFCHR | 0o666, os.makedev(1, 1))
    script = "head -c1 /disk; head -c1 /memory; mknod /dev/sda b 254 0 && head -c1 /dev/sda"
    done = hako("start", box(), "--", "sh", "-c", script, status=None)
    assert done.stdout == ""
    assert done.stderr.count("Permission denied") == 2
    assert "Operation not permitted" in done.stderr


def openable() -> tuple[str, int, int]:
    """Kind and number of a device that the host can open, and that no container has."""
    for entry in Path("/dev").iterdir():
        status = entry.lstat()
        kind = {stat.S_IFBLK: "b", stat.S_IFCHR: "c"}.get(stat.S_IFMT(status.st_mode))
        if kind is None or os.major(status.st_rdev) in (1, 4, 5, 136):
            continue
        try:
            os.close(os.open(entry, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY))
        except OSError:
            continue
        return kind, os.major(status.st_rdev), os.minor(status.st_rdev)
    pytest.skip("this kernel has no device that can be opened")


def test_what_cap_mknod_opens(hako: Hako, box: Writer) -> None:
    """Without the defence: the private /dev has devices, and whoever may make nodes there has all of the host's."""
    kind, major, minor = openable()
    script = f"mknod /dev/made {kind} {major} {minor} && ( : < /dev/made ) && echo opened"
    assert hako("start", box('config.capabilities.allow("mknod")'), "--", "sh", "-c", script).stdout == "opened\n"
    assert hako("start", box(), "--", "sh", "-c", script, status=None).stdout == ""
    inner = box('config.capabilities.allow("mknod")\nconfig.namespace.unshare("user")')
    done = hako("start", inner, "--", "sh", "-c", script, status=None)
    assert done.stdout == ""
    assert "Operation not permitted" in done.stderr


def test_a_setuid_program_gains_nothing(hako: Hako, box: Writer, rootfs: Path) -> None:
    program = rootfs / "bin" / "suid"
    source = b'#include <stdio.h>\n#include <unistd.h>\nint main(void) { printf("%d\\n", geteuid()); return 0; }\n'
    subprocess.run(["gcc", "-static", "-xc", "-o", str(program), "-"], input=source, check=True)
    program.chmod(0o4755)
    assert hako("start", box("config.uid = 1000"), "--", "suid").stdout == "1000\n"
    allowed = box("config.uid = 1000\nconfig.no_new_privs = False")  # without the defence
    assert hako("start", allowed, "--", "suid").stdout == "0\n"


def test_every_capability_that_is_not_given_is_gone_the_newest_too(hako: Hako, box: Writer) -> None:
    found = sh(hako, box('config.capabilities.drop("all")'), "grep Cap /proc/self/status")
    assert {line.split()[1] for line in found.splitlines()} == {"0" * 16}


def test_supplementary_groups_of_the_caller_are_gone(hako: Hako, box: Writer) -> None:
    code = f"import os, sys; os.setgroups([4, 27, 100]); os.execv({str(HAKO)!r}, ['hako', *sys.argv[1:]])"
    done = subprocess.run(
        [sys.executable, "-c", code, "start", str(box("config.uid = 4242")), "--", "id", "-G"],
        cwd=hako.folder,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "4242\n"


def test_characters_cannot_be_typed_into_the_users_terminal(hako: Hako, box: Writer) -> None:
    """TIOCSTI needs the terminal as the controlling one: a container has a session of its own."""
    found = sh(hako, box(), "cat /proc/self/stat")
    session, terminal = found.rpartition(")")[2].split()[3:5]
    assert (session, terminal) == ("1", "0")


# What surrounds the command


@pytest.mark.parametrize("name", ["os.py", "prctl.py", "hakoniwa.py", "sitecustomize.py"])
def test_a_hostile_folder_and_environment(hako: Hako, box: Writer, places: Path, name: str) -> None:
    folder = places / "hostile"
    folder.mkdir()
    (folder / name).write_text(f"open({str(places / 'executed')!r}, 'w')\n")
    # Without the defence: an ordinary interpreter loads it.
    if name not in ("os.py", "hakoniwa.py"):
        subprocess.run(
            [sys.executable, "-c", f"import {name[:-3]}"], env={"PYTHONPATH": str(folder)}, capture_output=True
        )
        assert (places / "executed").exists()
        (places / "executed").unlink()
    path = box()
    for launcher in ([str(HAKO)], [sys.executable, "-c", "from hakoniwa.cli import main; main()"]):
        if launcher[0] == sys.executable and name in ("sitecustomize.py", "hakoniwa.py"):
            continue  # loaded by the interpreter before any line of ours
        done = subprocess.run(
            [*launcher, "start", str(path), "--", "true"],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "PYTHONSTARTUP": str(folder / name)}
            | {key: value for key, value in os.environ.items() if key.startswith("HAKONIWA")},
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
    assert not (places / "executed").exists()


def test_code_of_the_rootfs_is_not_loaded(hako: Hako, box: Writer, rootfs: Path) -> None:
    """CVE-2019-14271: looking up users, codecs or modules after the root was entered loads what lies there, as root."""
    for folder in (
        "usr/lib/python3.11",
        "usr/lib/python3.11/encodings",
        *(p.lstrip("/") for p in sys.path if "site-pack" in p),
    ):
        (rootfs / folder).mkdir(parents=True, exist_ok=True)
        for name in ("socket", "pwd", "json", "traceback", "linecache", "idna", "_prctl", "resource"):
            (rootfs / folder / f"{name}.py").write_text("open('/tmp/executed', 'w')\n")
    (rootfs / "etc" / "nsswitch.conf").write_text("passwd: evil\n")
    body = 'config.uid = "alice"\nconfig.resource.set_limit("NOFILE", 50)\nconfig.namespace.unshare("net")'
    path = box(body)
    hako("start", path, "--", "true")
    hako("start", path, "--", "nope", status=127)
    hako("start", "-D", path, "--", "sleep", "1000")
    hako("attach", path, "-u", "bob", "--", "true", status=125)
    hako("attach", path, "--", "true")
    hako("kill", path)
    assert not (rootfs / "tmp" / "executed").exists()


def test_terminal_escapes_do_not_reach_the_terminal(hako: Hako, box: Writer, write_file: Writer) -> None:
    told = hako("start", box(), "--", "\x1b[2Jnope\r\n", status=127).stderr
    assert "\x1b" not in told
    assert r"\x1b[2Jnope\r\n" in told
    told = hako("check", write_file('raise ValueError("\\x1b]0;title\\x07")'), status=125).stderr
    assert "\x1b" not in told
    path = box('config.metadata["x"] = "\\x1b[2J"')
    hako("start", path, "--", "true")
    assert "\x1b" not in hako("status", path).stdout + hako("ps", "-a").stdout


def test_values_are_never_options(hako: Hako, write_file: Writer, places: Path) -> None:
    (places / "--help").write_text("")
    path = write_file('config.bootstrap.strategy = "tarball"\nconfig.bootstrap.archive_path = "--help"')
    told = hako("create", path, status=125).stderr
    assert "tar failed with exit status" in told
    assert "Usage" not in told


def test_a_tarball_that_climbs_out(hako: Hako, write_file: Writer, places: Path) -> None:
    import io
    import tarfile

    archive = places / "evil.tar"
    with tarfile.open(archive, "w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(places)
        tar.addfile(link)
        for name in (f"{places}/absolute", "../../climbed", "link/followed"):
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
    path = write_file('config.bootstrap.strategy = "tarball"\nconfig.bootstrap.archive_path = "evil.tar"')
    hako("create", path, status=None)
    assert not any((places / name).exists() for name in ("absolute", "climbed", "followed"))
    assert not (places / "lib" / "climbed").exists()


def test_state_is_closed_to_others(hako: Hako, box: Writer, places: Path) -> None:
    hako("start", "-D", box(), "--", "sleep", "1000")
    for folder in ("run", "run/box", "log"):
        assert stat.S_IMODE((places / folder).stat().st_mode) == 0o700
    for file in ("run/box/state.json", "run/box/lock", "log/box.log"):
        assert stat.S_IMODE((places / file).stat().st_mode) == 0o600
    hako("kill", "-n", "box")


def test_a_state_with_a_recycled_pid_harms_nobody(hako: Hako, box: Writer, places: Path) -> None:
    path = box()
    hako("start", path, "--", "true")
    bystander = subprocess.Popen(["sleep", "1000"])
    file = places / "run" / "box" / "state.json"
    state = json.loads(file.read_text())
    for who in ("", "supervisor_"):
        state[f"{who}pid"] = bystander.pid
        state[f"{who}started"] -= 1  # the bystander may have started within the same hundredth of a second
    state["status"] = "running"
    file.write_text(json.dumps(state))
    try:
        assert "nothing is running" in hako("kill", path).stderr
        hako("start", path, "--", "true")
        hako("gc")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_set_uid_use_is_refused(hako: Hako, places: Path) -> None:
    code = f"import os, sys; os.setresuid(1000, 0, 0); os.execv({str(HAKO)!r}, ['hako', 'version'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 125
    assert "refusing to run set-uid" in done.stderr


def test_a_state_folder_of_somebody_else_is_refused(hako: Hako, box: Writer, places: Path) -> None:
    (places / "run").mkdir()
    (places / "run").chmod(0o777)
    told = hako("start", box(), "--", "true", status=125).stderr
    assert f"the folder {places}/run is not ours alone (chown 0 " in told
    (places / "run").chmod(0o700)
    hako("start", box(), "--", "true")
