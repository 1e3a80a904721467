"""What many containers cost: barns of a hundred to a thousand, and three hundred containers that are each alone."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from tests.bench.limits import Row, medians
from tests.bench.memory import pss

PROJECT = Path(__file__).parents[2]
HAKO = str(PROJECT / ".venv" / "bin" / "hako")

FILE = """
from hakoniwa import Haconiwa

with Haconiwa.define() as config:
    config.name = {name!r}
    config.init_command = ["/bin/sleep", "100000"]
    config.chroot_to({rootfs!r})
    config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")
    for number in range({children}):
        with config.define() as container:
            container.name = f"{name}-{{number}}"
"""

SIZES = (100, 300, 1000)
FURTHER = 1.65  # MB of each further container of a barn
ALONE, ALONE_ONES = 5.3, 10  # MB of a container alone in the background, and how many of them are there
LINEAR = 1.5  # each container of a barn of 1,000 to each of a barn of 100: `pivot_root` looks at every task of the host
SEPARATE = 300
BESIDE_MANY = 1.3  # a command with 300 separate containers to the same with one


def report(folder: Path, rootfs: Path, sizes: tuple[int, ...] = SIZES) -> list[Row]:
    """The rows of the table."""
    return [*alone(folder, rootfs), *barns(folder, rootfs, sizes), *separate(folder, rootfs)]


def write(folder: Path, rootfs: Path, name: str, children: int = 0) -> str:
    """A container file: of one container, or of a barn."""
    path = folder / f"{name}.haco.py"
    path.write_text(FILE.format(name=name, rootfs=str(rootfs), children=children))
    return str(path)


def quietly(*words: str) -> float:
    """Seconds of one command of ours."""
    began = time.perf_counter()
    subprocess.run([HAKO, *words], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def supervisors_of(path: str) -> list[int]:
    """Those of the containers of a file."""
    listed = json.loads(subprocess.run([HAKO, "ps", "--json"], check=True, capture_output=True).stdout)["containers"]
    return [container["supervisor_pid"] for container in listed if container["file"] == path]


def parent_of(pid: int) -> int:
    """`man 5 proc_pid_stat`."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def alone(folder: Path, rootfs: Path) -> list[Row]:
    """What stays beside a container in the background that is alone in its barn: one of ten, which share the interpreter's own pages."""
    paths = [write(folder, rootfs, f"bench-alone-{number}") for number in range(ALONE_ONES)]
    for path in paths:
        quietly("start", "-D", path)
    found = {pid for path in paths for pid in supervisors_of(path)}
    above = {parent_of(pid) for pid in found}
    size = sum(pss(pid) for pid in found | {pid for pid in above if is_ours(pid)}) / len(paths) / 1024
    for path in paths:
        end(path)
    return [Row("memory (PSS) of a container alone in the background, one of ten", size, "{:.2f} MB", ALONE)]


def is_ours(pid: int) -> bool:
    """Whether it is a barn's process, and not who has adopted it."""
    return pid > 1 and Path(f"/proc/{pid}/comm").read_text().startswith("hako")


def barns(folder: Path, rootfs: Path, sizes: tuple[int, ...]) -> list[Row]:
    """Up, listed, attached to, killed and forgotten; and the memory of each container."""
    rows = []
    each: dict[int, dict[str, float]] = {}
    for size in sizes:
        name = f"bench-barn-{size}"
        path = write(folder, rootfs, name, size)
        took = each[size] = {"start -D": quietly("start", "-D", path)}
        found = supervisors_of(path)
        if len(found) != size:
            raise SystemExit(f"bench: {len(found)} of {size} containers run")
        memory = sum(map(pss, found)) / size / 1024
        for words in (["ps"], ["check", path], ["status", path], ["attach", "-n", f"{name}-0", "--", "/bin/true"]):
            took[words[0]] = quietly(*words)
        took["kill"] = quietly("kill", path)
        took["rm"] = quietly("rm", path)
        rows.append(Row(f"a barn of {size}: memory (PSS) of each container", memory, "{:.2f} MB", FURTHER))
        rows.append(Row(f"a barn of {size}: up", took["start -D"], "{:.2f} s", size * 0.02))
        rows.append(Row(f"a barn of {size}: killed", took["kill"], "{:.2f} s", size * 0.01))
    least, most = min(sizes), max(sizes)
    for word in each[least]:
        ratio = (each[most][word] / most) / (each[least][word] / least)
        what = f"`{word}`: each container of a barn of {most} to each of a barn of {least}"
        rows.append(Row(what, ratio, "{:.2f} ×", LINEAR, f" ({each[most][word]:.2f} s)"))
    return rows


def separate(folder: Path, rootfs: Path) -> list[Row]:
    """Commands for one of many containers that have a file each, to the same with one alone."""
    paths = [write(folder, rootfs, f"bench-one-{number}") for number in range(SEPARATE)]
    first = paths[0]
    quietly("start", "-D", first)
    commands = {"attach FILE": [HAKO, "attach", first, "--", "/bin/true"], "ps": [HAKO, "ps"]}
    one = medians(commands, 20) | {"kill FILE": killed(first)}
    for path in paths[1:]:
        quietly("start", "-D", path)
    many = medians(commands, 20) | {"kill FILE": killed(first)}
    for path in paths:
        end(path)
    return [
        Row(
            f"`{word}` with {SEPARATE} separate containers, to the same with one",
            many[word] / one[word],
            "{:.2f} ×",
            BESIDE_MANY,
        )
        for word in one
    ]


def killed(path: str, rounds: int = 10) -> float:
    """The median of `kill`; the container runs again afterwards."""
    times = []
    for _ in range(rounds):
        times.append(quietly("kill", path))
        quietly("start", "-D", path)
    return sorted(times)[len(times) // 2]


def end(path: str) -> None:
    """Kill and forget."""
    quietly("kill", path)
    quietly("rm", path)
