"""`make bench`: starts and attaches against other tools, interleaved in one run, as ratios to an empty interpreter.

Prints Markdown tables; `--write` puts them into docs/performance.md as well.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).parents[2]
sys.path.insert(0, str(PROJECT))

from tests.bench import rootfs as built  # noqa: E402
from tests.bench import supervisor  # noqa: E402
from tests.bench.memory import pss  # noqa: E402

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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=60, help="rounds (60)")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: containers of several tools are started: run it as root")
    with tempfile.TemporaryDirectory(prefix="hakoniwa-bench.") as folder, places(Path(folder)):
        text = "\n".join(report(Path(folder), options.n))
    print(text)
    if options.write:
        page = PAGE.read_text()
        before, _, rest = page.partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


@contextmanager
def places(folder: Path) -> Iterator[None]:
    """hakoniwa's own folders in ours; the run directory where it is on an ordinary system."""
    for word in ("LIB", "CACHE", "LOG"):
        os.environ[f"HAKONIWA_{word}_DIR"] = str(folder / word.lower())
    yield


def report(folder: Path, rounds: int) -> list[str]:
    """All tables, as lines."""
    rootfs = folder / "rootfs"
    rootfs.mkdir()
    subprocess.run([str(PROJECT / "bootstrap" / "busybox")], env={**os.environ, "ROOTFS": str(rootfs)}, check=True)
    plain = write_file(folder, "bench-plain", f"config.chroot_to({str(rootfs)!r})")
    host = write_file(folder, "bench-host", 'config.bootstrap.strategy = "host"')
    subprocess.run([HAKO, "create", host], check=True, stderr=subprocess.DEVNULL)
    lines = ["Start of `/bin/true`, from the command to its end:", ""]
    lines += table({**starts(plain, host), **peers(folder, rootfs)}, rounds)
    lines += [
        "",
        "What isolation costs (aim: a user namespace, a v2 cgroup, seccomp and few capabilities 1.3 × without):",
        "",
    ]
    lines += table({"empty interpreter": EMPTY, **isolated(folder, rootfs)}, rounds)
    lines += ["", "`/bin/true` in a running container:", ""]
    with running(plain) as pid:
        attach = {
            "empty interpreter": EMPTY,
            "hako attach": [HAKO, "attach", plain, "--", "/bin/true"],
            "nsenter": ["nsenter", "-t", str(pid), "-a", "/bin/true"],
        }
        with runtime_peers(folder) as more:
            lines += table(attach | more, rounds)
    lines += ["", *prompt(host, max(5, rounds // 4)), "", *memory(folder, rootfs)]
    lines += ["", "The supervisor:", "", *supervisor.report(folder, rootfs)]
    lines += ["", "Root file systems:", "", *built.report(folder, max(3, rounds // 9))]
    for file in folder.glob("*.haco.py"):
        subprocess.run([HAKO, "rm", file], check=False, stderr=subprocess.DEVNULL)
    subprocess.run([HAKO, "rm", "--rootfs", host], check=False, stderr=subprocess.DEVNULL)
    return lines


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


def table(commands: dict[str, list[str]], rounds: int) -> list[str]:
    """Medians and ratios to the first command, each round running every command once."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 3):
        for name, words in commands.items():
            began = time.perf_counter()
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
            )
            if done.returncode:
                sys.exit(f"bench: {' '.join(words)} failed with {done.returncode}")
            if number >= 3:  # the first rounds warm the caches
                times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(every) for name, every in times.items()}
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


def prompt(file: str, rounds: int) -> list[str]:
    """How long it takes to a prompt, on a terminal."""
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
    return [f"A prompt from `hako start` in a created `host` container: {statistics.median(times) * 1e3:.0f} ms."]


def memory(folder: Path, rootfs: Path) -> list[str]:
    """Proportional set size of the barn's process and its supervisors, for one container and for ten."""
    sizes = {}
    for number in (1, 10):
        children = "".join(
            f"\n    with config.define() as c:\n        c.name = 'bench-{number}-{i}'" for i in range(number)
        )
        file = write_file(folder, f"bench-{number}", f"config.chroot_to({str(rootfs)!r})", children)
        subprocess.run([HAKO, "start", "-D", file], check=True, stdout=subprocess.DEVNULL)
        known = json.loads(subprocess.run([HAKO, "ps", "--json"], check=True, capture_output=True).stdout)["containers"]
        supervisors = [c["supervisor_pid"] for c in known if c["barn"] == f"bench-{number}"]
        barn = int(Path(f"/proc/{supervisors[0]}/stat").read_text().rpartition(")")[2].split()[1])
        sizes[number] = sum(map(pss, [barn, *supervisors]))
        subprocess.run([HAKO, "kill", file], check=True)
        subprocess.run([HAKO, "rm", file], check=True)
    further = (sizes[10] - sizes[1]) / 9
    return [
        f"Memory (PSS) of the barn's process and its supervisors: {sizes[1] / 1024:.1f} MB for one container, "
        f"{sizes[10] / 1024:.1f} MB for ten: {further / 1024:.2f} MB for each further one.",
    ]


main()
