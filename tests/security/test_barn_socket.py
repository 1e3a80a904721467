"""Who asks a barn's process with ill intent, and what its containers find of it."""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hakoniwa.run.barn.late.requests import LARGEST
from tests.barns import Barns, barns, document
from tests.conftest import LONGEST, Hako

__all__ = ["barns"]

Writer = Callable[..., Path]
SLEEP = {"command": ["/bin/sleep", "1000"]}
NOBODY = 65534


@pytest.fixture
def barn(box: Writer, barns: Barns, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty barn, and the file that it is of. The test is in the folder of its socket."""
    path = box()
    barns("make", path, empty=True, namespaces=["net", "pid"])
    monkeypatch.chdir(barns.folder / "box")
    return path


def connect() -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(LONGEST)
    client.connect("control.sock")
    return client


def ask(line: bytes) -> dict[str, Any]:
    """What is answered to some bytes."""
    with connect() as client:
        client.sendall(line)
        told = b""
        while more := client.recv(65536):
            told += more
    found: dict[str, Any] = json.loads(told)
    return found


def refused(line: bytes) -> str:
    (refusal,) = ask(line)["refusals"]
    message: str = refusal["message"]
    return message


def is_served() -> bool:
    return ask(b'{"command": "list"}\n') == {"members": [], "refusals": []}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"\n", "is no line of JSON"),
        (b"\xff\xfe\n", "is no line of JSON"),
        (b'{"command": "list"} {"command": "end"}\n', "is no line of JSON"),
        (b"[" * 100_000 + b"\n", "is no line of JSON"),
        (b'["list"]\n', "has none of these commands"),
        (b'{"command": "open"}\n', "has none of these commands"),
        (b'{"command": ["list"]}\n', "has none of these commands"),
        (b'{"command": "list", "name": "x"}\n', "has an unknown 'name'"),
        (b'{"command": "start"}\n', "lacks 'name'"),
        (b'{"command": "start", "name": 1}\n', "name: must be str, not 1"),
        (b'{"command": "start", "name": "x", "wait": 1}\n', "wait: must be bool, not 1"),
        (b'{"command": "start", "name": "../box"}\n', "has no container '../box'"),
        (b'{"command": "add", "document": {}}\n', "document: must be str"),
        (b'{"command": "add", "document": "' + b"[" * 50_000 + b'"}\n', "nested too deeply"),
    ],
    ids=range(14),
)
def test_what_is_no_request(barn: Path, barns: Barns, line: bytes, told: str) -> None:
    assert told in refused(line)
    assert is_served()
    barns("end", "box")


def test_too_much_is_not_taken(barn: Path, barns: Barns) -> None:
    with connect() as client:
        sent = 0
        try:
            while sent < 8 * LARGEST:  # no end of the line
                sent += client.send(b"x" * 65536)
            told = client.recv(65536)
        except ConnectionError:
            told = b""
    assert sent < 8 * LARGEST or b"bytes at most" in told
    assert is_served()
    barns("end", "box")


def test_who_says_nothing_keeps_nobody_waiting(barn: Path, barns: Barns) -> None:
    silent = [connect() for _ in range(50)]
    slow = connect()
    slow.sendall(b'{"command": ')
    assert is_served()
    assert silent[0].recv(1) == b""  # let go of, since there were too many
    assert slow.recv(1) == b""  # time was up
    for client in (*silent, slow):
        client.close()
    barns("end", "box")


def test_who_does_not_wait_for_the_answer_harms_nobody(barn: Path, barns: Barns, hako: Hako) -> None:
    for name in ("a", "b", "c"):
        line = json.dumps({"command": "add", "document": document(hako, barn, name=name, process=SLEEP)})
        with connect() as client:
            client.sendall(line.encode() + b"\n")  # and is gone before the document was looked at
    assert is_served() or barns.fares("box")
    barns("end", "box")


def test_descriptors_that_are_sent_are_not_kept(barn: Path, barns: Barns) -> None:
    def count() -> int:
        return len(os.listdir(f"/proc/{barns.process('box')}/fd"))

    before = count()
    with connect() as client:
        rights = array.array("i", [0] * 200).tobytes()
        for _ in range(5):
            client.sendmsg([b" "], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        client.sendall(b'{"command": "list"}\n')
        assert client.recv(65536)
    assert is_served()
    assert count() <= before + 1
    barns("end", "box")


OTHER_USER = """
import os, socket, sys
client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
try:
    client.connect("control.sock")
    print("connected")
    client.sendall(b'{"command": "end"}\\n')
    sys.stdout.write(client.recv(65536).decode())
except ConnectionError:
    pass
except PermissionError:
    print("kept out")
"""


def test_another_user_is_not_heard(barn: Path, barns: Barns, places: Path) -> None:
    for folder in (barns.folder / "box", barns.folder, barns.folder.parent):
        assert folder.stat().st_mode & 0o777 == 0o700
    argv = [sys.executable, "-c", OTHER_USER]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "kept out\n"
    os.chmod(".", 0o755)  # without that defence, what is left is who the kernel says it is
    os.chmod("control.sock", 0o777)
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "connected\n"
    os.chmod(".", 0o700)
    assert is_served()
    barns("end", "box")


def test_containers_find_nothing_of_the_barn(barn: Path, barns: Barns, hako: Hako) -> None:
    security = {"capabilities": {"named": ["cap_sys_ptrace", "cap_kill", "cap_dac_override"]}}
    barns("add", "box", document=document(hako, barn, name="late", process=SLEEP, security=security))
    barns("start", "box", name="late")

    def inside(script: str) -> str:
        words = ("attach", "-n", "late", "-A", "cap_sys_ptrace", "--", "sh", "-c", script)
        return hako(*words, status=None).stdout

    assert inside("find / -name control.sock -o -name barn.json 2>/dev/null") == ""
    assert inside("cat /proc/net/unix | wc -l") == "1\n"
    # With cap_sys_ptrace it sees into the first process: there is nothing in it.
    assert inside("ls -A /proc/1/root/") == ""
    assert inside("ls -A /proc/1/fd") == ""
    assert inside("tr '\\0' '\\n' < /proc/1/environ") in ("", "HOME=/\n")
    assert inside("echo x > /proc/1/root/x || echo no") == "no\n"
    assert inside("echo x > /proc/1/exe || echo no") == "no\n"
    assert inside("for s in TERM KILL STOP USR1; do kill -$s 1; done; grep State /proc/1/status").split()[1] == "S"
    assert inside("cat /proc/1/mountinfo | wc -l") == "1\n"
    barns("end", "box")


def test_what_has_taken_the_place_of_a_pin_is_left_alone(box: Writer, barns: Barns, places: Path) -> None:
    kept = places / "kept"
    barns("make", box(), empty=True, namespaces=["net"], persisted={"net": str(kept)})
    subprocess.run(["umount", str(kept)], check=True)
    kept.unlink()
    kept.symlink_to("/etc/passwd")
    barns("end", "box")
    assert kept.is_symlink()
    assert os.path.exists("/etc/passwd")
