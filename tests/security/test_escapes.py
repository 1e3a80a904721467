"""Ways out of a container, and to what belongs to the host or to others on it. Each is shown to work without the defence."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hakoniwa.kernel import cgroup
from hakoniwa.kernel.security import capabilities
from hakoniwa.kernel.security.callnames import BY_CAPABILITY, NEVER
from tests.conftest import HAKO, Hako

Writer = Callable[..., Path]
USER = 'config.namespace.unshare("user", "net", "cgroup")\n'
OPEN = 'config.capabilities.allow("all")\nconfig.seccomp.profile = None\n'
SOURCE = Path(__file__).with_name("probe.c")


@pytest.fixture(scope="session")
def built_probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that makes the attacks no shell can make."""
    program = tmp_path_factory.mktemp("probe") / "probe"
    subprocess.run(["gcc", "-static", "-o", program, SOURCE], check=True)
    return program


@pytest.fixture
def probe(built_probe: Path, rootfs: Path) -> Path:
    """It, in the rootfs as well."""
    shutil.copy(built_probe, rootfs / "bin" / "probe")
    return built_probe


# System calls

ABIS = ["native", "i386", "x32"] if os.uname().machine == "x86_64" else ["native"]
SHUT = sorted(
    {call for name, calls in BY_CAPABILITY.items() if name not in capabilities.DEFAULT for call in calls} | set(NEVER)
)


def numbers(abi: str) -> dict[int, str]:
    import pyseccomp

    arch = {"native": pyseccomp.Arch.NATIVE, "i386": getattr(pyseccomp.Arch, "X86", 0), "x32": pyseccomp.Arch.NATIVE}[
        abi
    ]
    found = {pyseccomp.resolve_syscall(arch, name): name for name in SHUT}
    return {number: name for number, name in found.items() if number >= 0}


def made_calls(hako: Hako, path: Path, abi: str) -> dict[str, str]:
    """What each call that the default profile shuts says inside."""
    known = numbers(abi)
    done = hako("start", path, "--", "probe", "call", abi, *map(str, known), status=None)
    lines = [line.split() for line in done.stdout.splitlines()]
    return {known[int(number)]: result for number, _, result in lines}


@pytest.mark.parametrize("abi", ABIS)
def test_every_call_that_the_profile_shuts_is_shut_through_every_abi(
    hako: Hako, box: Writer, probe: Path, abi: str
) -> None:
    # Without the defence (and with all capabilities, which would refuse as well) the kernel looks at the arguments.
    free = made_calls(hako, box(USER + OPEN), abi)
    looked_at = {name for name, result in free.items() if result in ("EFAULT", "EINVAL", "EBADF", "done", "E2BIG")}
    assert len(looked_at) > 30 or abi == "x32"
    shut = made_calls(hako, box(), abi)
    assert set(shut) == set(free)
    assert set(shut.values()) <= {"EPERM", "ENOSYS"}
    assert shut["clone3"] == "ENOSYS"


def test_namespaces_cannot_be_made_by_clone_or_unshare(hako: Hako, box: Writer) -> None:
    script = "unshare -U true; unshare -m true; unshare -n true"
    done = hako("start", box(), "--", "sh", "-c", script, status=None)
    assert done.stderr.count("Operation not permitted") == 3
    free = hako("start", box("config.seccomp.profile = None"), "--", "unshare", "-U", "true", status=None)
    assert free.returncode == 0  # without the defence


@pytest.mark.parametrize(
    ("family", "harmless"), [(socket.AF_VSOCK, False), (socket.AF_ALG, False), (socket.AF_INET, True)]
)
def test_no_socket_to_the_hypervisor_or_the_kernel_s_cryptography(
    hako: Hako, box: Writer, probe: Path, family: int, harmless: bool
) -> None:
    """The kernel takes the lower half of the argument; i386's socketcall has it in memory, where no filter sees it."""
    free = hako("start", box("config.seccomp.profile = None"), "--", "probe", "socket", str(int(family))).stdout
    if "plain EAFNOSUPPORT" in free:
        pytest.skip("this kernel has no such sockets")
    # Without the defence; AF_ALG knows no SOCK_STREAM, and says so after it was found.
    assert set(free.split()[1::2]) <= {"done", "ESOCKTNOSUPPORT"}
    shut = hako("start", box(), "--", "probe", "socket", str(int(family))).stdout
    told = dict(zip(shut.split()[::2], shut.split()[1::2], strict=True))
    assert told.pop("socketcall", "ENOSYS") == "ENOSYS"
    assert set(told.values()) == ({"done"} if harmless else {"EAFNOSUPPORT"})


# Control groups (CVE-2022-0492)


def test_no_release_agent_can_be_set(hako: Hako, box: Writer) -> None:
    """A v1 hierarchy's release_agent is a program that the host's kernel executes as root."""
    script = """
        mkdir /tmp/c
        for c in memory cpu pids freezer rdma cpuset devices; do
            mount -t cgroup -o $c none /tmp/c || continue
            echo mounted $c
            echo /evil > /tmp/c/release_agent && echo SET
            umount /tmp/c
        done
        for f in $(find /sys/fs/cgroup /tmp -name release_agent -o -name notify_on_release); do echo 1 > $f && echo SET; done
        true
    """
    agents = {root: Path(root, "release_agent") for root in cgroup.find_hierarchies().v1.values()}
    before = {root: file.read_text() for root, file in agents.items() if file.exists()}
    # Root with every capability and no user namespace is root of the host: docs/security.md.
    for body in ("", USER + OPEN, 'config.mount_independent("cgroup")\nconfig.limit(pids=99)'):
        done = hako("start", box(body), "--", "sh", "-c", script, status=None)
        assert "SET" not in done.stdout, body
    assert {root: agents[root].read_text() for root in before} == before


def test_no_group_of_the_host_can_be_written_to(hako: Hako, box: Writer) -> None:
    script = "find / -type f '(' -name 'cgroup.*' -o -name '*.max' -o -name tasks ')' 2>/dev/null"
    script += " | grep cgroup | while read f; do ( : >> $f ) 2>/dev/null && echo $f; done; true"
    assert hako("start", box(), "--", "sh", "-c", script).stdout == ""
    found = hako("start", box(USER + 'config.mount_independent("cgroup")'), "--", "sh", "-c", script).stdout
    # Its own, which is delegated to it: but for its limits.
    assert {Path(path).name for path in found.split()} == {"cgroup.procs", "cgroup.threads", "cgroup.subtree_control"}


def test_a_process_cannot_move_itself_to_a_group_of_the_host(hako: Hako, box: Writer) -> None:
    """Out of its own group, it would be out of its limits."""
    root = str(cgroup.find_hierarchies().v2)
    script = "cat /proc/self/cgroup | grep ^0::; for d in $(find / -name cgroup.procs 2>/dev/null); do"
    script += " echo $$ > $d 2>/dev/null; done; cat /proc/self/cgroup | grep ^0::"
    limit = '\nconfig.cgroup.v2["cgroup.max.depth"] = 5'
    bound = box(f"config.add_mount_point({root!r}, to='/cg'){limit}")
    moved = hako("start", bound, "--", "sh", "-c", "echo $$ > /cg/cgroup.procs; grep ^0:: /proc/self/cgroup").stdout
    assert moved == "0::/\n"  # without the defence: the host's own hierarchy, which the file itself has shown
    for body, group in (("", "0::/hakoniwa-box"), (USER + 'config.mount_independent("cgroup")', "0::/")):
        found = hako("start", box(body + limit), "--", "sh", "-c", script, status=None).stdout.split()
        assert found == [group, group]


# Terminals


def test_nothing_can_be_typed_into_the_user_s_terminal(hako: Hako, box: Writer, probe: Path) -> None:
    """TIOCSTI and TIOCLINUX put characters where the user's shell reads them after the container has ended."""

    def typed(words: list[str]) -> tuple[str, bytes]:
        master, slave = pty.openpty()

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(slave, 0x540E, 0)  # TIOCSCTTY

        done = subprocess.run(
            words,
            stdin=slave,
            capture_output=True,
            preexec_fn=take_terminal,
            cwd=hako.folder,
        )
        os.set_blocking(slave, False)
        try:
            left = os.read(slave, 100)
        except BlockingIOError:
            left = b""
        os.close(master)
        os.close(slave)
        return done.stdout.decode(), left

    said, left = typed([str(probe), "type", "evil\n"])
    if "EIO" not in said:  # EIO: this kernel refuses it to everybody (dev.tty.legacy_tiocsti)
        assert left == b"evil\n"  # without the defence
    for body in ("", OPEN):
        _, left = typed([str(HAKO), "start", str(box(body)), "--", "probe", "type", "evil\n"])
        assert left == b""


# Keys


@pytest.mark.parametrize("command", ["start", "attach"])
def test_the_caller_s_keys_are_not_found(hako: Hako, box: Writer, probe: Path, command: str) -> None:
    inner = [str(probe), "key", "hakoniwa-secret"]
    session = [str(probe), "addkey", "hakoniwa-secret"]
    assert subprocess.run([*session, *inner], capture_output=True, text=True).stdout == "search done\n"  # without
    path = box("config.seccomp.profile = None")
    if command == "attach":
        hako("start", "-D", path, "--", "sleep", "1000")
    words = [*session, str(HAKO), command, str(path), "--", "probe", "key", "hakoniwa-secret"]
    assert subprocess.run(words, capture_output=True, text=True, cwd=hako.folder).stdout == "search ENOKEY\n"
    words[words.index(str(path))] = str(box("", "shut"))
    if command == "start":
        assert subprocess.run(words, capture_output=True, text=True, cwd=hako.folder).stdout == "search EPERM\n"
    hako("kill", path)


# Privileges


def test_inheritable_and_ambient_capabilities_of_the_caller_are_gone(hako: Hako, box: Writer) -> None:
    """CVE-2022-29162: what is inheritable comes back with a program that has file capabilities."""
    wrap = ["setpriv", "--inh-caps=+sys_admin,+net_raw", "--ambient-caps=+sys_admin,+net_raw", "--"]
    show = ["grep", "-E", "^Cap(Inh|Amb)", "/proc/self/status"]
    assert "0" * 16 not in subprocess.run([*wrap, *show], capture_output=True, text=True, check=True).stdout
    path = box()
    hako("start", "-D", path, "--", "sleep", "1000")
    for command in ("start", "attach"):
        file = box("", "other") if command == "start" else path
        words = [*wrap, str(HAKO), command, str(file), "--", *show]
        found = subprocess.run(words, capture_output=True, text=True, check=True, cwd=hako.folder).stdout
        assert {line.split()[1] for line in found.splitlines()} == {"0" * 16}
    hako("kill", path)


def test_a_set_user_id_program_on_a_shared_folder(hako: Hako, box: Writer, probe: Path, places: Path) -> None:
    """From outside in: a mount is nosuid. From inside out: made by the container's root, it would be the host's."""
    share = places / "share"
    share.mkdir(mode=0o777)
    share.chmod(0o777)
    os.chown(share, 1234, 1234)
    shutil.copy(probe, share / "root")
    (share / "root").chmod(0o4755)
    body = 'config.add_mount_point("share", to="/share"{})\n'
    plain = box(body.format("") + "config.uid = 1000\nconfig.no_new_privs = False")
    assert hako("start", plain, "--", "/share/root", "uid").stdout == "1000\n"
    script = "cp /bin/probe /share/made && chmod 4755 /share/made"
    hako("start", box(body.format("")), "--", "sh", "-c", script)
    made = share / "made"
    assert (made.stat().st_uid, bool(made.stat().st_mode & stat.S_ISUID)) == (0, True)  # without the defence
    made.unlink()
    for defended in (body.format(", idmap=True"), body.format("") + 'config.namespace.unshare("user")'):
        hako("start", box(defended), "--", "sh", "-c", script, status=None)
        assert not made.exists() or made.stat().st_uid != 0
        made.unlink(missing_ok=True)


def test_a_read_only_bind_mount_has_no_writable_corner(hako: Hako, box: Writer, places: Path) -> None:
    source = places / "source"
    (source / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "below", source / "below"], check=True)
    try:
        # Without the defence: mount(8) makes the uppermost mount read-only, and what is mounted on it stays writable.
        outer = f"mkdir {places}/old; mount --rbind -o ro {source} {places}/old; touch {places}/old/below/x"
        subprocess.run(["unshare", "-m", "sh", "-c", outer], check=True)
        assert (source / "below" / "x").exists()
        for extra in ("", "\n" + USER):
            path = box('config.add_mount_point("source", to="/mnt", readonly=True)' + extra)
            done = hako("start", path, "--", "sh", "-c", "touch /mnt/y /mnt/below/y; ls /mnt/below", status=None)
            assert done.stderr.count("Read-only file system") == 2
            assert done.stdout == "x\n"
    finally:
        subprocess.run(["umount", source / "below"], check=True)


# The old root


def test_a_second_chroot_leads_out_of_a_legacy_chroot_and_of_no_other(
    hako: Hako, box: Writer, probe: Path, places: Path
) -> None:
    legacy = "config.filesystem.use_legacy_chroot = True\n"
    allowed = 'config.capabilities.allow("sys_chroot")\n'
    host = {name for name in os.listdir("/") if not name.startswith(".")}
    shown = set(hako("start", box(legacy + allowed), "--", "probe", "climb").stdout.split())
    assert shown >= host - {"lost+found"}  # without the defence, asked for by name
    assert hako("start", box(legacy), "--", "probe", "climb", status=None).stdout == "chroot EPERM\n"
    inside = set(hako("start", box(allowed), "--", "probe", "climb").stdout.split())
    assert "bin" in inside
    assert not inside & {"boot", "home", "opt", "srv"}


# What surrounds the caller


def test_nothing_of_the_caller_s_environment_and_descriptors(hako: Hako, box: Writer, places: Path) -> None:
    (places / "secret").write_text("secret")
    secret = os.open(places / "secret", os.O_RDONLY)
    folder = os.open("/", os.O_RDONLY)
    os.set_inheritable(secret, True)
    os.set_inheritable(folder, True)
    path = box()
    hako("start", "-D", path, "--", "sleep", "1000")
    script = "env; for f in /proc/self/fd/* /proc/1/fd/*; do readlink $f; done; cat /proc/self/fd/*/etc/hostname"
    try:
        for command in ("start", "attach"):
            file = box("", "other") if command == "start" else path
            words = [str(HAKO), command, str(file), "--", "sh", "-c", script]
            environ = {**os.environ, "SECRET": "secret", "LD_PRELOAD": "", "AWS_KEY": "secret"}
            done = subprocess.run(
                words, pass_fds=(secret, folder), env=environ, capture_output=True, text=True, cwd=places
            )
            lines = done.stdout.splitlines()
            assert "secret" not in done.stdout.replace(str(places), "")
            assert {line.partition("=")[0] for line in lines if "=" in line} <= {
                "PATH",
                "HOME",
                "TERM",
                "container",
                "PWD",
                "SHLVL",
            }
            assert all(line.startswith(("pipe:", "/dev/null", "/proc", "socket:")) or "=" in line for line in lines), (
                lines
            )
    finally:
        os.close(secret)
        os.close(folder)
    hako("kill", path)


@pytest.fixture
def listener() -> Iterator[str]:
    """An abstract socket of the host: its name is in no file system, but in the network namespace."""
    name = f"hakoniwa-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        yield name


def test_abstract_sockets_are_out_of_reach_in_a_network_namespace(
    hako: Hako, box: Writer, probe: Path, listener: str
) -> None:
    shared = hako("start", box(), "--", "probe", "connect", listener, status=None)
    assert shared.stdout == "connect done\n"  # the network is the host's unless the file says otherwise
    own = hako("start", box('config.namespace.unshare("net")'), "--", "probe", "connect", listener, status=None)
    assert own.stdout == "connect ECONNREFUSED\n"


def test_the_user_s_own_packages_are_not_loaded_by_root(hako: Hako, box: Writer, places: Path) -> None:
    home = places / "home"
    site = home / ".local" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    site.mkdir(parents=True)
    for name in ("usercustomize.py", "sitecustomize.py"):
        (site / name).write_text(f"open({str(places / 'executed')!r}, 'w')\n")
    (site / "evil.pth").write_text(f"import os; open({str(places / 'executed')!r}, 'w')\n")
    environ = {key: value for key, value in os.environ.items() if key.startswith("HAKONIWA")} | {"HOME": str(home)}
    interpreter = os.path.realpath(sys.executable)
    subprocess.run([interpreter, "-c", "pass"], env=environ, check=True)
    assert (places / "executed").exists()  # without the defence
    (places / "executed").unlink()
    done = subprocess.run([HAKO, "start", box(), "--", "true"], env=environ, capture_output=True, cwd=places)
    assert done.returncode == 0, done.stderr
    assert not (places / "executed").exists()


# Values that reach a program


@pytest.mark.parametrize("name", ["--help", "../../../bin/sh", "/bin/sh", "-c", "x;touch evil", "$(touch evil)"])
def test_the_name_of_a_recipe_is_a_name(hako: Hako, write_file: Writer, places: Path, name: str) -> None:
    path = write_file(f'config.bootstrap.strategy = "recipe"\nconfig.bootstrap.recipe = {name!r}')
    told = hako("create", path, status=125).stderr
    assert "recipe" in told
    assert not (places / "evil").exists()
    assert "usage" not in told.lower()


@pytest.mark.parametrize("name", ["-x.tar", "--to-command=touch evil", "a;touch evil.tar", "x:y.tar", "$(touch evil)"])
def test_the_name_of_an_archive_is_a_name(
    hako: Hako, write_file: Writer, places: Path, busybox: Path, name: str
) -> None:
    subprocess.run(["tar", "-cf", "plain.tar", "-C", busybox, "."], check=True, cwd=places)
    (places / "plain.tar").rename(places / name)
    path = write_file(f'config.bootstrap.strategy = "tarball"\nconfig.bootstrap.archive_path = {name!r}')
    assert hako("start", "-b", path, "--", "echo", "fine").stdout == "fine\n"
    assert not (places / "evil").exists()
    hako("rm", "--rootfs", path)


def test_arguments_of_the_command_are_never_read_by_a_shell(hako: Hako, box: Writer) -> None:
    words = ["$(touch /evil)", "`id`", ";", "-D", "--", "a b", "*"]
    assert hako("start", box(), "--", "printf", "%s\\n", *words).stdout.splitlines() == words
