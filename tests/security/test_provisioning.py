"""Attacks by a rootfs, and by what a step runs, on the host that provisions it. Nothing inside is trusted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Hako

Writer = Callable[..., Path]


@pytest.fixture
def evil(write_file: Writer, rootfs: Path) -> Callable[..., Path]:
    """A container file on a rootfs that is not ours, which is provisioned."""

    def write(body: str, head: str = "") -> Path:
        return write_file(f"config.chroot_to({str(rootfs)!r})\np = config.provision\n{body}", head=head)

    return write


@pytest.mark.parametrize("name", ["etc/resolv.conf", "etc/hosts", "proc", "sys", "dev", "tmp", "etc"])
@pytest.mark.parametrize("climb", [False, True])
def test_mount_points_that_lead_out(
    hako: Hako, evil: Callable[..., Path], rootfs: Path, places: Path, name: str, climb: bool
) -> None:
    outside = places / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    target = "../" * 40 + str(outside).lstrip("/") if climb else str(outside)
    link = rootfs / name
    subprocess.run(["rm", "-rf", "--", link], check=True)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(target + ("/made" if name.startswith("etc/") else ""))
    hako("provision", evil("p.run_shell('echo evil > /etc/resolv.conf; echo evil > /tmp/x; ls /')"), status=None)
    assert os.listdir(outside) == ["precious"]
    assert (outside / "precious").read_text() == "precious"


@pytest.mark.parametrize("target", ["/link/file", "/up/file", "/link/", "/file-link", "/proc-link/file"])
def test_copies_that_lead_out(hako: Hako, evil: Callable[..., Path], rootfs: Path, places: Path, target: str) -> None:
    outside = places / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    (places / "source").write_text("evil")
    (rootfs / "link").symlink_to(outside)
    (rootfs / "up").symlink_to("../" * 40 + str(outside).lstrip("/"))
    (rootfs / "file-link").symlink_to(outside / "file")
    (rootfs / "proc-link").symlink_to("/proc/self/root")
    hako("provision", evil(f"p.copy('source', {target!r})"), status=None)
    assert os.listdir(outside) == ["file"]
    assert (outside / "file").read_text() == "precious"
    assert not os.path.exists("/file")


def test_a_copied_folder_does_not_follow_links(
    hako: Hako, evil: Callable[..., Path], rootfs: Path, places: Path
) -> None:
    outside = places / "outside"
    outside.mkdir()
    (places / "tree" / "sub").mkdir(parents=True)
    (places / "tree" / "sub" / "file").write_text("evil")
    (rootfs / "target").mkdir()
    (rootfs / "target" / "sub").symlink_to(outside)
    hako("provision", evil("p.copy('tree', '/target', uid=7, gid=7)"), status=None)
    assert os.listdir(outside) == []
    assert outside.stat().st_uid == 0


def test_names_of_owners_are_the_rootfs_s_own(
    hako: Hako, evil: Callable[..., Path], rootfs: Path, places: Path
) -> None:
    (rootfs / "etc" / "passwd").unlink()
    (rootfs / "etc" / "passwd").symlink_to("/etc/shadow")
    (places / "source").write_text("x")
    told = hako("provision", evil("p.copy('source', '/x', uid='root')"), status=125).stderr
    assert "user 'root' is not in the rootfs's /etc/passwd" in told


def test_a_shell_that_is_the_interpreter_itself(hako: Hako, evil: Callable[..., Path], rootfs: Path) -> None:
    """CVE-2019-5736: what is executed in place of the program must not be a file of the host."""
    for name in ("bin/sh", "bin/script"):
        (rootfs / name).unlink(missing_ok=True)
    (rootfs / "bin" / "sh").symlink_to("/proc/self/exe")
    (rootfs / "bin" / "script").write_text("#!/proc/self/exe\n")
    (rootfs / "bin" / "script").chmod(0o755)
    for shell in ("/bin/sh", "/bin/script"):
        told = hako("provision", evil(f"p.run_shell('print(1)', sh={shell!r})"), status=125).stderr
        assert "failed" in told
        assert "ython" not in told  # no interpreter of the host has run


def test_what_a_step_can_reach(hako: Hako, evil: Callable[..., Path], places: Path) -> None:
    secret = places / "secret"
    secret.write_text("secret")
    attempts = [
        f"cat {secret}",
        f"cat /proc/1/root{secret}",
        f"cat /proc/1/cwd{secret}",
        "cat /proc/1/fd/*",
        "cat /proc/1/mem",
        "kill -9 1",
        "mount -t tmpfs x /mnt",
        "mount -o remount,rw /sys",
        "mknod /disk b 8 0 && cat /disk",
        "chroot /proc/1/root",
        "echo x > /proc/sys/kernel/hostname",
        "echo x > /proc/sysrq-trigger",
        "mkdir /x; setfattr -n trusted.overlay.redirect -v /etc /x",
        "umount /etc/hosts",
        "echo evil >> /etc/hosts",
        "cat /proc/kcore /proc/keys | grep .",
    ]
    script = "\n".join(f"if {attempt}; then echo REACHED {number}; fi" for number, attempt in enumerate(attempts))
    told = hako("provision", evil(f"p.run_shell({script!r})"), status=None).stderr
    assert "secret\n" not in told.replace(str(secret), "")
    # Asking to kill pid 1 of one's own namespace succeeds and does nothing: `man 7 pid_namespaces`.
    assert [line for line in told.splitlines() if "REACHED" in line] in ([], ["step 1: REACHED 5"])


def test_what_run_python_runs_cannot_reach_its_interpreter(hako: Hako, evil: Callable[..., Path], rootfs: Path) -> None:
    (rootfs / "bin" / "attack").write_text(
        "#!/bin/sh\nfor p in /proc/[0-9]*; do for f in $p/exe $p/fd/*; do (echo evil > $f) 2>/dev/null && readlink $f; done; done; true\n"
    )
    (rootfs / "bin" / "attack").chmod(0o755)
    interpreter = Path(os.path.realpath("/proc/self/exe"))
    before = interpreter.read_bytes()
    head = "def f(box):\n    box.run(['/bin/attack'])\n"
    told = hako("provision", evil("p.run_python(f)", head)).stderr
    assert "python" not in told
    assert interpreter.read_bytes() == before


def test_evil_output(hako: Hako, evil: Callable[..., Path]) -> None:
    script = r"printf '\033]0;owned\007\rhako: box: fine\n\xe2\x80\xae\n'; i=0; while [ $i -lt 9999 ]; do printf x; i=$((i+1)); done"
    told = hako("provision", evil(f"p.run_shell({script!r}, name='evil')")).stderr
    assert "\x1b" not in told
    assert "\x07" not in told
    assert "\u202e" not in told
    assert all(line.startswith(("hako: box: ", "evil: ")) for line in told.splitlines())
    assert "evil: hako: box: fine" in told
