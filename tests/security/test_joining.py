"""A container lies in wait for whoever joins it: `hako attach`, and so `base.run` and hooks that run something inside."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import HAKO, LONGEST, Hako, wait_for_log

Writer = Callable[..., Path]
SOURCE = Path(__file__).with_name("catcher.c")
CATCHES = 20


@pytest.fixture(scope="session")
def built_catcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that lies in wait."""
    program = tmp_path_factory.mktemp("catcher") / "catcher"
    subprocess.run(["gcc", "-static", "-O2", "-o", program, SOURCE], check=True)
    return program


@pytest.fixture
def mark(places: Path) -> Iterator[str]:
    """A name that the host's mounts and abstract sockets show, and nothing in a container does."""
    name = f"hako-mark-{os.getpid()}"
    folder = places / name
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", name, folder], check=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        yield name
    subprocess.run(["umount", folder], check=True)


NET = 'config.namespace.unshare("net")\n'
KINDS = {
    "root": NET,
    "user namespace": 'config.namespace.unshare("user", "net")\n',
    "no root": NET + "config.uid = 1000\n",
    "no capabilities": NET + 'config.capabilities.drop("all")\n',
    "a filter of its own": NET
    + 'with config.seccomp.filter(default="allow") as rule:\n    rule.errno("chown", "EPERM")\n',
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tracing", [True, False])
def test_nobody_who_joins_is_caught(
    hako: Hako, box: Writer, rootfs: Path, built_catcher: Path, mark: str, kind: str, tracing: bool
) -> None:
    """Whoever is traced is as confined as the container's own processes, and shows nothing of the host."""
    shutil.copy(built_catcher, rootfs / "bin" / "catcher")
    (rootfs / "tmp").chmod(0o1777)
    path = box(KINDS[kind])
    hako("start", "-D", path, "--", "catcher", "/tmp/stop", mark, *(["trace"] if tracing else []))
    wait_for_log(hako, path, "watching")
    own = hako("attach", path, "--", "sh", "-c", "grep Seccomp_filters /proc/1/status").stdout.split()[1]
    for _ in range(CATCHES):
        hako("attach", path, "--", "true")
    caught = hako("logs", path).stdout.splitlines()
    (rootfs / "tmp" / "stop").write_text("")
    hako("kill", path)
    assert set(caught) <= {"watching", f"traced with {own} filters"}


def test_whoever_has_got_hold_of_a_report_cannot_hang_or_fill_its_reader(
    hako: Hako, box: Writer, rootfs: Path, built_catcher: Path
) -> None:
    """With cap_sys_ptrace and no user namespace, a container can open the pipe that the joining process reports through."""
    shutil.copy(built_catcher, rootfs / "bin" / "catcher")
    path = box('config.capabilities.allow("cap_sys_ptrace")')
    hako("start", "-D", path, "--", "catcher", "/tmp/stop", "mark", "write")
    wait_for_log(hako, path, "watching")
    limit = 1 << 29  # bytes of address space: the reader that took a deserialiser asked for twice as much
    told = ""
    while "cannot be understood" not in told:
        words = [str(HAKO), "attach", str(path), "--", "true"]
        done = subprocess.run(
            ["prlimit", f"--as={limit}", *words], capture_output=True, text=True, timeout=LONGEST, cwd=rootfs
        )
        assert done.returncode in (0, 125), done
        told = done.stderr
    assert "wrote into a descriptor of ours" in hako("logs", path).stdout
    (rootfs / "tmp" / "stop").write_text("")
    hako("kill", path)
