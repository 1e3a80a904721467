"""Write executed.txt, the functions that quick commands execute (bodies.py): note_executed.py [FILE]. For root.

It runs the commands with the launcher beside this interpreter, in a folder and with states of its own, and has the interpreter
note each function of ours that is called, in every process. Call it when tests/system/test_bodies.py says so.
"""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hakoniwa.kernel.processes import process

AT_ONCE = "at once"
TARGET = Path(__file__).with_name("executed.txt")
LAUNCHER = Path(sys.executable).with_name("hako")
HEAD = """\
# The functions that quick commands execute, by the last names of their modules. Written by note_executed.py; see bodies.py.
# Those of a group but the first are loaded when one of them is called, all at once.
"""
NOTING = """
import posix, sys
NOTES, seen = 121, set()
posix.dup2(posix.open({notes!r}, posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND, 0o600), NOTES, False)
def note(frame, event, argument):
    code = frame.f_code
    if event == "call" and code not in seen:
        seen.add(code)
        place, _, name = code.co_filename.rpartition("/hakoniwa/")
        if place and "<" not in code.co_qualname:
            module = f"/hakoniwa/{{name}}".removesuffix(".py").removesuffix("/__init__")
            posix.write(NOTES, f"{{module.rpartition('/')[2]}} {{code.co_qualname}}\\n".encode())
sys.setprofile(note)
{launcher}
process = sys.modules.get("hakoniwa.kernel.processes.process")
if process is not None:
    close_all_but = process.close_all_but
    process.close_all_but = lambda keep: close_all_but({{*keep, NOTES}})
main()
"""
BOX = """\
from hakoniwa import Haconiwa
with Haconiwa.define() as config:
    config.name = {name!r}
    {body}
    config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")
"""
ISOLATED = '\n    config.namespace.unshare("user")\n    config.cgroup.v2["cgroup.max.depth"] = 5'
TWO = """
    config.init_command = ["/bin/sleep", "1000"]
    for number in (1, 2):
        with config.define() as container:
            container.name = config.name + str(number)"""

Noted = set[tuple[str, str]]


class Notes:
    """Runs `hako` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kinds = ("RUN", "LIB", "CACHE", "LOG")
        self.environ = {**os.environ, **{f"HAKONIWA_{kind}_DIR": str(folder / kind.lower()) for kind in kinds}}
        root = folder / "root"
        for name in ("bin", "proc", "sys", "dev", "tmp", "etc"):
            (root / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin")
        for name in ("true", "sh", "sleep"):
            (root / "bin" / name).symlink_to("busybox")
        (root / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
        self.root = f"config.chroot_to({str(root)!r})"

    def write(self, name: str, body: str) -> str:
        """A container file."""
        path = self.folder / f"{name}.haco.py"
        path.write_text(BOX.format(name=f"{name}-{os.getpid()}", body=body))
        return str(path)

    def run(self, *words: str) -> None:
        """Run a command, and note nothing."""
        subprocess.run([LAUNCHER, *words], env=self.environ, check=True, stdin=-3, stdout=-3)

    def note(self, *words: str, terminal: bool = False, end: str | None = None) -> Noted:
        """Run a command, and note what it executes; with `end`, also what it leaves in the background, to the end of that file's."""
        notes = self.folder / "notes"
        launcher = LAUNCHER.read_text().removesuffix("main()\n")
        command = [sys.executable, "-ISc", NOTING.format(notes=str(notes), launcher=launcher), *words]
        master, slave = pty.openpty() if terminal else (-1, -3)
        try:
            subprocess.run(command, env=self.environ, check=True, stdin=slave, stdout=slave)
        finally:
            if terminal:
                os.close(master)
                os.close(slave)
        if end is not None:
            self.run("kill", end)
        found = {tuple(line.split()) for line in notes.read_text().splitlines()}
        notes.unlink()
        return found  # type: ignore[return-value]

    @contextmanager
    def running(self, name: str) -> Iterator[str]:
        """A container in the background."""
        path = self.write(name, self.root)
        self.run("start", "-D", path, "--", "/bin/sleep", "1000")
        try:
            yield path
        finally:
            self.run("kill", "-T", "0", path)


def main() -> None:
    """Note, and write."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    with tempfile.TemporaryDirectory(dir="/root") as folder:
        os.chmod(folder, 0o755)
        executed = dict(scenes(Notes(Path(folder))))
    known = executed.pop(AT_ONCE)
    groups: dict[str, Noted] = {AT_ONCE: known}
    for function in sorted(set().union(*executed.values()) - known):
        scene = ", ".join(name for name, found in executed.items() if function in found)
        groups.setdefault(scene, set()).add(function)
    text = HEAD
    for group, functions in groups.items():
        text += f"\n[{group}]\n" + "".join(lines(functions))
    target.write_text(text)


def scenes(notes: Notes) -> Iterator[tuple[str, Noted]]:
    """What is executed, and by what."""
    plain = notes.write("plain", notes.root)
    notes.run(
        "start", plain, "--", "/bin/true"
    )  # makes what is kept: the description, the program of the filter, folders
    found = notes.note("version") | notes.note("start", plain, "--", "/bin/true")
    with notes.running("attached") as running:
        read = notes.note("attach", running, "--", "/bin/true")
        found |= notes.note("attach", running, "--", "/bin/true")  # which takes what the first one has kept
        listed = notes.note("ps") | notes.note("status", running)
        typed = notes.note("attach", running, "--", "/bin/true", terminal=True)
    notes.run("start", "-D", running, "--", "/bin/sleep", "1000")
    found |= notes.note("kill", running)
    notes.run("start", "-D", running, "--", "/bin/sleep", "1000")
    yield AT_ONCE, found | notes.note("kill", "-T", "0", running)
    yield "not kept", read | notes.note("start", notes.write("new", notes.root), "--", "/bin/true")
    two = notes.write("two", notes.root + TWO)
    notes.run("start", "-D", two)
    notes.run("kill", "-T", "0", two)
    found = notes.note("start", "-D", two) | notes.note("kill", "-T", "0", two)
    alone = notes.write("alone", notes.root)
    notes.run("start", "-D", alone, "--", "/bin/sleep", "1000")
    notes.run("kill", alone)
    yield "in the background", found | notes.note("start", "-D", alone, "--", "/bin/sleep", "1000", end=alone)
    yield "at a terminal", typed | notes.note("start", plain, "--", "/bin/true", terminal=True)
    isolated = notes.write("isolated", notes.root + ISOLATED)
    notes.run("start", isolated, "--", "/bin/true")
    yield "isolated", notes.note("start", isolated, "--", "/bin/true")
    host = notes.write("host", 'config.bootstrap.strategy = "host"')
    notes.run("start", "-b", host, "--", "/bin/true")
    yield "of the host", notes.note("start", host, "--", "/bin/true")
    notes.run("rm", "--rootfs", host)
    yield "listed", listed
    process.unshare(process.NAMESPACES["net"])  # a host without links
    other = notes.write("other", notes.root + "\n" + '    config.network.container_ip = "auto"')
    joined = notes.write("joined", notes.root + "\n" + '    config.network.publish("8080:80")')
    notes.run("start", "-D", other, "--", "/bin/sleep", "1000")
    notes.run("start", joined, "--", "/bin/true")
    found = notes.note("start", joined, "--", "/bin/true")
    notes.run("kill", "-T", "0", other)
    yield "with a network", found


def lines(executed: Noted) -> Iterator[str]:
    modules: dict[str, list[str]] = {}
    for module, name in sorted(executed):
        modules.setdefault(module, []).append(name)
    for module, names in modules.items():
        yield f"{module}: {' '.join(names)}\n"


main()
