"""Runs `hako` as an ordinary user, with and without ranges in /etc/subuid: in a mount namespace that has other such files."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import HAKO, LONGEST

UID = GID = 1  # Debian's `daemon`: somebody with a name, whom newuidmap wants
FIRST, COUNT = 0x60000000, 65536

# The checkout may lie below a folder that is root's alone: there, it is shown in an empty one that everybody may enter.
SCRIPT = """
set -e
mount --make-rprivate /
if [ -d "$FOLDER/etc" ]; then
    mount --bind "$FOLDER/etc/subuid" /etc/subuid
    mount --bind "$FOLDER/etc/subgid" /etc/subgid
fi
if [ -n "$TUN" ]; then
    mount -t tmpfs -o mode=755 tmpfs /dev/net
    mknod -m 666 /dev/net/tun c 10 200
fi
if [ -n "$CLOSED" ]; then
    mkdir -p "$FOLDER/hold"
    mount --rbind "$PROJECT" "$FOLDER/hold"
    mount -t tmpfs -o mode=755 tmpfs "$CLOSED"
    mkdir -p "$PROJECT"
    mount --move "$FOLDER/hold" "$PROJECT"
fi
cd "$FOLDER/home"
exec setpriv --reuid=$USER_ID --regid=$USER_ID --clear-groups --inh-caps=-all -- env -i $VARIABLES "$@"
"""


class Ordinary:
    """An ordinary user with a home of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.tun = False  # whether they have /dev/net/tun, as udev would give it to everybody
        (folder / "etc").mkdir()
        self.home.mkdir()
        os.chown(self.home, UID, GID)
        folder.chmod(0o755)
        self.grant(f"daemon:{FIRST}:{COUNT}\n")

    def grant(self, line: str) -> None:
        """What /etc/subuid and /etc/subgid say."""
        for name in ("subuid", "subgid"):
            (self.folder / "etc" / name).write_text(line)

    def grant_nothing(self) -> None:
        """Have the host's own files, which do not name this user: then nothing is mounted on /etc."""
        shutil.rmtree(self.folder / "etc")

    def variables(self) -> str:
        names = {"HOME": "", "XDG_RUNTIME_DIR": "run", "XDG_DATA_HOME": "data", "XDG_CACHE_HOME": "cache"}
        return " ".join(f"{name}={self.home / part}" for name, part in {**names, "XDG_STATE_HOME": "state"}.items())

    def write(self, body: str, name: str = "box") -> Path:
        """A container file in the user's home."""
        path = self.home / f"{name}.haco.py"
        lines = "\n".join("    " + line for line in body.strip("\n").splitlines())
        path.write_text(f"from hakoniwa import Haconiwa\nwith Haconiwa.define() as config:\n{lines}\n")
        return path

    def background(self, *words: str | Path) -> subprocess.Popen[bytes]:
        """Run a program beside the test, which must see to its end."""
        pipe = subprocess.PIPE
        argv = self.words(*words)
        return subprocess.Popen(argv, env=self.environ(), stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)

    def words(self, *words: str | Path) -> list[str]:
        """What runs a program as this user."""
        return ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", *map(str, words)]

    def environ(self) -> dict[str, str]:
        """The environment of that."""
        project = HAKO.parent.parent.parent
        above = [folder for folder in reversed(project.parents) if not folder.stat().st_mode & 0o001]
        return {
            "PATH": os.environ["PATH"],
            "FOLDER": str(self.folder),
            "PROJECT": str(project),
            "CLOSED": str(above[0]) if above else "",
            "USER_ID": str(UID),
            "TUN": "yes" if self.tun else "",
            "VARIABLES": f"{self.variables()} PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        }

    def run(self, *words: str | Path, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a program to the end."""
        running = self.background(*words)
        try:
            out, err = running.communicate(timeout=LONGEST)
        finally:
            running.kill()
        done = subprocess.CompletedProcess(running.args, running.returncode, out.decode(), err.decode())
        assert status is None or done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def hako(self, *words: str | Path, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run `hako`."""
        return self.run(HAKO, *words, status=status)


@pytest.fixture
def user() -> Iterator[Ordinary]:
    """The user; what they have left is removed."""
    folder = Path(tempfile.mkdtemp(prefix="hako-user-", dir="/var/tmp"))
    made = Ordinary(folder)
    yield made
    run = made.home / "run" / "hakoniwa"
    for name in os.listdir(run) if run.is_dir() else []:
        made.hako("kill", "-n", name, "-T", "0", status=None)
    shutil.rmtree(folder)
