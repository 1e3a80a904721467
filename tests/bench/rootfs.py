"""What building, packing and removing a rootfs costs, against the tools that do the same without us."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.limits import Row

PROJECT = Path(__file__).parents[2]
HAKO = str(PROJECT / ".venv" / "bin" / "hako")
SIZE = 300_000_000  # bytes of the tree that is packed and unpacked
RELEASE = "bookworm"

FILE = """
from hakoniwa import Haconiwa

with Haconiwa.define() as config:
    config.bootstrap.strategy = {strategy!r}
    {more}
"""

Action = Callable[[], None]


def report(folder: Path, rounds: int) -> list[Row]:
    """The rows of the table."""
    tree = make_tree(folder / "tree")
    rows = []
    for kind, compressor in (("tar.zst", "zstd -T0 -q"), ("tar.gz", "pigz")):
        archive = folder / f"box.{kind}"
        run(*packing(tree, archive, compressor))
        rows.append(row(f"unpack 300 MB, {kind}", *unpacked(folder, archive, rounds), "GNU tar", 1.15))
        found = packed(folder, tree, kind, compressor, rounds)
        rows.append(row(f"`hako archive` of it, {kind}", *found, "GNU tar", 1.15))
    return [*rows, *layered(folder, folder / "box.tar.zst", rounds), *bootstrapped(folder)]


def make_tree(folder: Path) -> Path:
    """About 300 MB of real files, of this system's."""
    folder.mkdir()
    size = 0
    for source in sorted([*Path("/usr/lib").iterdir(), *Path("/usr/share").iterdir()]):
        if size > SIZE or source.is_symlink() or not source.is_dir():
            continue
        found = int(subprocess.run(["du", "-sb", source], capture_output=True, text=True, check=True).stdout.split()[0])
        if size + found <= SIZE * 1.05:
            size += found
            above = folder / source.parent.relative_to("/")
            above.mkdir(parents=True, exist_ok=True)
            run("cp", "-a", str(source), str(above))
    return folder


def packing(tree: Path, archive: Path, compressor: str) -> list[str]:
    """What `hako archive` has tar do, by tar alone."""
    words = [
        "tar",
        "--create",
        f"--file={archive}",
        f"--directory={tree}",
        "--numeric-owner",
        "--sort=name",
        "--sparse",
    ]
    words += ["--format=posix", "--pax-option=delete=atime,delete=ctime", "--acls", "--xattrs", "--xattrs-include=*"]
    return [*words, f"--use-compress-program={compressor}", "."]


def unpacked(folder: Path, archive: Path, rounds: int) -> tuple[float, float]:
    """Seconds of `hako create` and of tar."""
    more = f"config.bootstrap.archive_path = {str(archive)!r}; config.bootstrap.cache = False"
    file = write(folder, "bench-unpack", "tarball", more)
    target = folder / "unpacked"
    words = ["tar", "--extract", f"--file={archive}", f"--directory={target}", "--numeric-owner", "--same-owner"]
    words += ["--same-permissions", "--acls", "--xattrs", "--xattrs-include=*"]

    def prepare() -> None:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        subprocess.run([HAKO, "rm", "--rootfs", file], check=False, stderr=subprocess.DEVNULL)
        os.sync()

    found = interleaved({"hako": [HAKO, "create", "-q", file], "tar": words}, rounds, prepare)
    prepare()
    return found["hako"], found["tar"]


def packed(folder: Path, tree: Path, kind: str, compressor: str, rounds: int) -> tuple[float, float]:
    """Seconds of `hako archive` and of tar."""
    path = folder / "bench-pack.haco.py"
    begin = "from hakoniwa import Haconiwa\n\nwith Haconiwa.define() as config:\n"
    path.write_text(f"{begin}    config.chroot_to({str(tree)!r})\n")
    ours = [HAKO, "archive", "-q", str(path), "-d", str(folder / f"ours.{kind}")]
    theirs = packing(tree, folder / f"theirs.{kind}", compressor)
    found = interleaved({"hako": ours, "tar": theirs}, rounds, os.sync)
    return found["hako"], found["tar"]


def layered(folder: Path, archive: Path, rounds: int) -> list[Row]:
    """A second `create` of the same, ten of them, snapshots, and removal."""
    more = f"config.bootstrap.archive_path = {str(archive)!r}"
    files = [write(folder, f"bench-layer-{number}", "tarball", more) for number in range(10)]
    first = timed([HAKO, "create", "-q", files[0]])
    others = [timed([HAKO, "create", "-q", file]) for file in files[1:]]
    lib = Path(os.environ["HAKONIWA_LIB_DIR"])
    used = int(subprocess.run(["du", "-sb", lib], capture_output=True, text=True, check=True).stdout.split()[0])
    one = int(
        subprocess.run(["du", "-sb", folder / "tree"], capture_output=True, text=True, check=True).stdout.split()[0]
    )
    run(HAKO, "start", files[0], "--", "/bin/true", check=False)
    snap = timed([HAKO, "snapshot", files[0], "one"])
    back = timed([HAKO, "rollback", files[0], "one"])
    target = write(folder, "bench-clone", "tarball", more)
    clone = timed([HAKO, "clone", files[0], target])
    for file in [*files, target]:
        run(HAKO, "rm", "--rootfs", file)
    run(HAKO, "cache", "prune")
    many = write(folder, "bench-many", "shell", 'config.bootstrap.code = "cd $ROOTFS; seq 10000 | xargs touch"')
    removals = []
    for _ in range(rounds):
        run(HAKO, "create", "-q", many)
        removals.append(timed([HAKO, "rm", "--rootfs", many]))
    return [
        Row("first `hako create` of a box of 300 MB", first, "{:.2f} s"),
        Row("second `hako create` of the same", statistics.median(others), "{:.3f} s", 0.15),
        Row("disk space of ten of them, to one", used / one, "{:.2f} ×"),
        Row("`hako snapshot`", snap, "{:.2f} s", 1),
        Row("`hako rollback`", back, "{:.2f} s", 1),
        Row("`hako clone`", clone, "{:.2f} s", 1),
        Row("`hako rm --rootfs` of 10000 files", statistics.median(removals), "{:.2f} s"),
    ]


def bootstrapped(folder: Path) -> list[Row]:
    """debootstrap alone, and as a strategy: two rounds, the faster of each, since the network takes its time as it likes."""
    if not shutil.which("debootstrap"):
        print("bench: debootstrap is not installed", file=sys.stderr)
        return []
    sys.path.insert(0, str(PROJECT))
    from hakoniwa.rootfs.tools.mirror import mirror_of

    more = f"config.bootstrap.debian_release = {RELEASE!r}; config.bootstrap.variant = 'minbase'"
    file = write(folder, "bench-debian", "debootstrap", more)
    alone, ours, again = [], [], []
    for number in range(2):
        target = folder / f"debian-{number}"
        words = ["debootstrap", "--variant=minbase", RELEASE, str(target), mirror_of("debian")]
        alone.append(timed(words))
        shutil.rmtree(target)
        ours.append(timed([HAKO, "create", "-q", "--no-cache", file]))
        run(HAKO, "rm", "--rootfs", file)
        again.append(timed([HAKO, "create", "-q", file]))
        run(HAKO, "rm", "--rootfs", file)
        run(HAKO, "cache", "prune")
    return [
        row("strategy debootstrap, the first time", min(ours), min(alone), "debootstrap", 1.05),
        row("the second time", min(again), min(alone), "debootstrap", 0.02, digits=4),
    ]


def row(what: str, ours: float, theirs: float, peer: str, limit: float, digits: int = 2) -> Row:
    """A row with a ratio."""
    return Row(f"{what}, to {peer}", ours / theirs, f"{{:.{digits}f}} ×", limit, f" ({ours:.2f} s)")


def write(folder: Path, name: str, strategy: str, more: str) -> str:
    """A container file."""
    path = folder / f"{name}.haco.py"
    path.write_text(FILE.format(strategy=strategy, more=more))
    return str(path)


def interleaved(commands: dict[str, list[str]], rounds: int, prepare: Action) -> dict[str, float]:
    """Medians, each round running every command once, the order turned round each time."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds):
        for name in sorted(commands, reverse=bool(number % 2)):
            prepare()
            times[name].append(timed(commands[name]))
    return {name: statistics.median(every) for name, every in times.items()}


def timed(words: list[str]) -> float:
    """Seconds of one command, which must succeed."""
    began = time.perf_counter()
    run(*words)
    return time.perf_counter() - began


def run(*words: str, check: bool = True) -> None:
    """Run quietly."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if check and done.returncode:
        sys.exit(f"bench: {' '.join(words)} failed with {done.returncode}: {done.stderr[-500:]}")
