"""`hako archive`: what it packs, that it comes back as it was, and that nothing half-made is left."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Hako

Writer = Callable[..., Path]

RECIPE = 'config.bootstrap.strategy = "recipe"\nconfig.bootstrap.recipe = "busybox"\np = config.provision\n'
HOST = 'config.bootstrap.strategy = "host"\n'

# Everything that a tree may hold.
FILL = r"""
mkdir -m 2751 /odd; echo x > '/odd/new
line'; echo y > '/odd/*?[back\slash] --x'; ln '/odd/*?[back\slash] --x' /odd/hard; ln -s /nowhere /odd/dangling
chown 1234:70000 /odd; chmod 4755 '/odd/hard'; mkfifo /odd/fifo; : > /odd/empty; mkdir /odd/hollow
dd if=/dev/zero of=/odd/sparse bs=1 count=1 seek=20000000 2>/dev/null; touch -d '2001-02-03 04:05:06' /odd/old
i=0; long=; while [ $i -lt 60 ]; do i=$((i+1)); long=$long/directory-$i; done; mkdir -p /odd/deep$long; echo end > /odd/deep$long/end
"""


@pytest.fixture
def box_file(hako: Hako, write_file: Writer) -> Path:
    path = write_file(RECIPE + f"p.run_shell({FILL!r}, name='fill')")
    hako("create", path)
    return path


def tree(root: Path) -> list[tuple[object, ...]]:
    """All that a tree is, as far as an archive is to keep it."""
    found: list[tuple[object, ...]] = []
    links: dict[int, str] = {}
    for folder, folders, files in os.walk(root):
        for name in sorted([*folders, *files, *(["."] if folder == str(root) else [])]):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            kind = oct(status.st_mode)
            first = links.setdefault(status.st_ino, path) if status.st_nlink > 1 and name not in folders else path
            content = os.readlink(path) if os.path.islink(path) else ""
            if os.path.isfile(path) and not os.path.islink(path):
                content = Path(path).read_bytes().hex()[:4000] + str(status.st_size)
            attributes = {
                key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
            }
            times = status.st_mtime_ns
            facts = (
                kind,
                status.st_uid,
                status.st_gid,
                times,
                content,
                os.path.relpath(first, root),
                sorted(attributes),
            )
            found.append((os.path.relpath(path, root), *facts))
    return sorted(found)


@pytest.mark.parametrize("name", ["out.tar.gz", "out.tar.bz2", "out.tar.xz", "out.tar.zst", "out.tar"])
def test_there_and_back(hako: Hako, write_file: Writer, places: Path, box_file: Path, name: str) -> None:
    hako("start", box_file, "--", "sh", "-c", "echo upper > /upper; rm /bin/su")
    told = hako("archive", box_file, "-d", name).stderr
    assert f"packed {places / name}" in told
    assert (places / name).stat().st_mode & 0o777 == 0o600  # it holds password hashes
    for number in (1, 2):
        body = f'config.bootstrap.strategy = "tarball"\nconfig.bootstrap.archive_path = {name!r}\n'
        hako("create", write_file(body + "config.bootstrap.cache = False", f"back{number}"))
    back = places / "lib" / "back1"
    assert (back / "upper").read_text() == "upper\n"
    assert not os.path.lexists(back / "bin" / "su")
    assert (back / "odd" / "old").stat().st_mtime == pytest.approx(981173106, abs=50000)
    assert (back / "odd" / "sparse").stat().st_blocks < 100
    assert (back / "odd" / "hard").stat().st_nlink == 2
    assert tree(back) == tree(places / "lib" / "back2")
    # The same bytes again, also of what was unpacked.
    first = (places / name).read_bytes()
    hako("archive", box_file, "-d", name)
    assert (places / name).read_bytes() == first
    hako("archive", places / "back1.haco.py", "-d", f"again-{name}")
    assert (places / f"again-{name}").read_bytes() == first


def test_capabilities_and_attributes_are_kept(hako: Hako, write_file: Writer, places: Path, rootfs: Path) -> None:
    subprocess.run(["setcap", "cap_net_raw=ep", rootfs / "bin" / "busybox"], check=True)
    os.setxattr(rootfs / "etc" / "passwd", "user.note", b"kept")
    path = write_file(f"config.chroot_to({str(rootfs)!r})")  # not made here: can be packed all the same
    hako("archive", path, "-d", "out.tar.gz")
    body = 'config.bootstrap.strategy = "tarball"\nconfig.bootstrap.archive_path = "out.tar.gz"\nconfig.bootstrap.cache = False'
    hako("create", write_file(body, "back"))
    back = places / "lib" / "back"
    assert os.getxattr(back / "etc" / "passwd", "user.note") == b"kept"
    assert os.getxattr(back / "bin" / "busybox", "security.capability") == os.getxattr(
        rootfs / "bin" / "busybox", "security.capability"
    )
    assert tree(back) == tree(rootfs)


def test_source_date_epoch(hako: Hako, places: Path, box_file: Path) -> None:
    hako("archive", box_file, "-d", "out.tar", SOURCE_DATE_EPOCH="1000000000")
    with tarfile.open(places / "out.tar") as archive:
        names = archive.getnames()
        assert max(member.mtime for member in archive) == 1000000000
    assert names == sorted(names, key=lambda name: name.split("/"))
    for name in ("out.tar", "out.tar.gz"):
        told = hako("archive", box_file, "-d", name, status=125, SOURCE_DATE_EPOCH="today").stderr
        assert "SOURCE_DATE_EPOCH must be a number of seconds, not 'today'" in told
    assert not (places / "out.tar.gz").exists()


def test_options(hako: Hako, places: Path, box_file: Path) -> None:
    words = [
        "--exclude",
        "./odd",
        "--exclude=*.so",
        "-O",
        "--transform 's,^./etc,./ETC,' --no-xattrs",
        "-t",
        "gzip",
        "-v",
    ]
    told = hako("archive", box_file, "-d", "out.bin", *words).stderr
    assert "tar: ./etc/passwd" in told
    with tarfile.open(places / "out.bin", "r:gz") as archive:
        names = archive.getnames()
    assert "./ETC/passwd" in names
    assert not [name for name in names if name.startswith("./odd")]


def test_a_dry_run_tells_the_size_and_writes_nothing(
    hako: Hako, write_file: Writer, places: Path, box_file: Path
) -> None:
    hako("archive", box_file, "-d", "real.tar")
    found = hako("archive", box_file, "-d", "out.tar.zst", "--dry-run").stdout
    assert found == f"{places}/out.tar.zst: {(places / 'real.tar').stat().st_size} bytes before compression (zstd)\n"
    assert not (places / "out.tar.zst").exists()
    told = hako("archive", write_file(RECIPE, "unbuilt"), "-d", "out.tar.zst", "--dry-run", status=125).stderr
    assert "is missing (hako create" in told


def test_what_is_missing_is_built_first(hako: Hako, write_file: Writer, places: Path) -> None:
    path = write_file(RECIPE + "p.run_shell('touch /provisioned')")
    hako("archive", path, "-d", "with.tar.gz", "-q")
    hako("rm", "--rootfs", path)
    hako("archive", path, "-d", "without.tar.gz", "-N")
    for name, there in (("with", True), ("without", False)):
        with tarfile.open(places / f"{name}.tar.gz") as archive:
            assert ("./provisioned" in archive.getnames()) is there


def test_device_nodes_are_left_out_and_told(hako: Hako, box: Writer, rootfs: Path, places: Path) -> None:
    os.mknod(rootfs / "dev" / "disk [1]", 0o60600, os.makedev(8, 0))
    (rootfs / "dev" / "disk 1").write_text("kept")
    told = hako("archive", box(), "-d", "out.tar").stderr
    assert "left out 1 device nodes" in told
    with tarfile.open(places / "out.tar") as archive:
        assert "./dev/disk 1" in archive.getnames()
        assert not [member for member in archive if member.isdev() and not member.isfifo()]


def test_one_of_several(hako: Hako, write_file: Writer, places: Path) -> None:
    body = RECIPE + "with config.define() as c:\n    c.name = 'one'\nwith config.define() as c:\n    c.name = 'two'\n"
    path = write_file(body)
    assert "has several containers (-n one | two)" in hako("archive", path, "-d", "x.tar", status=2).stderr
    assert (
        "has no container 'twoo' (did you mean 'two'?)"
        in hako("archive", path, "-n", "twoo", "-d", "x.tar", status=125).stderr
    )
    hako("archive", path, "-n", "two", "-d", "x.tar")
    assert (places / "lib" / "two").exists()
    assert not (places / "lib" / "one").exists()


def test_a_copy_of_this_system_without_its_secrets(hako: Hako, write_file: Writer, places: Path) -> None:
    path = write_file(HOST)
    hako("create", path)
    hako("start", path, "--", "sh", "-c", "echo own > /etc/own")
    words = ["--exclude=./usr", "--exclude=./opt", "--exclude=./var", "--exclude=./work", "--exclude=./srv"]
    hako("archive", path, "-d", "host.tar", *words)
    with tarfile.open(places / "host.tar") as archive:
        names = set(archive.getnames())
        shadow = archive.extractfile("./etc/shadow")
        assert shadow is not None
        assert shadow.readline().startswith(b"root:*:")
    assert "./etc/own" in names
    assert not any(name.startswith(("./root/", "./home/", "./etc/ssh/ssh_host")) for name in names)


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ((), 2, "which file? (-d OUT.tar.gz)"),
        (("-d", "out"), 2, "the name out tells no type of archive"),
        (("-d", "out.rar"), 2, "(-t gzip | bzip2 | xz | zstd | none)"),
        (("-d", "out.tar.gz", "-t", "gzp"), 2, "the type 'gzp' is unknown (did you mean 'gzip'?)"),
        (("-d", "out.tar.gz", "-O", "'"), 2, "No closing quotation"),
        (("-d", "out.tar.gz", "-O", "--no-such-option"), 125, "tar failed with exit status 64"),
        (("-d", "folder.tar", "-t", "gzip"), 125, "folder.tar is a folder"),
        (("-d", "nowhere/out.tar.gz"), 125, "nowhere is not there (mkdir -p"),
        (("-d", "lib/box/upper/out.tar.gz"), 125, "lies in the rootfs that is to be packed"),
        (("-d", "/proc/out.tar.gz"), 125, "cannot write /proc/out.tar.gz: No such file or directory"),
    ],
)
def test_what_cannot_be_written(
    hako: Hako, places: Path, box_file: Path, words: tuple[str, ...], status: int, told: str
) -> None:
    (places / "folder.tar").mkdir()
    before = sorted(os.listdir(places))
    assert told in hako("archive", box_file, *words, status=status).stderr
    assert sorted(os.listdir(places)) == before


def test_a_full_disk_leaves_no_archive(hako: Hako, places: Path, box_file: Path) -> None:
    small = places / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], check=True)
    try:
        for name in ("out.tar.zst", "out.tar"):
            told = hako("archive", box_file, "-d", small / name, status=125).stderr
            assert "No space left on device" in told or "Wrote only" in told
            assert os.listdir(small) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_full_disk_of_the_state(hako: Hako, places: Path, box_file: Path) -> None:
    """Where not even a lock can be made."""
    full = places / "full"
    full.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=3,mode=700", "tmpfs", full], check=True)
    try:
        (full / ".rootfs").mkdir(mode=0o700)
        (full / "box").mkdir(mode=0o700)
        for words in (("archive", box_file, "-d", "out.tar"), ("provision", box_file), ("rm", "--rootfs", box_file)):
            told = hako(*words, status=125, HAKONIWA_RUN_DIR=str(full)).stderr
            assert "No space left on device" in told
            assert "Errno" not in told
    finally:
        subprocess.run(["umount", full], check=True)
    assert not (places / "out.tar").exists()


def test_an_archive_that_is_there_is_replaced_only_by_a_complete_one(hako: Hako, places: Path, box_file: Path) -> None:
    (places / "out.tar").write_text("precious")
    hako("archive", box_file, "-d", "out.tar", "-O", "--no-such-option", status=125)
    assert (places / "out.tar").read_text() == "precious"
    hako("archive", box_file, "-d", "out.tar")
    assert (places / "out.tar").stat().st_size > 1_000_000
