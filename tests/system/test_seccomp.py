"""Seccomp filters in force: the profile's, the file's, Docker's, and for attached commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Hako

Writer = Callable[..., Path]
SHOW = "grep -E '^Seccomp' /proc/self/status | cut -f2"


def filters(hako: Hako, path: Path, *words: str) -> list[str]:
    return hako(*(words or ("start",)), path, "--", "sh", "-c", SHOW).stdout.split()


def test_the_profile_is_in_force_and_can_be_left_out(hako: Hako, box: Writer) -> None:
    assert filters(hako, box()) == ["2", "1"]
    assert filters(hako, box("config.seccomp.profile = None")) == ["0", "0"]
    assert filters(hako, box('config.seccomp.filter().kill("acct")')) == ["2", "2"]
    assert filters(hako, box("config.no_new_privs = False\nconfig.capabilities.drop('all')")) == ["2", "1"]


RULES = """
with config.seccomp.filter(default="allow") as rule:
    rule.kill("mkdir", "mkdirat")
    rule.errno("symlink", "symlinkat", "EDQUOT")
    rule.trap("link", "linkat")
    rule.errno("kill", "EPERM", args={1: ("==", 10)})
    rule.log("rmdir")
"""


@pytest.mark.parametrize("extra", ["", "config.no_new_privs = False"])
def test_rules_of_the_file(hako: Hako, box: Writer, extra: str) -> None:
    path = box(RULES + extra)
    script = (
        "mkdir /a; echo $?; ln -s a /b; ln /bin/sh /c; echo $?; kill -USR1 $$; kill -0 $$ && echo alive; rmdir /none"
    )
    hako("start", "-D", path, "--", "sleep", "1000")
    for word, file in (("start", box(RULES + extra, "other")), ("attach", path)):
        done = hako(word, file, "--", "sh", "-c", script, status=None)
        assert done.stdout.split() == ["159", "159", "alive"]  # 128 + SIGSYS
        assert "quota" in done.stderr.lower()
        assert "not permitted" in done.stderr
    hako("kill", path)


def test_an_allowlist(hako: Hako, box: Writer) -> None:
    """The set-up itself is not bound by it: only what is executed is."""
    allow = "execveat execve brk mmap munmap mprotect exit exit_group write arch_prctl set_tid_address set_robust_list"
    allow += " rseq prlimit64 readlink readlinkat getrandom newfstatat fstat ioctl getuid geteuid rt_sigaction getppid"
    allow += " rt_sigprocmask getpid getcwd stat getgid getegid prctl fcntl poll uname open openat read close"
    body = "config.seccomp.profile = None\nwith config.seccomp.filter(default='kill') as rule:\n"
    path = box(body + f"    rule.allow(*'{allow}'.split())")
    assert hako("start", path, "--", "echo", "fine").stdout == "fine\n"
    assert hako("start", path, "--", "mkdir", "/x", status=159).stdout == ""


def test_attached_commands_with_more_capabilities_have_the_profile_for_them(hako: Hako, box: Writer) -> None:
    path = box()
    hako("start", "-D", path, "--", "sleep", "1000")
    assert "not permitted" in hako("attach", path, "--", "umount", "/dev/shm", status=1).stderr
    hako("attach", "-A", "sys_admin", path, "--", "umount", "/dev/shm")
    assert filters(hako, path, "attach") == ["2", "1"]
    hako("kill", path)


def test_programs_that_have_been_cleared_are_made_anew_for_attached_commands(
    hako: Hako, box: Writer, shared_cache: Path
) -> None:
    path = box(RULES)
    hako("start", "-D", path, "--", "sleep", "1000")
    for program in (shared_cache / "seccomp").iterdir():
        program.unlink()
    assert filters(hako, path, "attach") == ["2", "2"]
    hako("kill", path)


def test_a_profile_in_docker_s_format(hako: Hako, box: Writer, places: Path) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    }
    (places / "p.json").write_text(json.dumps(profile))
    path = box('config.seccomp.profile = "p.json"')
    assert "not permitted" in hako("start", path, "--", "mkdir", "/x", status=1).stderr
    (places / "p.json").write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW"}))
    hako("start", path, "--", "mkdir", "/x")  # it is its content that counts
    (places / "p.json").write_text("{")
    assert "p.json: not JSON" in hako("start", path, "--", "true", status=125).stderr
    (places / "p.json").unlink()
    told = hako("start", path, "--", "true", status=125).stderr
    assert "cannot read the seccomp profile" in told
    assert "box.haco.py:" in told


def test_what_lets_nothing_start(hako: Hako, box: Writer) -> None:
    told = hako("start", box('config.seccomp.filter(default="kill").allow("read")'), "--", "true", status=125).stderr
    assert 'the seccomp filter lets no program start (rule.allow("execveat")' in told


@pytest.mark.skipif(os.path.isdir("/sys/module/apparmor"), reason="this kernel has no lack of AppArmor")
def test_apparmor_where_there_is_none(hako: Hako, box: Writer) -> None:
    told = hako("start", box('config.apparmor = "box"'), "--", "true", status=125).stderr
    assert "this kernel has no AppArmor (remove config.apparmor, or boot with apparmor=1)" in told


def test_no_start_loads_the_compiler(hako: Hako, box: Writer) -> None:
    path = box('config.namespace.unshare("user")\nconfig.cgroup.v2["cgroup.max.depth"] = 5')
    hako("start", path, "--", "true")
    code = "from hakoniwa.cli import main; main()"
    words = [sys.executable, "-I", "-X", "importtime", "-c", code, "start", str(path), "--", "true"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hakoniwa.seccomp.programs" in loaded
    assert not loaded & {"pyseccomp", "cgroupspy", "ctypes", "json", "hakoniwa.seccomp.compiling"}


def test_who_makes_a_program_has_not_loaded_what_it_takes(
    hako: Hako, box: Writer, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A barn's process would keep libseccomp and its Python face, and hand them to all its supervisors."""
    monkeypatch.setenv("HAKONIWA_CACHE_DIR", str(places / "cache"))
    path = box()
    hako("start", "-D", path, "--", "sleep", "1000")
    (found,) = json.loads(hako("ps", "--json").stdout)["containers"]
    assert list((places / "cache" / "seccomp").iterdir()), "it was made for this start"
    assert "libseccomp" not in Path(f"/proc/{found['supervisor_pid']}/maps").read_text()
    hako("kill", path)
