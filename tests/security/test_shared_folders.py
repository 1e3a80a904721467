"""A container puts symlinks in the place of what its file names in a folder that it shares: the next start is root's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Hako

Writer = Callable[..., Path]
SECRET = "hakoniwa-test-secret"
TOLD = "which a container can write to"
SHARES = {"root's": ("", 0), "idmap": (", idmap=True", 1234), "userns": ('); config.namespace.unshare("user"', 0)}


@pytest.fixture(params=list(SHARES))
def share(request: pytest.FixtureRequest, places: Path) -> str:
    """The line that shares the folder `share`, which has in it what the tests name."""
    words, owner = SHARES[request.param]
    folder = places / "share"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "file").write_text("harmless")
    (folder / "conf").write_text("harmless")
    (folder / "run").mkdir()
    outside = places / "outside"
    outside.mkdir(mode=0o700)
    (outside / "file").write_text(SECRET)
    (outside / "box.pid").write_text(SECRET)
    subprocess.run(["chown", "-R", f"{owner}:{owner}", folder], check=True)
    subprocess.run(["chmod", "-R", "a+rwX", folder], check=True)
    return f"config.add_mount_point('share', to='/share'{words})\n"


def attack(hako: Hako, path: Path, name: str, target: Path | str, *, after: str = ".") -> None:
    """From inside, put a symlink in the place of a name in the shared folder, once `after` is there."""
    script = (
        f"while [ ! -e /share/{after} ]; do :; done; mv /share/{name} /share/{name}.old; ln -s {target} /share/{name}"
    )
    hako("start", path, "--", "sh", "-c", script)
    assert (hako.folder / "share" / name).is_symlink()


def test_as_the_source_of_a_mount(hako: Hako, box: Writer, places: Path, share: str) -> None:
    path = box(share + 'config.add_mount_point("share/data", to="/data")')
    assert hako("start", path, "--", "cat", "/data/file").stdout == "harmless"
    attack(hako, path, "data", places / "outside")
    assert (places / "share" / "data" / "file").read_text() == SECRET  # without the defence
    told = hako("start", path, "--", "cat", "/data/file", status=125)
    assert SECRET not in told.stdout
    assert (
        f"cannot bind {places / 'share' / 'data'} on /data: a symlink leads out of {places / 'share'}, {TOLD}"
        in told.stderr
    )
    assert "name the place that is meant" in told.stderr


def test_as_the_source_of_another_container_s_mount(hako: Hako, box: Writer, places: Path, share: str) -> None:
    first = box(share, "first")
    second = box('config.add_mount_point("share/data", to="/data")', "second")
    attack(hako, first, "data", places / "outside")
    told = hako("start", second, "--", "cat", "/data/file", status=125)
    assert SECRET not in told.stdout
    assert TOLD in told.stderr


def test_as_a_redirected_stream(hako: Hako, box: Writer, places: Path, share: str) -> None:
    path = box(share + 'config.command.set_stdout(host_file="share/run/out")')
    hako("start", path, "--", "echo", "first")
    assert (places / "share" / "run" / "out").read_text() == "first\n"
    (places / "outside" / "out").write_text(SECRET)
    attack(hako, path, "run", places / "outside")
    told = hako("start", path, "--", "echo", "evil", status=125).stderr
    assert TOLD in told
    assert (places / "outside" / "out").read_text() == SECRET


def test_as_the_folder_of_a_pid_file(hako: Hako, box: Writer, places: Path, share: str) -> None:
    """It is written at the start, and removed at the end, when the container may have changed the way to it."""
    path = box(share + 'config.container_pid_file = "share/run/box.pid"')
    hako("start", path, "--", "true")
    attack(hako, path, "run", places / "outside", after="run/box.pid")
    assert (places / "outside" / "box.pid").read_text() == SECRET
    assert TOLD in hako("start", path, "--", "true", status=125).stderr
    assert (places / "outside" / "box.pid").read_text() == SECRET
    os.unlink(places / "share" / "run")
    (places / "share" / "run.old" / "box.pid").unlink(missing_ok=True)
    os.mkfifo(places / "share" / "run.old" / "box.pid")
    os.rename(places / "share" / "run.old", places / "share" / "run")
    assert "cannot write the pid file" in hako("start", path, "--", "true", status=125).stderr  # and does not wait


@pytest.mark.parametrize("name", ["conf", "data"])
def test_as_the_source_of_a_copy(hako: Hako, box: Writer, places: Path, rootfs: Path, share: str, name: str) -> None:
    body = share + f'config.provision.copy("share/{name}", "/copied", name="copy")'
    path = box(body)
    hako("provision", path)
    target = places / "outside" / "file" if name == "conf" else places / "outside"
    attack(hako, path, name, target)
    assert TOLD in hako("provision", path, "--run-only", "copy", status=125).stderr
    found = rootfs / "copied" if name == "conf" else rootfs / "copied" / "file"
    assert found.read_text() == "harmless"


def test_as_a_folder_below_the_source_of_a_copy(
    hako: Hako, box: Writer, places: Path, rootfs: Path, share: str
) -> None:
    """There it is copied as what it is."""
    path = box(share + 'config.provision.copy("share", "/copied", name="copy")')
    attack(hako, path, "data", places / "outside")
    hako("provision", path)
    assert (rootfs / "copied" / "data").is_symlink()
    assert (rootfs / "copied" / "data.old" / "file").read_text() == "harmless"


def test_as_a_namespace_to_enter(hako: Hako, box: Writer, places: Path) -> None:
    (places / "share").mkdir()
    share = 'config.add_mount_point("share", to="/share")\n'
    path = box(share)
    hako("start", path, "--", "ln", "-s", "/proc/1/ns/uts", "/share/ns")
    entering = box(share + 'config.namespace.enter("uts", via="share/ns")')
    assert TOLD in hako("start", entering, "--", "true", status=125).stderr
    direct = box(f'config.namespace.enter("uts", via="/proc/{os.getpid()}/ns/uts")')
    assert hako("start", direct, "--", "hostname").stdout.strip() == os.uname().nodename


def test_as_the_archive_of_a_rootfs(hako: Hako, write_file: Writer, box: Writer, places: Path, busybox: Path) -> None:
    (places / "share").mkdir()
    subprocess.run(["tar", "-cf", places / "share" / "root.tar", "-C", busybox, "."], check=True)
    secret = places / "secret.tar"
    subprocess.run(["tar", "-cf", secret, "-C", busybox, "."], check=True)
    hako("start", box('config.add_mount_point("share", to="/share")', "first"), "--", "true")
    attack(hako, places / "first.haco.py", "root.tar", secret)
    path = write_file('config.bootstrap.strategy = "tarball"\nconfig.bootstrap.archive_path = "share/root.tar"')
    assert TOLD in hako("create", path, status=125).stderr


def test_as_the_rootfs(hako: Hako, write_file: Writer, places: Path, rootfs: Path) -> None:
    """A rootfs in the shared folder: the symlink leads to the host's root, or to what `rm --rootfs` would then remove."""
    (places / "share" / "deep").mkdir(parents=True)
    rootfs.rename(places / "share" / "deep" / "root")
    path = write_file('config.chroot_to("share/deep/root")\nconfig.add_mount_point("share", to="/share")')
    hako("start", path, "--", "true")
    attack(hako, path, "deep", "/")
    (places / "share" / "deep").unlink()
    outside = places / "outside"
    (outside / "root" / "bin").mkdir(parents=True)
    (outside / "root" / "bin" / "kept").write_text(SECRET)
    (places / "share" / "deep").symlink_to(outside)
    assert TOLD in hako("start", path, "--", "true", status=125).stderr
    assert (outside / "root" / "bin" / "kept").read_text() == SECRET


def test_symlinks_of_the_host_s_own_lead_where_they_do(hako: Hako, box: Writer, places: Path, share: str) -> None:
    (places / "other").mkdir()
    (places / "other" / "file").write_text("meant")
    (places / "link").symlink_to("other")
    (places / "share" / "link").symlink_to("data")
    owner = (places / "share").stat()
    os.chown(places / "share" / "link", owner.st_uid, owner.st_gid, follow_symlinks=False)
    path = box(share + 'config.add_mount_point("link", to="/one")\nconfig.add_mount_point("share/link", to="/two")')
    assert hako("start", path, "--", "cat", "/one/file", "/two/file").stdout == "meantharmless"
