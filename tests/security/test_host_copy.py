"""What a `host` rootfs must not show of the host, whenever it comes to be there, and what must work in it all the same."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hakoniwa.host.root import secrets
from hakoniwa.plan import container as plan
from tests.conftest import Hako

Writer = Callable[..., Path]
SECRET = "hakoniwa-test-secret"
HOST = 'config.bootstrap.strategy = "host"\nconfig.mount_independent("procfs", "devtmpfs")\n'
USER = 'config.namespace.unshare("user")\n'


@pytest.fixture
def later() -> Iterator[Callable[[str, int], Path]]:
    """Make files of the host, and take them away at the end with the folders that were made for them."""
    made: list[Path] = []

    def make(path: str, mode: int) -> Path:
        missing = [folder for folder in Path(path).parents if not folder.exists()]
        made.append(missing[-1] if missing else Path(path))
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        os.write(file, f"root:{SECRET}:1::::::\n".encode())
        os.fchmod(file, mode)
        os.close(file)
        return Path(path)

    yield make
    for path in made:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def plain_overlay(places: Path, path: Path) -> str:
    """A file of the host as an overlay shows it that root has mounted without more ado."""
    for name in ("upper", "work", "all"):
        (places / name).mkdir(exist_ok=True)
    options = f"lowerdir=/,upperdir={places}/upper,workdir={places}/work"
    script = f"mount -t overlay -o {options} all {places}/all && cat {places}/all{path}"
    return subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("body", ["", USER])
def test_what_is_not_for_everybody_is_hidden_when_it_appears(
    hako: Hako, write_file: Writer, places: Path, later: Callable[[str, int], Path], body: str
) -> None:
    """`passwd`, `useradd` and others write password hashes to files with names of their own (`man 3 putpwent`, lckpwdf)."""
    box = write_file(HOST + body)
    hako("start", "-D", "-b", box, "--", "sleep", "1000")
    own = uuid.uuid4().hex
    made = [
        later(f"/etc/shadow+{own}", 0o600),
        later(f"/etc/hakoniwa-test-{own}", 0o640),
        later(f"/etc/hakoniwa-test-{own}.d/key.pem", 0o600),
        later(f"/usr/local/etc/hakoniwa-test-{own}", 0o600),
        later(f"/srv/hakoniwa-test-{own}", 0o640),
    ]
    closed = later(f"/opt/hakoniwa-test-{own}/file", 0o644)
    closed.parent.chmod(0o700)
    open_to_all = later(f"/usr/local/etc/hakoniwa-test-{own}.conf", 0o644)
    assert SECRET in plain_overlay(places, made[1])  # without the defence
    found = hako("attach", box, "--", "cat", *made, closed, status=1)
    assert SECRET not in found.stdout
    assert found.stderr.count("Permission denied") + found.stderr.count("No such file") == len(made) + 1
    assert SECRET in hako("attach", box, "--", "cat", open_to_all).stdout
    hako("kill", box)
    assert SECRET not in hako("start", box, "--", "cat", *made, closed, status=1).stdout  # nor at another start


@pytest.mark.parametrize("body", ["", USER])
def test_secrets_by_nature_are_hidden_though_everybody_may_read_them(
    hako: Hako, write_file: Writer, places: Path, later: Callable[[str, int], Path], body: str
) -> None:
    box = write_file(HOST + body)
    hako("create", box)
    own = uuid.uuid4().hex
    made = [
        later(f"/etc/ssl/hakoniwa-test-{own}.key", 0o644),
        later(f"/etc/ssh/ssh_host_test{own}_key", 0o644),
        later(f"/etc/sudoers.d/hakoniwa-test-{own}", 0o644),
        later(f"/etc/apt/auth.conf.d/hakoniwa-test-{own}.conf", 0o644),
        later(f"/var/lib/hakoniwa-test-{own}/data", 0o644),
        later(f"/var/log/hakoniwa-test-{own}.log", 0o644),
        later(f"/var/spool/hakoniwa-test-{own}/job", 0o644),
        later(f"/var/backups/hakoniwa-test-{own}", 0o644),
        later(f"/etc/shadow.test{own}", 0o644),
    ]
    assert SECRET in plain_overlay(places, made[0])  # without the defence
    found = hako("start", box, "--", "cat", *made, status=1)
    assert SECRET not in found.stdout
    assert hako("start", box, "--", "cat", "/etc/machine-id", "/etc/sudoers", status=1).stdout == ""
    for kept in ("/var/lib/dpkg/status", "/etc/ssl/openssl.cnf", "/etc/ssh/ssh_config"):
        if os.path.exists(kept):
            assert hako("start", box, "--", "cat", kept).stdout


def test_what_a_service_has_in_var_lib_is_hidden(
    hako: Hako, write_file: Writer, later: Callable[[str, int], Path]
) -> None:
    """What another user than root owns, and everybody may read."""
    data = later(f"/var/lib/hakoniwa-test-{uuid.uuid4().hex}/data", 0o644)
    os.chown(data.parent, 1234, 1234)
    box = write_file(HOST)
    assert SECRET not in hako("start", "-b", box, "--", "cat", data, status=1).stdout


def test_masked_folders_are_empty(hako: Hako, write_file: Writer) -> None:
    """The root is mounted with the help of the same empty folder that covers these."""
    folders = [path for path in plan.MASKED if os.path.isdir(path)]
    box = write_file(HOST + 'config.mount_independent("sysfs")')
    assert folders
    assert hako("start", "-b", box, "--", "find", *folders, "-mindepth", "1").stdout == ""


def test_users_and_packages_can_be_added(hako: Hako, write_file: Writer) -> None:
    """What `useradd`, `passwd`, `dpkg` and `apt-get` find and may not read is replaced by what they can work with."""
    script = """
        useradd --create-home tester && echo tester:word | chpasswd && grep -q '^tester:[$]' /etc/shadow
        mkdir -p /tmp/made/DEBIAN /tmp/made/usr/share/made && echo made > /tmp/made/usr/share/made/file
        printf 'Package: made\\nVersion: 1\\nArchitecture: all\\nMaintainer: t <t@t>\\nDescription: t\\n' > /tmp/made/DEBIAN/control
        dpkg-deb --build --root-owner-group /tmp/made /tmp/made.deb
        printf '' > /tmp/none
        export DEBIAN_FRONTEND=noninteractive
        apt-get -o Dir::Etc::sourcelist=/tmp/none -o Dir::Etc::sourceparts=/ update
        apt-get -o Dir::Etc::sourcelist=/tmp/none -o Dir::Etc::sourceparts=/ -y install /tmp/made.deb
        cat /usr/share/made/file && dpkg --purge made
        rm /usr/bin/passwd && cp /bin/true /usr/bin/passwd
    """
    done = hako("start", "-b", write_file(HOST), "--", "sh", "-e", "-c", script)
    assert "\nmade\n" in done.stdout


def test_what_packages_install_for_some_can_be_replaced(
    places: Path, later: Callable[[str, int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """dpkg links the old file before it renames the new one over it: the link takes a copy of the content."""
    program = later(f"/usr/local/lib/hakoniwa-test-{uuid.uuid4().hex}", 0o750)
    os.chown(program, 0, 1234)
    program.chmod(0o4750)
    overrides = places / "statoverride"
    overrides.write_text(f"root group 4750 {program}\nroot group 700 /etc/ssl/private\n")
    monkeypatch.setattr(secrets, "_OVERRIDES", str(overrides))
    (places / "upper").mkdir()
    folder = os.open(places / "upper", os.O_PATH)
    secrets.hide_secrets(folder)
    os.close(folder)
    copy = places / "upper" / str(program).lstrip("/")
    assert SECRET in copy.read_text()
    assert (copy.stat().st_gid, stat.S_IMODE(copy.stat().st_mode)) == (1234, 0o4750)
    assert os.listdir(places / "upper" / "etc" / "ssl" / "private") == []
