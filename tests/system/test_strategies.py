"""Strategies for real: what they make, what they are told wrong, and the network that they need."""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import subprocess
import sysconfig
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.conftest import HAKO, Hako
from tests.system.test_rootfs import remains

Writer = Callable[..., Path]

LONG = 400.0  # seconds that a whole Debian may take


def create(path: Path, *words: str) -> str:
    """As `hako create`, for as long as that takes."""
    done = subprocess.run([str(HAKO), "create", *words, str(path)], capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stderr
    return done.stderr


def body(strategy: str, **settings: object) -> str:
    lines = [f"b = config.bootstrap\nb.strategy = {strategy!r}"]
    return "\n".join([*lines, *(f"b.{name} = {value!r}" for name, value in settings.items()), ""])


def is_debian(hako: Hako, path: Path, version: str) -> None:
    script = "dpkg --verify base-files; grep VERSION_ID /etc/os-release; ls /etc/hostname 2>/dev/null"
    found = hako("start", path, "--", "sh", "-c", script + "; apt-get --version | head -1").stdout
    assert f'VERSION_ID="{version}"\napt ' in found, found


@pytest.mark.parametrize(("release", "version"), [("bookworm", "12"), ("trixie", "13")])
def test_debootstrap(hako: Hako, write_file: Writer, release: str, version: str) -> None:
    path = write_file(body("debootstrap", debian_release=release, variant="minbase", components=["main"]))
    assert f"building {release} with debootstrap" in create(path)
    is_debian(hako, path, version)
    hako("rm", "--rootfs", path)
    assert "building" not in hako("create", path).stderr  # it lies on the layer of the first


def test_mmdebstrap_and_provisioning_with_apt(hako: Hako, write_file: Writer, places: Path) -> None:
    text = body("debootstrap", debian_release="bookworm", variant="minbase", tool="mmdebstrap")
    # What this machine's apt needs to reach its mirror, the box's needs, too.
    text += "p = config.provision\np.copy('/etc/apt/apt.conf.d', '/etc/apt/apt.conf.d')\n"
    text += "p.run_shell('apt-get -q update && apt-get -qy --no-install-recommends install cron', name='cron')\n"
    path = write_file(text)
    told = create(path)
    assert "building bookworm with mmdebstrap" in told
    assert "cron: Setting up cron" in told
    is_debian(hako, path, "12")
    assert hako("start", path, "--", "test", "-x", "/usr/sbin/cron").returncode == 0


def test_the_recipe_of_a_development_system(hako: Hako, write_file: Writer) -> None:
    path = write_file(body("recipe", recipe="debian-dev"))
    create(path)
    is_debian(hako, path, "12")
    script = "printf 'int main(void) { return 7; }' > /tmp/a.c && gcc -o /tmp/a /tmp/a.c && git --version && /tmp/a"
    assert hako("start", path, "--", "sh", "-c", script, status=7).stdout.startswith("git version")


def test_lxc_busybox(hako: Hako, write_file: Writer, places: Path) -> None:
    before = sorted(os.listdir("/var/lib/lxc")) if os.path.isdir("/var/lib/lxc") else []
    path = write_file(body("lxc", os_type="busybox", project_name="project"))
    hako("create", path)
    assert hako("start", path, "--", "id", "-un").stdout == "root\n"
    assert (sorted(os.listdir("/var/lib/lxc")) if os.path.isdir("/var/lib/lxc") else []) == before
    assert [name for name in remains(places) if "/.lxc-" in name] == []


def test_lxc_debian(hako: Hako, write_file: Writer) -> None:
    cache = os.listdir("/var/cache/lxc") if os.path.isdir("/var/cache/lxc") else []
    path = write_file(body("lxc", os_type="debian", debian_release="bookworm", project_name="project"))
    create(path)
    found = hako("start", path, "--", "cat", "/etc/hostname", "/etc/os-release").stdout
    assert found.startswith("project\n")
    assert 'VERSION_ID="12"' in found
    assert (os.listdir("/var/cache/lxc") if os.path.isdir("/var/cache/lxc") else []) == cache


@pytest.fixture
def repository(places: Path) -> Path:
    """A repository with a small rootfs: two commits, a branch and a tag."""
    folder = places / "repository"
    (folder / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", folder / "bin" / "sh")
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", folder, *settings, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    for version in ("one", "two"):
        (folder / "version").write_text(version)
        git("add", ".")
        git("commit", "--quiet", "-m", version)
        if version == "one":
            git("tag", "-a", "-m", "t", "v1")
            git("branch", "old")
    (folder / "commit").write_text(git("rev-parse", "HEAD~1"))
    git("config", "uploadpack.allowAnySHA1InWant", "true")
    return folder


@pytest.mark.parametrize(("ref", "version"), [(None, "two"), ("old", "one"), ("v1", "one"), ("COMMIT", "one")])
def test_git(hako: Hako, write_file: Writer, places: Path, repository: Path, ref: str | None, version: str) -> None:
    chosen = (repository / "commit").read_text() if ref == "COMMIT" else ref
    more = {} if chosen is None else {"git_ref": chosen}
    path = write_file(body("git", git_url="repository", **more))
    hako("create", path)
    assert hako("start", path, input="read x < /version; echo $x; echo /.g*").stdout == f"{version}\n/.g*\n"


def test_git_sees_that_a_branch_has_moved(hako: Hako, write_file: Writer, repository: Path) -> None:
    path = write_file(body("git", git_url=f"file://{repository}"))
    hako("create", path)
    (repository / "version").write_text("three")
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", repository, *settings, "commit", "-qam", "three"], check=True)
    hako("create", "--rebuild", path)
    assert hako("start", path, input="read x < /version; echo $x").stdout == "three\n"


@contextmanager
def https(folder: Path, answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server with a certificate of its own, which `SSL_CERT_FILE` makes known."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run([*words.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = HTTPServer(("localhost", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.05))
    thread.start()
    try:
        yield f"https://localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send(content: bytes, *, length: int | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/elsewhere":
            handler.send_response(302)
            handler.send_header("Location", "http://localhost:1/plain")
            handler.end_headers()
            return
        handler.send_response(200 if handler.path == "/box.tar" else 404)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


@pytest.fixture
def own_cache(places: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HAKONIWA_CACHE_DIR", str(places / "cache"))
    return places / "cache"


def test_an_archive_from_the_network(
    hako: Hako, write_file: Writer, places: Path, busybox: Path, own_cache: Path
) -> None:
    subprocess.run(["tar", "-C", busybox, "-cf", places / "box.tar", "."], check=True)
    content = (places / "box.tar").read_bytes()
    known = hashlib.sha256(content).hexdigest()
    with https(places, send(content)) as url:
        certificate = str(places / "certificate.pem")
        path = write_file(body("tarball", archive_path=f"{url}/box.tar", sha256=known))
        assert "fetching https://" in hako("create", path, SSL_CERT_FILE=certificate).stderr
        assert hako("start", path, "--", "id", "-un").stdout == "root\n"
        for text, told in (
            (body("tarball", archive_path=f"{url}/box.tar", sha256="0" * 64), f"its SHA-256 is {known}"),
            (body("tarball", archive_path=f"{url}/none.tar", sha256="1" * 64), "cannot fetch https://localhost"),
            (body("tarball", archive_path=f"{url}/elsewhere", sha256="2" * 64), "which is not https"),
        ):
            failed = hako("create", write_file(text, "failed"), status=125, SSL_CERT_FILE=certificate).stderr
            assert told in failed
        # Another certificate than a known one is none.
        text = body("tarball", archive_path=f"{url}/box.tar", sha256="3" * 64)
        assert "certificate verify failed" in hako("create", write_file(text, "failed"), status=125).stderr
    assert os.listdir(own_cache / "downloads") == [known]
    with https(places, send(content, length=len(content) + 5)) as url:
        text = body("tarball", archive_path=f"{url}/box.tar", sha256="4" * 64)
        told = hako(
            "create", write_file(text, "failed"), status=125, SSL_CERT_FILE=str(places / "certificate.pem")
        ).stderr
        assert "it ended after" in told or "IncompleteRead" in told
    assert os.listdir(own_cache / "downloads") == [known]
    hako("rm", "--rootfs", path)
    hako("cache", "prune")
    assert os.listdir(own_cache / "downloads") == []


def test_the_hash_of_a_file(hako: Hako, write_file: Writer, places: Path, busybox: Path, own_cache: Path) -> None:
    subprocess.run(["tar", "-C", busybox, "-cf", places / "box.tar", "."], check=True)
    known = hashlib.sha256((places / "box.tar").read_bytes()).hexdigest()
    hako("create", write_file(body("tarball", archive_path="box.tar", sha256=f"sha256:{known.upper()}"), "good"))
    (places / "same").mkdir()
    shutil.copy(places / "box.tar", places / "same" / "copy.tar")
    assert "unpacking" not in hako("create", write_file(body("tarball", archive_path="same/copy.tar"), "same")).stderr
    told = hako("create", write_file(body("tarball", archive_path="box.tar", sha256="f" * 64)), status=125).stderr
    assert f"its SHA-256 is {known}" in told
    with open(places / "box.tar", "ab") as file:
        file.write(b"\0" * 512)
    text = body("tarball", archive_path="box.tar", sha256=known)
    assert "is not the one that is asked for" in hako("create", write_file(text, "changed"), status=125).stderr


PLUGIN = """
class Mine:
    def bootstrap(self, boot):
        boot.log(f"with {boot.options}")
        boot.run(["/bin/sh", "-c", "mkdir $ROOTFS/bin; cp /bin/busybox $ROOTFS/bin/sh; echo done"])

broken = 3
"""


@pytest.fixture
def plugin() -> Iterator[None]:
    """A package with strategies of its own, installed as pip would."""
    site = Path(sysconfig.get_path("purelib"))
    facts = site / "hakoniwa_test_plugin-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: hakoniwa-test-plugin\nVersion: 1\n")
    names = "mine = hakoniwa_test_plugin:Mine\nbroken = hakoniwa_test_plugin:broken\ngone = hakoniwa_no_plugin:x\n"
    (facts / "entry_points.txt").write_text(f"[hakoniwa.strategies]\n{names}")
    (site / "hakoniwa_test_plugin.py").write_text(PLUGIN)
    yield
    shutil.rmtree(facts)
    (site / "hakoniwa_test_plugin.py").unlink()


def test_a_strategy_of_another_package(hako: Hako, write_file: Writer, plugin: None) -> None:
    path = write_file(body("mine", options={"a": [1]}))
    told = hako("create", path).stderr
    assert "box: with {'a': [1]}" in told
    assert "sh: done" in told
    assert hako("start", path, input="echo 1").stdout == "1\n"
    assert (
        "'broken' has no bootstrap(boot) method" in hako("create", write_file(body("broken"), "b"), status=125).stderr
    )
    told = hako("create", write_file(body("gone"), "c"), status=125).stderr
    assert "strategy 'gone' cannot be loaded: ModuleNotFoundError" in told
    assert "did you mean 'mine'?" in hako("check", write_file(body("mien"), "d"), status=125).stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            body("debootstrap", debian_release="bookwurm"),
            "the release 'bookwurm' is unknown (did you mean 'bookworm'?)",
        ),
        (body("debootstrap", debian_release="../x"), "the release '../x' is unknown"),
        (body("debootstrap", debian_release="--help"), "config.bootstrap.debian_release must be a word that does not"),
        (body("debootstrap", debian_release="bookworm", mirror_url="-x"), "config.bootstrap.mirror_url must be a word"),
        (
            body("debootstrap", debian_release="bookworm", components=["-x"]),
            "config.bootstrap.components must be a word",
        ),
        (body("debootstrap", debian_release="bookworm", variant="--x"), "config.bootstrap.variant must be a word"),
        (body("debootstrap", debian_release="bookworm", arch="-x"), "config.bootstrap.arch must be a word"),
        (body("debootstrap", debian_release="bookworm", tool="x"), "one of debootstrap mmdebstrap"),
        (
            body("debootstrap", debian_release="bookworm", mirror_url="http://localhost:1/debian"),
            "debootstrap failed with exit status 1 (",
        ),
        (body("debootstrap", debian_release="bookworm", variant="none"), "debootstrap failed with exit status 1 ("),
        (body("git", git_url="ext::sh -c touch% /tmp/hakoniwa-evil"), "the protocol of 'ext::"),
        (body("git", git_url="--upload-pack=touch /tmp/hakoniwa-evil"), "must be a word that does not begin with '-'"),
        (body("git", git_url="http://localhost/x"), "is not allowed (https, ssh and file are)"),
        (body("git", git_url="git://localhost/x"), "is not allowed"),
        (body("git", git_url="https://localhost:1/x"), "git cannot read https://localhost:1/x ("),
        (body("git", git_url="/nowhere"), "git cannot read file:///nowhere"),
        (body("git", git_url="repository", git_ref="nope"), "has no branch or tag 'nope'"),
        (body("git", git_url="repository", git_ref="-x"), "config.bootstrap.git_ref must be a word"),
        (body("git", git_url="repository", git_ref="0" * 40), "git failed with exit status 128"),
        (
            body("git", git_url="repository", git_options=["--upload-pack=x"]),
            "git_options cannot have '--upload-pack=x'",
        ),
        (body("lxc", os_type="busybx"), "has no template for the os_type 'busybx' (did you mean 'busybox'?)"),
        (body("lxc", os_type="../../../tmp/x"), "has no template for the os_type"),
        (body("lxc", os_type="-x"), "config.bootstrap.os_type must be a word"),
        (body("lxc", os_type="busybox", lxc_options=["--no-such"]), "lxc-create busybox failed with exit status 1"),
        (
            body("tarball", archive_path="https://localhost:1/x"),
            "an archive from the network needs config.bootstrap.sha256",
        ),
        (body("tarball", archive_path="http://localhost/x"), "archive_path takes a path or an https:// URL"),
        (body("tarball", archive_path="x", sha256="abc"), "a SHA-256 digest: 64 hexadecimal digits"),
        (
            body("tarball", archive_path="https://localhost:1/x", sha256="0" * 64),
            "cannot fetch https://localhost:1/x: [Errno 111] Connection refused",
        ),
        (body("host", cache=True), "strategy 'host' has nothing to cache"),
        (body("host", sha256="0" * 64), "config.bootstrap.sha256 means nothing to strategy 'host'"),
        (body("recipe", recipe="debain"), "recipe 'debain' is unknown (did you mean 'debian'?)"),
    ],
)
def test_what_is_told_wrong(
    hako: Hako, write_file: Writer, places: Path, repository: Path, text: str, told: str
) -> None:
    assert told in hako("create", write_file(text), status=125).stderr
    assert not os.path.exists("/tmp/hakoniwa-evil")
    assert not (places / "lib").exists() or remains(places) == []


def test_a_tool_that_is_missing(hako: Hako, write_file: Writer, places: Path) -> None:
    """The programs of a build are looked for in PATH, and where the system has them."""
    path = write_file(body("debootstrap", debian_release="bookworm"))
    words = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /usr/sbin; exec "$0" "$@"', str(HAKO), "create"]
    done = subprocess.run([*words, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 125
    assert "strategy 'debootstrap': debootstrap is not installed (apt-get install debootstrap)" in done.stderr
