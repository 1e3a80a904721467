"""Building a rootfs: each strategy, built aside and put in place when complete; and its removal."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Hako

Writer = Callable[..., Path]

SHELL = 'config.bootstrap.strategy = "shell"\n'
FILL = 'config.bootstrap.code = "mkdir $ROOTFS/bin; cp /bin/busybox $ROOTFS/bin/sh"\n'


def remains(places: Path) -> list[str]:
    """What lies in the library folder, but for places of our own with nothing in them."""
    lib = places / "lib"
    empty = {lib / name for name in (".boxes", ".layers") if (lib / name).is_dir() and not os.listdir(lib / name)}
    return sorted(str(path.relative_to(lib)) for path in lib.rglob("*") if path not in empty)


def test_shell(hako: Hako, write_file: Writer, places: Path) -> None:
    path = write_file(SHELL + FILL)
    assert "box: built " in hako("create", path).stderr
    assert hako("start", path, input="echo $$").stdout == "1\n"
    assert oct((places / "lib" / "box").stat().st_mode) == "0o40755"


def test_a_start_without_a_rootfs_says_what_to_do(hako: Hako, write_file: Writer) -> None:
    path = write_file(SHELL + FILL)
    assert f"is missing (hako create {path})" in hako("start", path, status=125).stderr


def test_python_with_a_function_and_with_a_text(hako: Hako, write_file: Writer) -> None:
    head = "import shutil\ndef fill(boot):\n    (boot.rootfs / 'bin').mkdir()\n    shutil.copy('/bin/busybox', boot.rootfs / 'bin/sh')\n"
    body = 'config.bootstrap.strategy = "python"\nconfig.bootstrap.code = '
    assert hako("start", "-b", write_file(body + "fill", "one", head), input="echo 1").stdout == "1\n"
    text = "\"import os, shutil; os.mkdir(rootfs + '/bin'); shutil.copy('/bin/busybox', rootfs + '/bin/sh')\""
    assert hako("start", "-b", write_file(body + text, "two"), input="echo 2").stdout == "2\n"


def test_an_object_of_ones_own(hako: Hako, write_file: Writer, busybox: Path) -> None:
    head = "import subprocess\nclass Mine:\n    def bootstrap(self, boot):\n"
    head += f"        subprocess.run(['cp', '-a', {str(busybox) + '/.'!r}, boot.rootfs], check=True)\n"
    path = write_file("config.bootstrap.strategy = Mine()", head=head)
    assert hako("start", "-b", path, input="echo 1").stdout == "1\n"


@pytest.mark.parametrize("compression", ["--gzip", "--bzip2", "--xz", "--zstd", ""])
def test_tarball(hako: Hako, write_file: Writer, places: Path, busybox: Path, compression: str) -> None:
    archive = places / "root:fs.tar"
    words = [
        "tar",
        "-C",
        str(busybox),
        "--force-local",
        "-cf",
        str(archive),
        *([compression] if compression else []),
        ".",
    ]
    if subprocess.run(words, check=False).returncode:
        pytest.skip(f"this machine's tar has no {compression}")
    path = write_file('config.bootstrap.strategy = "tarball"\nconfig.bootstrap.archive_path = "root:fs.tar"')
    assert hako("start", "-b", path, "--", "sh", "-c", "echo $$; stat -c %a /tmp").stdout == "1\n1777\n"


def test_the_recipe_and_ones_own_recipe(hako: Hako, write_file: Writer, places: Path) -> None:
    body = 'config.bootstrap.strategy = "recipe"\nconfig.bootstrap.recipe = '
    assert hako("start", "-b", write_file(body + '"busybox"', "one"), "--", "id", "-un").stdout == "root\n"
    assert (
        "recipe 'busybx' is unknown (did you mean 'busybox'?)"
        in hako("create", write_file(body + '"busybx"'), status=125).stderr
    )
    (places / "bootstrap").mkdir()
    own = places / "bootstrap" / "mine"
    own.write_text('#!/bin/sh\nmkdir "$ROOTFS/bin"; cp /bin/busybox "$ROOTFS/bin/sh"\n')
    own.chmod(0o755)
    assert hako("start", "-b", write_file(body + '"mine"', "two"), input="echo 2").stdout == "2\n"
    users = places / "config" / "hakoniwa" / "bootstrap"
    users.mkdir(parents=True)
    own.rename(users / "users")
    path = write_file(body + '"users"', "four")
    hako("create", path, XDG_CONFIG_HOME=str(places / "config"))
    assert hako("start", path, input="echo 4").stdout == "4\n"
    own = (users / "users").rename(own)
    own.chmod(0o777)
    assert "others can write to this file" in hako("create", write_file(body + '"mine"', "three"), status=125).stderr


def test_host_is_a_private_copy_of_this_system(hako: Hako, write_file: Writer) -> None:
    path = write_file('config.bootstrap.strategy = "host"\nconfig.mount_independent("procfs", "devtmpfs")')
    mark = f"/etc/hakoniwa-test-{os.getpid()}"
    done = hako(
        "start",
        "-b",
        path,
        "--",
        "sh",
        "-c",
        f"echo x > {mark}; rm /bin/ls; chmod 777 /etc; useradd tester && id -un tester",
    )
    assert done.stdout == "tester\n"
    assert not os.path.exists(mark)
    assert os.path.exists("/bin/ls")
    assert os.stat("/etc").st_mode & 0o002 == 0
    assert hako("start", path, "--", "sh", "-c", f"cat {mark}; ls", status=127).stdout == "x\n"  # its layer stays
    hako("rm", "--rootfs", path)


def test_a_layer_serves_one_container_at_a_time(hako: Hako, write_file: Writer, places: Path) -> None:
    body = f'config.bootstrap.strategy = "host"\nconfig.chroot_to({str(places / "shared")!r})\n'
    one, two = write_file(body, "one"), write_file(body, "two")
    hako("start", "-D", "-b", one, "--", "sleep", "1000")
    told = hako("start", two, "--", "true", status=125).stderr
    assert sorted(os.listdir(places / "run")) == [".rootfs", "one"]
    assert "is in use by another container" in told
    assert "chroot_to() of its own, or set rootfs.readonly = True in all of them)" in told
    hako("create", two)
    hako("kill", one)
    hako("start", two, "--", "true")


def test_a_read_only_layer_of_the_host_serves_many(hako: Hako, write_file: Writer, places: Path) -> None:
    body = f'config.bootstrap.strategy = "host"\nconfig.chroot_to({str(places / "shared")!r})\n'
    writing = write_file(body, "writing")
    hako("start", "-b", writing, "--", "sh", "-c", "echo x > /etc/made; rm /etc/hostname /etc/passwd-; mkdir /home/u")
    for more in ("", "config.namespace.unshare('user')\n"):
        one, two = (write_file(body + more + "config.rootfs.readonly = True", name) for name in ("one", "two"))
        hako("start", "-D", one, "--", "sleep", "1000")
        script = "cat /etc/made; ls /home /root; ls /etc/hostname; grep -c '\\$' /etc/shadow; touch /x"
        found = hako("start", two, "--", "sh", "-c", script, status=1)
        assert found.stdout == "x\n/home:\nu\n\n/root:\n0\n"
        assert "/x': Read-only file system" in found.stderr
        assert "is in use by another container" in hako("start", writing, "--", "true", status=125).stderr
        hako("kill", one)


@pytest.mark.parametrize("user", ["", "config.namespace.unshare('user')\n"])
def test_a_root_of_another_source_needs_no_folder(hako: Hako, write_file: Writer, rootfs: Path, user: str) -> None:
    body = f'root = config.chroot_to("nowhere")\nconfig.add_mount_point({str(rootfs)!r}, to=root)\n{user}'
    path = write_file(body)
    assert "takes the place of the rootfs: there is nothing to build" in hako("create", path).stderr
    assert hako("start", path, "--", "sh", "-c", "ls -d /bin; touch /made").stdout == "/bin\n"
    assert (rootfs / "made").exists()
    assert not os.path.exists(path.parent / "nowhere")


def test_a_layer_that_is_not_written_to(hako: Hako, write_file: Writer) -> None:
    path = write_file('config.bootstrap.strategy = "host"')
    hako("start", "-b", path, "--", "sh", "-c", "echo layer > /mark")
    path = write_file('config.bootstrap.strategy = "host"\nconfig.rootfs.readonly = True')
    found = hako("start", path, "--", "sh", "-c", "cat /mark; touch /x 2>&1; ls -A /root; head -1 /etc/shadow").stdout
    assert found.startswith("layer\n")
    assert "Read-only file system" in found
    assert found.splitlines()[-1].startswith("root:*:")


def test_what_is_there_is_left_alone(hako: Hako, write_file: Writer, places: Path) -> None:
    path = write_file(SHELL + FILL)
    hako("create", path)
    (places / "lib" / "box" / "mark").write_text("x")
    assert "is there already" in hako("create", path).stderr
    assert hako("start", "-b", path, input="cat_() { while read x; do echo $x; done; }; echo $(</mark)").returncode == 0
    assert (places / "lib" / "box" / "mark").exists()


def test_owner_and_postprocess(hako: Hako, write_file: Writer, places: Path) -> None:
    body = SHELL + FILL + "config.rootfs_owner(uid=7, gid=8)\n"
    body += '@config.bootstrap.postprocess\ndef after(boot):\n    (boot.rootfs / "etc").mkdir()\n'
    hako("create", write_file(body))
    root = places / "lib" / "box"
    assert (root / "bin" / "sh").stat().st_uid == 7
    assert (root / "bin").stat().st_gid == 8
    assert (root / "etc").is_dir()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("", "there is no rootfs, and no strategy to make one"),
        (SHELL + 'config.bootstrap.code = "exit 3"', "bootstrap code failed with exit status 3"),
        (SHELL + "config.bootstrap.code = \"sh -c 'kill -9 $$'\"", "bootstrap code failed with exit status 137"),
        (SHELL + 'config.bootstrap.code = "true"', "strategy 'shell' left the rootfs empty"),
        (SHELL + "config.bootstrap.code = print", "strategy 'shell' needs its code as a text"),
        (
            'config.bootstrap.strategy = "python"\nconfig.bootstrap.code = "1/0"',
            "bootstrap code failed: ZeroDivisionError",
        ),
        ('config.bootstrap.strategy = "tarball"\nconfig.bootstrap.archive_path = "no.tar"', "no.tar is not there"),
        ('config.bootstrap.strategy = "tarball"\nconfig.bootstrap.archive_path = "/etc"', "/etc is a folder"),
        (
            'config.bootstrap.strategy = "tarball"\nconfig.bootstrap.archive_path = "/etc/passwd"',
            "cannot unpack /etc/passwd: not a tar archive",
        ),
        (SHELL + FILL + "@config.bootstrap.postprocess\ndef f(boot): 1/0", "postprocess failed: ZeroDivisionError"),
        (SHELL + FILL + 'config.chroot_to("/etc/passwd/x")', "the rootfs /etc/passwd/x is not a folder"),
        (SHELL + FILL + 'config.chroot_to("/etc/passwd")', "the rootfs /etc/passwd is not a folder"),
    ],
)
def test_a_build_that_fails_leaves_nothing(hako: Hako, write_file: Writer, places: Path, body: str, told: str) -> None:
    path = write_file(body)
    assert told in hako("create", path, status=125).stderr
    assert not (places / "lib").exists() or remains(places) == []


def await_line(build: subprocess.Popen[bytes], line: bytes) -> None:
    """Read the standard error of a build up to a line."""
    assert build.stderr is not None
    for found in build.stderr:
        if found.rstrip(b"\n") == line:
            return
    raise AssertionError(f"{line!r} did not come")


@pytest.fixture
def killed_build(hako: Hako, write_file: Writer, places: Path) -> Path:
    """A container file whose build was killed half-way, while a program of it was still writing."""
    code = "touch $ROOTFS/half; echo started >&2; while :; do touch $ROOTFS/more; done"
    path = write_file(SHELL + f"config.bootstrap.code = {code!r}")
    build = hako.background("create", path)
    await_line(build, b"bootstrap code: started")
    build.kill()
    build.communicate(timeout=20)
    assert (places / "lib" / ".box.building" / "half").exists()
    assert not (places / "lib" / "box").exists()
    return path


def test_a_build_that_is_killed_is_cleared_by_the_next(
    hako: Hako, write_file: Writer, places: Path, killed_build: Path
) -> None:
    assert "is missing" in hako("start", killed_build, status=125).stderr
    hako("create", write_file(SHELL + FILL))
    assert os.listdir(places / "lib" / "box") == ["bin"]
    assert not (places / "lib" / ".box.building").exists()


def test_gc_clears_a_build_that_was_killed(hako: Hako, places: Path, killed_build: Path) -> None:
    assert ".box.building" in hako("gc").stdout
    assert remains(places) == []


def test_what_a_build_starts_and_mounts_ends_with_it(hako: Hako, write_file: Writer) -> None:
    code = "setsid sleep 1000 & mount -t tmpfs tmpfs /mnt; mkdir $ROOTFS/x"
    hako("create", write_file(SHELL + f"config.bootstrap.code = {code!r}"))


def test_ctrl_c_during_a_build(hako: Hako, write_file: Writer, places: Path) -> None:
    path = write_file(SHELL + 'config.bootstrap.code = "echo started >&2; exec sleep 1000"')
    build = hako.background("create", path, start_new_session=True)
    await_line(build, b"bootstrap code: started")
    os.killpg(build.pid, signal.SIGINT)
    _, err = build.communicate(timeout=20)
    assert (build.returncode, err.splitlines()[-1]) == (130, b"hako: interrupted")
    assert remains(places) == []


def test_two_builds_at_once(hako: Hako, write_file: Writer, places: Path) -> None:
    path = write_file(SHELL + 'config.bootstrap.code = "echo started >&2; read x < $PWD/fifo; touch $ROOTFS/x"')
    os.mkfifo(places / "fifo")
    first = hako.background("create", path)
    await_line(first, b"bootstrap code: started")
    assert "is being built by another command" in hako("create", path, status=125).stderr
    assert hako("gc").stdout == "nothing was left\n"
    with open(places / "fifo", "w") as fifo:
        fifo.write("go\n")
    first.communicate(timeout=20)
    assert first.returncode == 0


def test_rm_rootfs_goes_no_further_than_the_rootfs(hako: Hako, write_file: Writer, places: Path) -> None:
    (places / "outside").mkdir()
    (places / "outside" / "precious").write_text("x")
    path = write_file(SHELL + f'config.bootstrap.code = "ln -s {places}/outside $ROOTFS/link; mkdir $ROOTFS/mnt"')
    hako("create", path)
    subprocess.run(["mount", "--bind", str(places / "outside"), str(places / "lib" / "box" / "mnt")], check=True)
    try:
        told = hako("rm", "--rootfs", path, status=125).stderr
    finally:
        subprocess.run(["umount", str(places / "lib" / "box" / "mnt")], check=True)
    assert "something is mounted on" in told
    hako("rm", "--rootfs", path)
    assert (places / "outside" / "precious").exists()
    assert remains(places) == [".containers"]


def test_rm_leaves_a_rootfs_that_was_not_made_here(hako: Hako, box: Writer, rootfs: Path) -> None:
    path = box()
    hako("start", path, "--", "true")
    assert "was not made by hako create" in hako("rm", "--rootfs", path, status=125).stderr
    assert rootfs.exists()


# Code that knows the final path, as haconiwa's does

STRAY = (
    SHELL
    + 'root = config.chroot_to("final")\nconfig.bootstrap.code = f"mkdir -p {root}/bin; cp /bin/busybox {root}/bin/sh; {MORE}"'
)


def test_code_that_fills_the_final_path_makes_the_rootfs(hako: Hako, write_file: Writer, places: Path) -> None:
    path = write_file(STRAY, head='MORE = ""')
    assert "took what the code has put into" in hako("create", path).stderr
    assert hako("start", path, input="echo 1").stdout == "1\n"
    assert not (places / ".final.building").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("exit 3", "bootstrap code failed with exit status 3"),
        ("touch $ROOTFS/too", "the code has filled {}/final itself (fill the folder $ROOTFS"),
    ],
)
def test_code_that_fails_half_way_at_the_final_path_leaves_nothing(
    hako: Hako, write_file: Writer, places: Path, more: str, told: str
) -> None:
    path = write_file(STRAY, head=f"MORE = {more!r}")
    for _ in range(2):  # what is left of the first would count as complete
        assert told.format(places) in hako("create", path, status=125).stderr
        assert not (places / "final").exists()
        assert not (places / ".final.building").exists()


def test_code_that_knows_the_final_path_leaves_alone_what_was_there(
    hako: Hako, write_file: Writer, places: Path
) -> None:
    path = write_file(STRAY, head='MORE = ""')
    hako("create", path)
    (places / "final" / "kept").touch()
    path = write_file(STRAY, head='MORE = "exit 3"')
    assert "failed with exit status 3" in hako("create", "--rebuild", path, status=125).stderr
    assert (places / "final" / "kept").exists()


RAISES = """
class Mine:
    def bootstrap(self, boot):
        self.go(boot)
    def go(self, boot):
        boot.root
def fill(boot):
    import beside
"""


@pytest.mark.parametrize(
    ("body", "where", "told"),
    [
        (
            "config.bootstrap.strategy = Mine()",
            "box.haco.py:7",
            "strategy Mine failed: AttributeError: boot.root is unknown (write boot.rootfs)",
        ),
        ('config.bootstrap.strategy = "python"\nconfig.bootstrap.code = fill', "/beside.py:2", "ZeroDivisionError"),
        (
            'config.bootstrap.strategy = "python"\nconfig.bootstrap.code = "\\n1/0"',
            "bootstrap code:2",
            "ZeroDivisionError",
        ),
        (
            SHELL + FILL + "@config.bootstrap.postprocess\ndef f(boot):\n    int('x')",
            "box.haco.py:16",
            "postprocess failed: ValueError",
        ),
    ],
)
def test_an_exception_of_the_files_code_has_its_line(
    hako: Hako, write_file: Writer, places: Path, body: str, where: str, told: str
) -> None:
    (places / "beside.py").write_text("\n1/0\n")
    done = hako("create", write_file(body, head=RAISES), status=125)
    assert f"{where}: " in done.stderr
    assert told in done.stderr
