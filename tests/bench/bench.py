"""`make bench`: starts and attaches against other tools, interleaved in one run, as ratios to an empty interpreter.

Prints Markdown tables; `--write` puts them into docs/performance.md as well. Fails if something is larger than its limit.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).parents[2]
sys.path.insert(0, str(PROJECT))

from tests.bench import network, scale, supervisor  # noqa: E402
from tests.bench import rootfs as built  # noqa: E402
from tests.bench.limits import Limits, Row, medians  # noqa: E402

PYTHON = str(PROJECT / ".venv" / "bin" / "python")
HAKO = str(PROJECT / ".venv" / "bin" / "hako")
PAGE = PROJECT / "docs" / "performance.md"
BEGIN, END = "<!-- measured -->", "<!-- end -->"
# podman would raise them, which not every machine allows.
LIMITS = "--ulimit nofile=1024:1024 --ulimit nproc=1024:1024"
EMPTY = [PYTHON, "-I", "-S", "-c", "pass"]

FILE = """
from hakoniwa import Haconiwa

with Haconiwa.define() as config:
    config.name = {name!r}
    config.init_command = ["/bin/sleep", "1000"]
    {root}
    config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")
    {more}
"""


# What is measured, by the word that `--only` takes.
PARTS = ("start", "isolation", "attach", "prompt", "supervisor", "scale", "network", "rootfs")
# In empty interpreters.
START, HOST, ATTACH = 2.5, 2.8, 2.0
TO_RUNC = 0.72  # of a start
ISOLATED = 1.3  # a user namespace, a v2 cgroup, seccomp and few capabilities, to without
PROMPT = 0.1  # seconds


def main() -> None:
    """Measure, print, and tell what is too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=60, help="rounds (60)")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="some of the parts")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: containers of several tools are started: run it as root")
    limits = Limits()
    with tempfile.TemporaryDirectory(prefix="hakoniwa-bench.") as folder, places(Path(folder)):
        bench = Bench(Path(folder), options.n, limits)
        try:
            text = "\n\n".join("\n".join(bench.part(part)) for part in options.only)
        finally:
            bench.clear()
    print(text)
    if options.write:
        page = PAGE.read_text()
        before, _, rest = page.partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")
    if broken := limits.broken():
        sys.exit("\n".join(["bench: larger than it may be:", *map(str, broken)]))


@contextmanager
def places(folder: Path) -> Iterator[None]:
    """hakoniwa's own folders in ours; the run directory where it is on an ordinary system."""
    for word in ("LIB", "CACHE", "LOG"):
        os.environ[f"HAKONIWA_{word}_DIR"] = str(folder / word.lower())
    yield


class Bench:
    """One run in a folder of its own."""

    def __init__(self, folder: Path, rounds: int, limits: Limits) -> None:
        self.folder = folder
        self.rounds = rounds
        self.limits = limits
        self.rootfs = folder / "rootfs"
        self.rootfs.mkdir()
        script = str(PROJECT / "bootstrap" / "busybox")
        subprocess.run([script], env={**os.environ, "ROOTFS": str(self.rootfs)}, check=True)
        self.plain = write_file(folder, "bench-plain", f"config.chroot_to({str(self.rootfs)!r})")
        self.host = write_file(folder, "bench-host", 'config.bootstrap.strategy = "host"')
        subprocess.run([HAKO, "create", self.host], check=True, stderr=subprocess.DEVNULL)

    def part(self, name: str) -> list[str]:
        """The lines of one part, with what they are about."""
        measure: Callable[[], list[str]] = getattr(self, f"_{name}")
        return measure()

    def clear(self) -> None:
        """Forget all containers."""
        for file in self.folder.glob("*.haco.py"):
            subprocess.run([HAKO, "rm", file], check=False, stderr=subprocess.DEVNULL)
        subprocess.run([HAKO, "rm", "--rootfs", self.host], check=False, stderr=subprocess.DEVNULL)

    def _start(self) -> list[str]:
        found = medians({**starts(self.plain, self.host), **peers(self.folder, self.rootfs)}, self.rounds)
        floor, runc = found["empty interpreter"], found.get("runc run")
        rows = [
            Row("`hako start`, to the empty interpreter", found["hako start"] / floor, "{:.2f} ×", START),
            Row("the same, strategy `host`", found["hako start, strategy host"] / floor, "{:.2f} ×", HOST),
        ]
        if runc:
            rows.append(Row("`hako start`, to `runc run`", found["hako start"] / runc, "{:.2f} ×", TO_RUNC))
        said = "Start of `/bin/true`, from the command to its end:"
        return [said, "", *table(found), "", *self.limits.table(rows)]

    def _isolation(self) -> list[str]:
        found = medians({"empty interpreter": EMPTY, **isolated(self.folder, self.rootfs)}, self.rounds)
        without, full = list(found.values())[1:]
        rows = [Row("a user namespace, a v2 cgroup and seccomp, to without", full / without, "{:.2f} ×", ISOLATED)]
        return ["What isolation costs:", "", *table(found), "", *self.limits.table(rows)]

    def _attach(self) -> list[str]:
        with running(self.plain) as pid, runtime_peers(self.folder) as more:
            attach = {
                "empty interpreter": EMPTY,
                "hako attach": [HAKO, "attach", self.plain, "--", "/bin/true"],
                "nsenter": ["nsenter", "-t", str(pid), "-a", "/bin/true"],
            }
            found = medians(attach | more, self.rounds)
        ratio = found["hako attach"] / found["empty interpreter"]
        rows = [Row("`hako attach`, to the empty interpreter", ratio, "{:.2f} ×", ATTACH)]
        return ["`/bin/true` in a running container:", "", *table(found), "", *self.limits.table(rows)]

    def _prompt(self) -> list[str]:
        took = prompt(self.host, max(5, self.rounds // 4))
        what = "a prompt from `hako start` in a created `host` container"
        return self.limits.table([Row(what, took, "{:.3f} s", PROMPT)])

    def _supervisor(self) -> list[str]:
        return ["The supervisor:", "", *self.limits.table(supervisor.report(self.folder, self.rootfs))]

    def _scale(self) -> list[str]:
        return ["Many containers:", "", *self.limits.table(scale.report(self.folder, self.rootfs))]

    def _network(self) -> list[str]:
        rows = network.report(self.folder, self.rootfs, max(5, self.rounds // 3))
        return ["Networks:", "", *self.limits.table(rows)]

    def _rootfs(self) -> list[str]:
        rows = built.report(self.folder, max(3, self.rounds // 9))
        return ["Root file systems:", "", *self.limits.table(rows)]


def write_file(folder: Path, name: str, root: str, more: str = "") -> str:
    """A container file."""
    path = folder / f"{name}.haco.py"
    path.write_text(FILE.format(name=name, root=root, more=more))
    return str(path)


def starts(plain: str, host: str) -> dict[str, list[str]]:
    """What is measured of ours, after the floor."""
    return {
        "empty interpreter": EMPTY,
        "hako start": [HAKO, "start", plain, "--", "/bin/true"],
        "hako start, strategy host": [HAKO, "start", host, "--", "/bin/true"],
    }


def isolated(folder: Path, rootfs: Path) -> dict[str, list[str]]:
    """The same start with less and with more isolation than usual."""
    root = f"config.chroot_to({str(rootfs)!r})"
    without = "\n    config.seccomp.profile = None\n    config.capabilities.allow('all')"
    full = '\n    config.namespace.unshare("user")\n    config.cgroup.v2["cgroup.max.depth"] = 5'
    chosen = {"without seccomp, all capabilities": without, "with a user namespace and a v2 cgroup": full}
    return {
        f"hako start {words}": [HAKO, "start", write_file(folder, f"bench-{len(more)}", root, more), "--", "/bin/true"]
        for words, more in chosen.items()
    }


def peers(folder: Path, rootfs: Path) -> dict[str, list[str]]:
    """The same of other tools, as far as they are installed and work here."""
    root = str(rootfs)
    bundle = make_bundle(folder, rootfs)
    config = folder / "lxc.conf"
    config.write_text(f"lxc.rootfs.path = dir:{root}\nlxc.uts.name = bench\nlxc.mount.auto = proc sys\n")
    every = {
        "unshare": f"unshare -m -u -i -p -f --mount-proc --root {root} /bin/true",
        "bwrap": f"bwrap --unshare-pid --unshare-uts --unshare-ipc --bind {root} / --proc /proc --dev /dev /bin/true",
        "crun run": f"crun run --bundle {bundle} bench-c",
        "runc run": f"runc run --bundle {bundle} bench-r",
        "lxc-execute": f"lxc-execute -n bench -f {config} -- /bin/true",
        "systemd-nspawn": f"systemd-nspawn -q --register=no --keep-unit -D {root} /bin/true",
        "podman run": f"podman --runtime runc run --rm --network=host {LIMITS} --rootfs {root} /bin/true",
    }
    return {name: words.split() for name, words in every.items() if works(name, words.split())}


def works(name: str, words: list[str]) -> bool:
    """Whether a peer is there and does what is measured; else say why not."""
    if not shutil.which(words[0]):
        print(f"bench: {name} is not installed (make bench-peers)", file=sys.stderr)
        return False
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        told = (done.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"bench: {name} does not work here: {told}", file=sys.stderr)
    return done.returncode == 0


def make_bundle(folder: Path, rootfs: Path, name: str = "bundle", program: str = "/bin/true") -> Path:
    """An OCI bundle, as runc's own example configuration has it, without a terminal."""
    bundle = folder / name
    bundle.mkdir(exist_ok=True)
    tool = shutil.which("runc") or shutil.which("crun")
    if tool and not (bundle / "config.json").exists():
        subprocess.run([tool, "spec"], cwd=bundle, check=True, stderr=subprocess.DEVNULL)
        config = json.loads((bundle / "config.json").read_text())
        config["process"].update(terminal=False, args=program.split())
        config["root"]["path"] = str(rootfs)
        (bundle / "config.json").write_text(json.dumps(config))
    return bundle


@contextmanager
def running(file: str) -> Iterator[int]:
    """A container in the background; its pid."""
    done = subprocess.run([HAKO, "start", "-D", file], check=True, capture_output=True, text=True)
    try:
        yield int(done.stdout.split()[1])
    finally:
        subprocess.run([HAKO, "kill", file], check=True)


@contextmanager
def runtime_peers(folder: Path) -> Iterator[dict[str, list[str]]]:
    """`exec` of the runtimes, in containers of their own."""
    bundle = make_bundle(folder, folder / "rootfs", "sleeping", "/bin/sleep 1000")
    found = {}
    for tool in ("crun", "runc"):
        if not shutil.which(tool):
            continue
        name = f"bench-exec-{tool}"
        words = [tool, "run", "--detach", "--bundle", str(bundle), name]
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        )
        if done.returncode == 0:
            found[f"{tool} exec"] = [tool, "exec", name, "/bin/true"]
    try:
        yield {name: words for name, words in found.items() if works(name, words)}
    finally:
        for words in found.values():
            subprocess.run([words[0], "delete", "--force", words[2]], check=False, stderr=subprocess.DEVNULL)


def table(medians: dict[str, float]) -> list[str]:
    """Medians, and their ratios to the first command and to runc."""
    floor = next(iter(medians.values()))
    runc = medians.get("runc run")
    lines = [
        "| command | median | × empty interpreter |" + (" × runc |" if runc else ""),
        "|---|--:|--:|" + ("--:|" if runc else ""),
    ]
    for name, median in medians.items():
        lines.append(
            f"| {name} | {median * 1e3:.1f} ms | {median / floor:.2f} |" + (f" {median / runc:.2f} |" if runc else "")
        )
    return lines


def prompt(file: str, rounds: int) -> float:
    """The median of the seconds that it takes to a prompt, on a terminal."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        pid, master = pty.fork()
        if pid == 0:
            os.execv(HAKO, [HAKO, "start", file, "--", "/bin/sh", "-i"])
        seen = b""
        while b"# " not in seen:
            seen += os.read(master, 1024)
        times.append(time.perf_counter() - began)
        os.write(master, b"exit\n")
        try:
            while os.read(master, 1024):
                pass
        except OSError:
            pass
        os.waitpid(pid, 0)
        os.close(master)
    return statistics.median(times)


main()
