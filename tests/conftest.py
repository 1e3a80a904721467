"""What all tests share: a runner for `hako`, a rootfs, places of their own, and the look-out for leaks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.leaks import mark_ourselves

mark_ourselves()
HAKO = Path(sys.executable).with_name("hako")
ROOT_ONLY = ("system", "security")
# The programs that `config.init` may name here: later than in version 13, Debian has no static tini.
INITS = [
    name
    for name, file in {"tini": "tini-static", "catatonit": "catatonit"}.items()
    if os.path.exists(f"/usr/bin/{file}")
]
LONGEST = 60.0  # seconds that any single command of a test may take


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need root say so where there is none. In CI that is a failure: it must run them all."""
    if os.geteuid() == 0:
        return
    if os.environ.get("CI"):
        pytest.exit("CI must run the tests as root", returncode=1)
    for item in items:
        if item.path.parent.name in ROOT_ONLY:
            item.add_marker(pytest.mark.skip(reason="needs root: namespaces and mounts of the host are made"))


# What a machine may lack without that being a fault of the installation.
ALLOWED_SKIPS = ("this kernel has no", "the caller holds every capability")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In CI a skip that should not happen is a failure: it hides a missing install step."""
    if report.skipped and os.environ.get("CI") and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith(ALLOWED_SKIPS):
            report.outcome = "failed"
            report.longrepr = f"skipped in CI: {reason}"


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all tests keep what can be made again: seccomp programs."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def places(tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with hakoniwa's own below it. Its name can be no part of a container's: that of `box.haco.py` in it is `box`."""
    folder = tmp_path / "_"
    folder.mkdir()
    for word in ("run", "lib", "log"):
        monkeypatch.setenv(f"HAKONIWA_{word.upper()}_DIR", str(folder / word))
    monkeypatch.setenv("HAKONIWA_CACHE_DIR", str(shared_cache))
    return folder


@pytest.fixture
def write_file(places: Path) -> Callable[..., Path]:
    """Write a container file: `write_file("config.uid = 3")`, inside the `with` block of a barn."""

    def write(body: str = "", name: str = "box", head: str = "") -> Path:
        path = places / f"{name}.haco.py"
        lines = "\n".join("    " + line for line in (body or "pass").strip("\n").splitlines())
        path.write_text(f"from hakoniwa import Haconiwa\n{head}\nwith Haconiwa.define() as config:\n{lines}\n")
        path.chmod(0o644)
        return path

    return write


class Hako:
    """Runs `hako`, the program that users run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self, *words: str | Path, status: int | None = 0, input: str | bytes = b"", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end and check the exit status (None: any)."""
        done = subprocess.run(
            [str(HAKO), *map(str, words)],
            cwd=self.folder,
            input=input.encode() if isinstance(input, str) else input,
            capture_output=True,
            timeout=LONGEST,
            env={**os.environ, **environ},
        )
        text = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
        assert status is None or text.returncode == status, f"{words}: {text.returncode}\n{text.stdout}\n{text.stderr}"
        assert "Traceback" not in text.stderr or "--debug" in words, text.stderr
        return text

    def background(self, *words: str | Path, **options: object) -> subprocess.Popen[bytes]:
        """Run beside the test, which must see to its end."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen([str(HAKO), *map(str, words)], cwd=self.folder, **pipes)  # type: ignore[call-overload, no-any-return]


def wait_for_log(hako: Hako, path: Path, word: str) -> None:
    """Follow the log of a container until a word is there."""
    with hako.background("logs", "-f", path) as follower:
        assert follower.stdout is not None
        for line in follower.stdout:
            if word in line.decode():
                break
        follower.kill()


@pytest.fixture
def hako(places: Path) -> Iterator[Hako]:
    """The runner, in the folder of the test. What a failed test has left running is ended after the look-out for leaks."""
    runner = Hako(places)
    yield runner
    run = places / "run"
    for name in os.listdir(run) if run.is_dir() else []:
        runner("kill", "-n", name, "-T", "0", status=None)


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small rootfs, made once by our own recipe."""
    folder = tmp_path_factory.mktemp("rootfs") / "busybox"
    folder.mkdir()
    recipe = Path(__file__).parent.parent / "bootstrap" / "busybox"
    subprocess.run([str(recipe)], env={**os.environ, "ROOTFS": str(folder)}, check=True)
    (folder / "etc" / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001:Alice:/home/alice:/bin/sh\nbroken:x:abc\n"
    )
    (folder / "etc" / "group").write_text("root:x:0:\ntty:x:5:\nalice:x:1001:\nwheel:x:10:alice\n")
    yield folder
    subprocess.run(["rm", "-rf", "--", str(folder)], check=True)


@pytest.fixture
def rootfs(busybox: Path, places: Path) -> Path:
    """A copy of it that the test may change."""
    folder = places / "rootfs"
    subprocess.run(["cp", "-a", "--", str(busybox), str(folder)], check=True)
    return folder


@pytest.fixture
def box(write_file: Callable[..., Path], rootfs: Path) -> Callable[..., Path]:
    """Write a container file on that rootfs, with the usual mounts: `box("config.uid = 3")`."""

    def write(body: str = "", name: str = "box", head: str = "", mounts: bool | str = True) -> Path:
        lines = f'config.name = "{name}"\nconfig.chroot_to({str(rootfs)!r})\n'
        if isinstance(mounts, str):
            lines += f"config.mount_independent({mounts!r})\n"
        elif mounts:
            lines += 'config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")\n'
        return write_file(lines + body, name, head)

    return write
