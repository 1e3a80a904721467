"""A held container is taken over or released by nobody but its owner: neither by one that sees its first process, nor from inside."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.run.control.protocol import socket_path
from tests.conftest import HAKO, Hako

Writer = Callable[..., Path]
SOURCE = Path(__file__).with_name("thief.c")
WAYS = [
    "took a descriptor",
    "wrote into a descriptor",
    "opened the memory",
    "reached the root",
    "opened the program",
    "traced it",
]


@pytest.fixture
def thief(rootfs: Path, tmp_path: Path) -> Path:
    """The program that tries to take a process over, in the rootfs."""
    program = tmp_path / "thief"
    subprocess.run(["gcc", "-static", "-O2", "-o", program, SOURCE], check=True)
    shutil.copy(program, rootfs / "bin" / "thief")
    return program


def held(hako: Hako, path: Path, *words: str) -> dict[str, object]:
    hako("start", "-D", "--hold", path, "--", *(words or ("sleep", "1000")))
    containers: list[dict[str, object]] = json.loads(hako("ps", "--json").stdout)["containers"]
    return next(one for one in containers if one["name"] == path.name.partition(".")[0])


SEES = (
    'config.namespace.share("pid")\nconfig.add_mount_point("/proc", to="/proc")\n'
    "config.seccomp.profile = None"  # it forbids some of the ways
)
KINDS = {
    "root": SEES,
    "the same user": f"{SEES}\nconfig.uid = 1000",
    "cap_sys_ptrace in a user namespace": (
        f'config.namespace.unshare("user")\n{SEES}\nconfig.capabilities.allow("cap_sys_ptrace")'
    ),
}


def tried(hako: Hako, path: Path, *words: str) -> list[str]:
    return hako("start", path, "--", "thief", *words).stdout.splitlines()


@pytest.mark.parametrize("user", ["", "config.uid = 1000"], ids=["root", "user"])
@pytest.mark.parametrize("kind", KINDS)
def test_who_sees_a_held_process_can_do_nothing_to_it(
    hako: Hako, box: Writer, thief: Path, kind: str, user: str
) -> None:
    pid = str(held(hako, box(user, name="victim"))["pid"])
    path = box(KINDS[kind], name="attacker", mounts=False)
    assert tried(hako, path, pid) == ["tried everything"]
    status = json.loads(hako("ps", "--json").stdout)["containers"]
    assert [(one["name"], one["status"]) for one in status] == [("victim", "created")]
    hako("kill", "-n", "victim")


def test_the_ways_work_on_a_process_of_one_s_own(hako: Hako, box: Writer, thief: Path) -> None:
    assert tried(hako, box(SEES, mounts=False)) == [*WAYS, "tried everything"]


def test_nobody_is_let_inside_before_the_release(hako: Hako, box: Writer, thief: Path) -> None:
    path = box()
    held(hako, path)
    assert "box is held" in hako("attach", path, "--", "thief", "1", status=125).stderr
    hako("release", path)
    hako("kill", path)


@pytest.mark.parametrize("bound", [False, True], ids=["out of reach", "bound inside by its owner"])
def test_a_container_cannot_release_itself_or_another(hako: Hako, box: Writer, places: Path, bound: bool) -> None:
    """The control socket is not to be seen inside; where its owner shows it, a user namespace's root is not the owner."""
    held(hako, box(name="victim"))
    inside = 'config.namespace.unshare("user")\n'
    inside += f'config.add_mount_point("{places}/run/victim", to="/mnt")' if bound else ""
    path = box(inside, name="attacker")
    script = 'ls /mnt/control.sock /run/hakoniwa; echo "{\\"command\\": \\"release\\"}" | nc local:/mnt/control.sock'
    hako("start", path, "--", "sh", "-c", script, status=None)
    assert json.loads(hako("ps", "--json").stdout)["containers"][0]["status"] == "created"
    hako("kill", "-n", "victim")


def test_another_user_cannot_release(hako: Hako, box: Writer, places: Path) -> None:
    path = box()
    held(hako, path)
    words = ["setpriv", "--reuid=65534", "--clear-groups", str(HAKO), "release", "-n", "box"]
    done = subprocess.run(words, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 125, done
    place, folder = socket_path("box")
    for opened in (places / "run", places / "run" / "box", places / "run" / "box" / "control.sock"):
        opened.chmod(0o777)  # were the folders open, the kernel tells who asks
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(place)
                connection.sendall(b'{"command": "release"}\n')
                os._exit(1 if connection.recv(100) else 0)
            except OSError:
                os._exit(0)
    os.close(folder)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    (places / "run").chmod(0o700)
    (places / "run" / "box").chmod(0o700)
    assert json.loads(hako("ps", "--json").stdout)["containers"][0]["status"] == "created"
    hako("release", path)
    hako("kill", path)


def test_what_a_program_wrote_before_is_no_report_of_the_next(hako: Hako, box: Writer) -> None:
    """A held process is undumpable and its descriptors are closed to others, so that only it can tell that it is held."""
    path = box()
    pid = held(hako, path)["pid"]
    leads = {os.readlink(f"/proc/{pid}/fd/{number}").partition(":")[0] for number in os.listdir(f"/proc/{pid}/fd")}
    assert "socket" in leads  # what the release comes through: it cannot be opened once more
    for number in os.listdir(f"/proc/{pid}/fd"):
        link = f"/proc/{pid}/fd/{number}"
        if os.readlink(link).startswith("socket:"):
            with pytest.raises(OSError, match="No such device or address"):
                os.open(link, os.O_WRONLY)
    hako("release", path)
    hako("kill", path)
