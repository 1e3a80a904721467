"""Archives that are made to harm who unpacks them: each is shown to do so in the hands of an unconfined tar, where it can."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import stat
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.rootfs.archives.headers import BadArchive, MemberFilter
from tests.conftest import Hako

Writer = Callable[..., Path]


def member(
    name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **facts: object
) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.type, made.size = kind, len(content)
    for key, value in {"mode": 0o755, **facts}.items():
        setattr(made, key, value)
    return made, content


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for made, content in members:
            tar.addfile(made, io.BytesIO(content))
    return path


BODY = (
    'config.bootstrap.strategy = "tarball"\nconfig.bootstrap.archive_path = "evil.tar"\nconfig.bootstrap.cache = False'
)
SHELL = member("bin/sh", content=b"#!")


def create(hako: Hako, write_file: Writer, status: int | None = 0) -> str:
    return hako("create", write_file(BODY), status=status).stderr


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("/tmp/hakoniwa-evil", "has an absolute name"),
        ("../../climbed", "leads out of the rootfs"),
        ("a/../../../climbed", "leads out of the rootfs"),
        ("../" * 40 + "climbed", "leads out of the rootfs"),
    ],
)
def test_names_that_lead_out(hako: Hako, write_file: Writer, places: Path, name: str, told: str, form: int) -> None:
    if form == tarfile.USTAR_FORMAT and len(name) > 100:
        name = "../" * 20 + "climbed"
    path = archive(places / "evil.tar", SHELL, member(name, content=b"x"), form=form)
    # Without the defence: tar, asked to trust names, follows them.
    (places / "victim" / "deep" / "er").mkdir(parents=True)
    if name == "../../climbed":
        subprocess.run(["tar", "-xPf", path, "-C", places / "victim" / "deep" / "er"], check=True)
        assert (places / "victim" / "climbed").exists()
    assert told in create(hako, write_file, status=125)
    assert not os.path.exists("/tmp/hakoniwa-evil")
    assert not (places / "climbed").exists()
    assert os.listdir(places / "lib") == []


def test_a_member_behind_a_symlink_that_leads_out(hako: Hako, write_file: Writer, places: Path) -> None:
    outside = places / "outside"
    outside.mkdir()
    links = [member("link", tarfile.SYMTYPE, linkname=str(outside)), member("up", tarfile.SYMTYPE, linkname="../../..")]
    members = [*links, member("link/followed", content=b"x"), member("up/followed", content=b"x")]
    path = archive(places / "evil.tar", SHELL, *members)
    # Without the defence: Python's own unpacking follows the link.
    with tarfile.open(path) as tar:
        tar.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)  # the default of Python 3.11
        (places / "trusting").mkdir()
        tar.extract("link", places / "trusting")
        tar.extract("link/followed", places / "trusting")
    assert (outside / "followed").exists()
    (outside / "followed").unlink()
    create(hako, write_file, status=None)
    assert os.listdir(outside) == []
    assert not any((folder / "followed").exists() for folder in (places, places / "lib", places.parent))


def test_hard_links_to_files_of_the_host(hako: Hako, write_file: Writer, places: Path) -> None:
    secret = places / "secret"
    secret.write_text("secret")
    for target, told in ((str(secret), "hard link to"), ("../../secret", "hard link to")):
        archive(places / "evil.tar", SHELL, member("copy", tarfile.LNKTYPE, linkname=target))
        assert told in create(hako, write_file, status=125)
    # Through a chain: a symlink out first, and a hard link to what lies behind it.
    links = [member("s", tarfile.SYMTYPE, linkname=str(places)), member("copy", tarfile.LNKTYPE, linkname="s/secret")]
    archive(places / "evil.tar", SHELL, *links)
    create(hako, write_file, status=None)
    assert secret.stat().st_nlink == 1
    assert secret.read_text() == "secret"


def test_devices_are_left_out(hako: Hako, write_file: Writer, places: Path) -> None:
    disk = os.stat("/").st_dev
    devices = [
        member("dev/sda", tarfile.BLKTYPE, devmajor=os.major(disk), devminor=os.minor(disk), mode=0o666),
        member("dev/mem", tarfile.CHRTYPE, devmajor=1, devminor=1, mode=0o666),
    ]
    path = archive(places / "evil.tar", SHELL, *devices, member("after", content=b"z" * 3000))
    (places / "plain").mkdir()
    subprocess.run(["tar", "-xf", path, "-C", places / "plain"], check=True)  # without the defence
    assert stat.S_ISBLK((places / "plain" / "dev" / "sda").stat().st_mode)
    (places / "plain" / "dev" / "sda").unlink()
    assert "left out 2 device nodes" in create(hako, write_file)
    rootfs = places / "lib" / "box"
    assert not (rootfs / "dev").exists()
    assert (rootfs / "after").read_bytes() == b"z" * 3000
    hako("rm", "--rootfs", "-n", "box")


def test_set_user_id_programs_are_out_of_reach_on_the_host(hako: Hako, write_file: Writer, places: Path) -> None:
    archive(places / "evil.tar", member("bin/su", content=b"x", mode=0o4755, uid=0))
    create(hako, write_file)
    made = places / "lib" / "box" / "bin" / "su"
    assert made.stat().st_mode & stat.S_ISUID  # what is inside needs it
    assert stat.S_IMODE((places / "lib").stat().st_mode) == 0o700  # and nobody else gets there
    hako("rm", "--rootfs", "-n", "box")


def test_a_rootfs_that_others_can_enter_is_warned_of(hako: Hako, write_file: Writer, places: Path) -> None:
    archive(places / "evil.tar", member("bin/su", content=b"x", mode=0o4755, uid=0))
    with tempfile.TemporaryDirectory(dir="/var/tmp") as open_folder:
        os.chmod(open_folder, 0o755)
        body = BODY + f"\nconfig.chroot_to({open_folder + '/box'!r})"
        told = hako("create", write_file(body)).stderr
        told_of = "others on this host can execute set-user-ID programs of the rootfs, such as"
        assert f"{told_of} {open_folder}/box/bin/su (chmod go-x {open_folder})" in told
        hako("rm", "--rootfs", "-n", "box")
        archive(
            places / "evil.tar", member("bin/su", content=b"x", mode=0o4750), member("bin/sh", content=b"x", mode=0o755)
        )
        assert "set-user-ID" not in hako("create", write_file(body)).stderr  # there is none for others
        hako("rm", "--rootfs", "-n", "box")
        os.chmod(open_folder, 0o700)
        assert "set-user-ID" not in hako("create", write_file(body)).stderr
        hako("rm", "--rootfs", "-n", "box")


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_sparse_terabytes(hako: Hako, write_file: Writer, places: Path, form: str) -> None:
    hole = places / "hole"
    with open(hole, "wb") as file:
        file.truncate(8 << 40)
    subprocess.run(["tar", f"--format={form}", "-cSf", places / "evil.tar", "-C", places, "hole"], check=True)
    assert (places / "evil.tar").stat().st_size < 100_000
    assert "unpacks to more than the" in create(hako, write_file, status=125)
    assert os.listdir(places / "lib") == []


def test_a_bomb_of_zeros(hako: Hako, write_file: Writer, places: Path) -> None:
    made = tarfile.TarInfo("zeros")
    made.size = 1 << 50
    with gzip.open(places / "evil.tar", "wb") as file:
        file.write(made.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    assert "unpacks to more than the" in create(hako, write_file, status=125)


def test_ten_million_members(hako: Hako, write_file: Writer, places: Path) -> None:
    header = member("d", tarfile.DIRTYPE)[0].tobuf()
    some = gzip.compress(header * 100_000, 1)
    (places / "evil.tar").write_bytes(some * 100)
    assert "has more than 1000000 members" in create(hako, write_file, status=125)
    assert os.listdir(places / "lib") == []


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda content: content[:700], "cut off in member"),
        (lambda content: content[:5000] + b"\xff" * 512 + content[5512:], "corrupt after member"),
        (lambda content: gzip.compress(content)[:-20], "gzip failed"),
        (lambda content: b"\x1f\x8b" + content, "gzip failed"),
        (lambda content: b"", "does not look like a tar archive"),
    ],
)
def test_an_archive_that_is_cut_off_or_corrupt(
    hako: Hako, write_file: Writer, places: Path, spoil: Callable[[bytes], bytes], told: str
) -> None:
    path = archive(places / "evil.tar", member("first", content=b"x" * 1500), member("second", content=b"y" * 6000))
    content = path.read_bytes()
    if told.startswith("corrupt"):
        content = content[:2048] + b"\xff" * 512 + content[2560:]
        path.write_bytes(content)
    else:
        path.write_bytes(spoil(content))
    assert told in create(hako, write_file, status=125)
    assert os.listdir(places / "lib") == []


def test_tar_can_write_to_nothing_else(hako: Hako, write_file: Writer, places: Path) -> None:
    """Even a tar that does what it likes has the folder alone: here its own option executes a shell."""
    archive(places / "evil.tar", SHELL, member("x", content=b"x" * 20_000))
    script = places / "lib" / "written"
    action = f"--checkpoint-action=exec=echo x > {script}; echo x > /usr/written; echo x > /rootfs/written; ls / > /rootfs/ls"
    body = BODY + f'\nconfig.bootstrap.tar_options = ["--checkpoint=1", {action!r}]'
    hako("create", write_file(body), status=None)
    assert not script.exists()
    assert not os.path.exists("/usr/written")
    rootfs = places / "lib" / "box"
    assert (rootfs / "written").exists()
    assert "etc" not in (rootfs / "ls").read_text().split()
    hako("rm", "--rootfs", "-n", "box")


# The headers alone


def passed(content: bytes, **limits: int) -> tuple[bytes, MemberFilter]:
    sink = os.memfd_create("sink")
    reader, writer = os.pipe()

    def feed() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(writer, "wb", buffering=0) as file:
            view = memoryview(content)
            while view:
                view = view[file.write(view) :]

    feeder = threading.Thread(target=feed)
    feeder.start()
    passing = MemberFilter(reader, sink, **{"most_bytes": 1 << 30, **limits})
    try:
        passing.run()
        return os.pread(sink, len(content) + 1, 0), passing
    finally:
        os.close(reader)
        feeder.join()
        os.close(sink)


def test_what_passes_is_not_changed(places: Path) -> None:
    long = "n" * 300
    members = [
        member("a/" + long, content=b"1" * 700),
        member("big", content=bytes(range(256)) * 9000),
        member("link", tarfile.SYMTYPE, linkname="t" * 200),
        member("fifo", tarfile.FIFOTYPE),
        member("dir", tarfile.DIRTYPE),
        member("hard", tarfile.LNKTYPE, linkname="big"),
        member("later", content=b"2"),
    ]
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        content = archive(places / "fine.tar", *members, form=form).read_bytes()
        out, passing = passed(content)
        assert content.startswith(out)
        assert not content[len(out) :].strip(b"\0")
        assert (passing.members, passing.devices) == (7, 0)
        assert [m.name for m in tarfile.open(fileobj=io.BytesIO(out + bytes(1024))).getmembers()] == [
            m.name for m, _ in members
        ]


def test_a_device_between_others_leaves_no_trace(places: Path) -> None:
    members = [
        member("a", content=b"1" * 600),
        member("d" * 200, tarfile.CHRTYPE, devmajor=1, devminor=1),
        member("e", tarfile.BLKTYPE),
        member("b", content=b"2" * (3 << 20)),
    ]
    content = archive(places / "some.tar", *members).read_bytes()
    out, passing = passed(content)
    assert [m.name for m in tarfile.open(fileobj=io.BytesIO(out + bytes(1024))).getmembers()] == ["a", "b"]
    assert passing.devices == 2


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_data_that_tar_would_read_as_headers(places: Path, kind: bytes) -> None:
    """Where two readers of one archive disagree about what is data, what the first has judged is not what the second does."""
    made = tarfile.TarInfo("innocent")
    made.type, made.size, made.linkname = kind, 512, "x"
    hidden = member("../evil", content=b"")[0].tobuf()
    with pytest.raises(BadArchive, match="has data that its kind cannot have"):
        passed(made.tobuf(tarfile.GNU_FORMAT) + hidden + bytes(1024))


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"path": "../x"}, "leads out"),
        ({"linkpath": "/etc/shadow"}, "absolute name"),
        ({"size": "zz"}, "number that is none"),
        ({"GNU.sparse.realsize": "9" * 18}, "unpacks to more"),
        ({"comment": "x" * (2 << 20)}, "extended header of"),
    ],
)
def test_extended_headers(places: Path, headers: dict[str, str], told: str) -> None:
    made, content = member("fine", tarfile.LNKTYPE if "linkpath" in headers else tarfile.REGTYPE)
    made.pax_headers, made.linkname = headers, "fine"
    raw = archive(places / "some.tar", (made, content)).read_bytes()
    with pytest.raises(BadArchive, match=told):
        passed(raw)
