"""/etc/hosts and /etc/resolv.conf of containers: what they say, and that many may come and go at once."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.kernel.processes.pidfd import identify
from hakoniwa.network import hostsfile, resolver
from hakoniwa.network.hostsfile import Neighbour

Maker = Callable[..., Neighbour]


@pytest.fixture
def comer(places: Path) -> Maker:
    """A container that has its file, and does not know of the others yet."""

    def make(
        name: str,
        address: str = "10.0.0.2",
        *,
        bridge: str = "br",
        hostname: str = "",
        barn: str = "",
        pid: int = 0,
        extra: dict[str, tuple[str, ...]] | None = None,
    ) -> Neighbour:
        who, path = identify(pid or os.getpid()), places / f"{name}.hosts"
        own = hostsfile.beginning([address], [hostname or name, name], extra or {}, ["10.0.0.1"])
        os.close(hostsfile.make(str(path), own))
        return Neighbour(
            name=name,
            hostname=hostname or name,
            barn=barn,
            bridges={bridge: (address,)},
            own=own,
            file=str(path),
            pid=who.pid,
            started=who.started,
            boot=who.boot,
        )

    return make


def text_of(one: Neighbour) -> str:
    return Path(one.file).read_text()


def found(one: Neighbour, name: str) -> list[str]:
    """What a name means in a file, as the C library looks: the case does not count, the first line does."""
    lines = [line.split() for line in text_of(one).splitlines()]
    return [words[0] for words in lines if name.lower() in (word.lower() for word in words[1:])]


def test_what_a_file_begins_with() -> None:
    text = hostsfile.beginning(["10.0.0.7", "fd00::7"], ["web.example", "web"], {"db": ("10.0.0.9",)}, ["10.0.0.1"])
    assert text.splitlines() == [
        "127.0.0.1 localhost",
        "::1 localhost ip6-localhost ip6-loopback",
        "10.0.0.9 db",
        "10.0.0.7 web.example web",
        "fd00::7 web.example web",
        "10.0.0.1 host.hakoniwa.internal",
    ]
    assert "10.0.0.7" not in hostsfile.beginning(["10.0.0.7"], ["localhost"], {}, [])
    assert hostsfile.beginning([], ["web"], {}, []).splitlines()[2:] == ["127.0.1.1 web"]


def test_neighbours_find_each_other_also_those_that_came_later(comer: Maker) -> None:
    web, db = comer("web", "10.0.0.2"), comer("db", "10.0.0.3")
    inode = os.stat(web.file).st_ino
    hostsfile.join(web)
    hostsfile.join(db)
    assert found(web, "db") == ["10.0.0.3"]
    assert found(db, "web") == ["10.0.0.2"]
    hostsfile.leave("db")
    assert text_of(web) == web.own
    assert os.stat(web.file).st_ino == inode
    hostsfile.leave("db")  # once more: there is nothing to do
    hostsfile.leave("web")


def test_others_are_not_found(comer: Maker) -> None:
    """Of another bridge; of another barn by its host name, which may be that of any host of the world."""
    web = comer("web", "10.0.0.2", hostname="www.example.org")
    for one in (web, comer("far", "10.1.0.2", bridge="other"), comer("db", "10.0.0.3")):
        hostsfile.join(one)
    assert not found(web, "far")
    db = comer("db", "10.0.0.3")
    hostsfile.join(db)
    assert found(db, "web") == ["10.0.0.2"]
    assert not found(db, "www.example.org")


def test_a_barn_finds_its_own_wherever_they_are_and_by_their_host_names(comer: Maker) -> None:
    web = comer("web", "10.0.0.2", hostname="www", barn="shop")
    db = comer("db", "10.1.0.3", bridge="other", barn="shop")
    hostsfile.join(web)
    hostsfile.join(db)
    assert found(db, "www") == found(db, "web") == ["10.0.0.2"]
    assert found(web, "db") == ["10.1.0.3"]


def test_on_a_bridge_that_both_are_on_the_address_is_that_of_this_bridge(comer: Maker) -> None:
    web = comer("web").replace(bridges={"one": ("10.0.0.2",), "two": ("10.2.0.2", "fd02::2")})
    db = comer("db").replace(bridges={"two": ("10.2.0.3",)})
    hostsfile.join(web)
    hostsfile.join(db)
    assert found(db, "web") == ["10.2.0.2", "fd02::2"]
    assert found(web, "db") == ["10.2.0.3"]


@pytest.mark.parametrize(
    ("name", "hostname"),
    [
        ("localhost", "localhost"),
        ("LOCALHOST", ""),
        ("host.hakoniwa.internal", ""),
        ("x", "localhost"),
        ("WEB", ""),
        ("x", "web"),
        ("x", "www"),
        ("x", "db"),
        ("x", "deb.debian.org"),
    ],
)
def test_no_neighbour_takes_a_name_that_means_something_already(comer: Maker, name: str, hostname: str) -> None:
    """Everybody's, the own ones, those of the container file, and of other containers: also of such as come later."""
    extra = {"deb.debian.org": ("192.0.2.1",)}
    web = comer("web", "10.0.0.2", hostname="www", barn="shop", extra=extra)
    hostsfile.join(web)
    evil = comer(name, "10.0.0.66", hostname=hostname, barn="shop")
    hostsfile.join(evil)
    hostsfile.join(comer("db", "10.0.0.3", barn="shop"))
    first = {word: found(web, word)[:1] for word in ("localhost", "host.hakoniwa.internal", "web", "www", "db")}
    assert first == {
        "localhost": ["127.0.0.1"],
        "host.hakoniwa.internal": ["10.0.0.1"],
        "web": ["10.0.0.2"],
        "www": ["10.0.0.2"],
        "db": ["10.0.0.3"],
    }
    assert found(web, "deb.debian.org") == ["192.0.2.1"]
    if name == "x":
        assert found(web, "x") == ["10.0.0.66"]
    text = "".join(text_of(web).split(web.own))
    assert not {"localhost", "host.hakoniwa.internal", "web", "www", "deb.debian.org"} & set(text.lower().split())


def test_a_killed_one_is_gone_when_the_next_comes_or_goes(comer: Maker) -> None:
    web = comer("web", "10.0.0.2")
    hostsfile.join(web)
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        hostsfile.join(comer("dead", "10.0.0.3", pid=sleeper.pid))
        assert found(web, "dead")
        sleeper.kill()
    hostsfile.join(comer("db", "10.0.0.4"))
    assert not found(web, "dead")
    assert found(web, "db")


def test_a_list_that_cannot_be_read_is_begun_anew(
    comer: Maker, places: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    web = comer("web")
    hostsfile.join(web)
    for damaged in (b"[{}]", b"a\0b\0", b"a\0" * 9, b"\xff\0" * 9):
        (places / "run" / ".names" / "list").write_bytes(damaged)
        hostsfile.join(comer("db", "10.0.0.3"))
        assert "is begun anew" in capfd.readouterr().err
    hostsfile.join(web)
    assert found(web, "db")


COMING = """
import os, sys
from hakoniwa.kernel.processes.pidfd import identify
from hakoniwa.network import hostsfile
name, address, path, pid = sys.argv[1:]
who = identify(int(pid))
own = hostsfile.beginning([address], [name], {}, ["10.0.0.1"])
os.close(hostsfile.make(path, own))
hostsfile.join(hostsfile.Neighbour(name=name, bridges={"br": (address,)}, own=own, file=path, pid=who.pid,
    started=who.started, boot=who.boot))
"""


def test_fifty_come_at_once_and_each_finds_all_others(places: Path) -> None:
    numbers = range(2, 52)
    words = [[f"c{n}", f"10.0.0.{n}", str(places / f"c{n}.hosts"), str(os.getpid())] for n in numbers]
    started = [subprocess.Popen([sys.executable, "-c", COMING, *each]) for each in words]
    assert [one.wait() for one in started] == [0] * 50
    for n in numbers:
        lines = (places / f"c{n}.hosts").read_text().splitlines()[4:]
        assert sorted(lines) == sorted(f"10.0.0.{m} c{m}" for m in numbers if m != n)


def test_who_is_killed_while_it_comes_leaves_no_name_and_no_lock(comer: Maker, places: Path) -> None:
    """Before each call that changes a file."""
    web = comer("web", "10.0.0.2")
    hostsfile.join(web)
    dying = """
import os
left = int(sys.argv.pop())
def until_death(call):
    def wrapped(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)
        return call(*arguments, **options)
    return wrapped
for word in ("open", "write", "pwrite", "rename", "unlink"):
    setattr(os, word, until_death(getattr(os, word)))
"""
    code = COMING.replace("name, address", dying.replace("import os", "", 1) + "\nname, address", 1)
    code = code.replace("identify(int(pid))", "identify(os.getpid())")
    deaths = 0
    while True:
        done = subprocess.run(
            [sys.executable, "-c", code, "dead", "10.0.0.3", str(places / "dead.hosts"), "0", str(deaths + 1)]
        )
        hostsfile.join(comer("db", "10.0.0.4"))
        assert not found(web, "dead")
        assert found(web, "db")
        hostsfile.leave("db")
        assert text_of(web) == web.own
        if done.returncode == 0:
            break
        deaths += 1
    assert deaths > 5


def test_who_reads_meanwhile_finds_whole_lines(tmp_path: Path) -> None:
    path = str(tmp_path / "hosts")
    file = hostsfile.make(path, "a line that is long\n" * 3)
    cut = os.ftruncate
    seen = []

    def look(descriptor: int, length: int) -> None:
        seen.append(Path(path).read_text())
        cut(descriptor, length)

    os.ftruncate = look
    try:
        hostsfile.rewrite(path, "short\n")
    finally:
        os.ftruncate = cut
        os.close(file)
    assert seen[0].rstrip("\n") == "short"
    assert Path(path).read_text() == "short\n"


def test_nobody_inside_can_have_others_wait_by_a_lease(tmp_path: Path) -> None:
    """Whoever opens a file for writing waits for who has a lease on it, for 45 s. `man 2 fcntl`, F_SETLEASE."""
    path = str(tmp_path / "hosts")
    kept = hostsfile.make(path, "before\n")
    inside = os.open(path, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.fcntl(inside, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    os.close(kept)  # without the defence, and then at least nobody waits
    fcntl.fcntl(inside, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    heard = signal.signal(signal.SIGIO, signal.SIG_IGN)
    with pytest.raises(BlockingIOError):
        hostsfile.rewrite(path, "after\n")
    os.close(inside)
    signal.signal(signal.SIGIO, heard)
    hostsfile.rewrite(path, "after\n")


# resolv.conf


def resolved(tmp_path: Path, host: str, behind: str | None = None, **given: tuple[str, ...]) -> resolver.Resolver:
    path, other = tmp_path / "resolv.conf", tmp_path / "behind.conf"
    path.write_text(host)
    if behind is not None:
        other.write_text(behind)
    servers, search, options = (given.get(word, ()) for word in ("servers", "search", "options"))
    return resolver.resolver_of(servers, search, options, str(path), (str(tmp_path / "missing"), str(other)))


def test_the_host_s_resolver_is_taken(tmp_path: Path) -> None:
    found = resolved(tmp_path, "# x\n\nnameserver 192.0.2.1\nsearch a.example b.example\noptions ndots:2\nsortlist x\n")
    assert found.text().splitlines()[1:] == [
        "nameserver 192.0.2.1",
        "search a.example b.example",
        "options ndots:2",
    ]


@pytest.mark.parametrize("stub", ["127.0.0.53", "127.0.0.1", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"])
def test_what_is_behind_a_stub_is_taken(tmp_path: Path, stub: str) -> None:
    host = f"nameserver {stub}\noptions edns0 trust-ad\nsearch home\n"
    found = resolved(tmp_path, host, "nameserver 192.0.2.53\nnameserver 2001:db8::53\n")
    assert found.servers == ("192.0.2.53", "2001:db8::53")
    assert (found.search, found.options) == (("home",), ())  # the options were about the stub
    alone = resolved(tmp_path, host, "nameserver 127.0.0.1\n")
    assert alone.servers == ()
    assert alone.lacks.endswith(
        f"names {stub} alone, which the container cannot reach, and no file tells what is behind it"
    )
    beside = resolved(tmp_path, host + "nameserver 192.0.2.1\n", "")
    assert beside.servers == ("192.0.2.1",)


def test_a_server_of_one_link_means_nothing_inside(tmp_path: Path) -> None:
    assert resolved(tmp_path, "nameserver fe80::1%eth0\nnameserver 192.0.2.1\n").servers == ("192.0.2.1",)


def test_what_is_given_takes_the_place_of_the_host_s(tmp_path: Path) -> None:
    host = "nameserver 192.0.2.1\nsearch home\noptions ndots:2\n"
    given = resolved(tmp_path, host, servers=("192.0.2.9",))
    assert (given.servers, given.search, given.options) == (("192.0.2.9",), ("home",), ())
    given = resolved(tmp_path, host, search=("corp",), options=("rotate",))
    assert (given.servers, given.search, given.options) == (("192.0.2.1",), ("corp",), ("rotate",))


@pytest.mark.parametrize(
    "text",
    ["", "nameserver\nnameserver x\nnameserver 1.2.3\nsearch\noptions\n", "\0\1\2\n" * 100, "nameserver 192.0.2.1" * 9],
)
def test_a_file_without_a_server_says_so(tmp_path: Path, text: str) -> None:
    found = resolved(tmp_path, text)
    assert found.servers == ()
    assert "names no server" in found.lacks


def test_what_is_read_has_an_end(tmp_path: Path) -> None:
    many = "".join(f"nameserver 192.0.2.{n}\nsearch {'d ' * 99999}\noptions {'o ' * 99}\n" for n in range(9))
    found = resolved(tmp_path, many)
    assert len(found.servers) <= 3
    assert len(found.search) < 40
    assert len(found.options) < 40
    os.mkfifo(tmp_path / "fifo")
    for path in (str(tmp_path / "fifo"), str(tmp_path), str(tmp_path / "none"), "/dev/zero"):
        assert "is not there, or no regular file" in resolver.resolver_of((), (), (), path).lacks


def test_no_word_of_the_host_s_file_can_be_another_line(tmp_path: Path) -> None:
    found = resolved(tmp_path, "nameserver 192.0.2.1\nsearch a\rnameserver\v6.6.6.6 b;c $(id)\noptions x\x1b[31m ok\n")
    assert found.text() == "# made by hakoniwa\nnameserver 192.0.2.1\nsearch a nameserver 6.6.6.6\noptions ok\n"
