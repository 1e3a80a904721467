"""Machines for tests of networks: network namespaces, each with its own links, that send real packets to each other."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator

from hakoniwa.kernel.netlink import messages
from hakoniwa.kernel.netlink.routes import Links, Veth
from hakoniwa.kernel.processes import process
from hakoniwa.network import firewall

PATIENCE = 10.0  # seconds for what must come; and how long a test waits for what must not, DEAF
DEAF = 0.4
BRIDGE, SUBNET4, SUBNET6 = "br0", "10.0.0.0/24", "fd00:1::/64"


class Machine:
    """A network namespace. `with machine.inside():` has this thread be in it."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec cat"], stdin=-1, stdout=-1)
        assert self._holder.stdout is not None
        self._holder.stdout.read(1)
        self.number = os.open(f"/proc/{self._holder.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.links = Links(messages.open_socket(self.number))
        self.links.set("lo", up=True)
        self.setting("net/ipv6/conf/default/accept_dad", "0")  # its links could have been there for long

    @property
    def pid(self) -> int:
        """A process in it."""
        return self._holder.pid

    def close(self) -> None:
        """End it."""
        self.links.close()
        os.close(self.number)
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.stdout.close()
        self._holder.wait()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Be in it for a while; sockets stay in it, but for the one that the firewall has kept."""
        firewall.let_go()
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        process.join(self.number, process.NAMESPACES["net"])
        try:
            yield
        finally:
            firewall.let_go()
            process.join(own, process.NAMESPACES["net"])
            os.close(own)

    def run(self, *words: str, input: str = "") -> str:
        """What a program says that runs in it."""
        command = ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *words]
        done = subprocess.run(command, input=input, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def setting(self, name: str, value: str | None = None) -> str:
        """A setting of the kernel, such as net/ipv4/conf/br0/forwarding; with a value it is set before."""
        with self.inside():
            if value is not None:
                with open(f"/proc/sys/{name}", "w") as file:
                    file.write(value)
            with open(f"/proc/sys/{name}") as file:
                return file.read().strip()

    def join(self, name: str, other: Machine, peer: str, *, master: int = 0) -> None:
        """Make a pair of interfaces between two machines, both up."""
        self.links.add_veth(Veth(name=name, peer=peer, namespace=other.number, master=master))
        other.links.set(peer, up=True)

    def address(self, link: str, *addresses: str) -> None:
        """Give a link addresses with their masks."""
        found = self.links.find(link)
        assert found is not None
        for address in addresses:
            value, _, length = address.partition("/")
            self.links.add_address(found.index, value, int(length))

    def route(self, link: str, *gateways: str) -> None:
        """Default routes."""
        found = self.links.find(link)
        assert found is not None
        for gateway in gateways:
            self.links.add_route(found.index, gateway)

    def listen(self, port: int, kind: str = "tcp", host: str = "::") -> socket.socket:
        """A socket that hears on a port."""
        with self.inside():
            return listening(port, kind, host)

    def connect(self, host: str, port: int, kind: str = "tcp", *, source: int = 0) -> socket.socket:
        """A socket that is connected to a port."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with self.inside():
            found = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
            found.settimeout(PATIENCE)
            if source:
                found.bind(("", source))
            try:
                found.connect((host, port))
            except BaseException:
                found.close()
                raise
            return found


def listening(port: int, kind: str = "tcp", host: str = "::") -> socket.socket:
    """A socket of this namespace that hears on a port, of IPv4 too where it is one of `::`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    try:
        found.settimeout(PATIENCE)
        if family == socket.AF_INET6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        if kind == "tcp":
            found.listen(64)
    except BaseException:
        found.close()
        raise
    return found


class Server:
    """Answers each connection, or each datagram, with its name and whom it has heard from: `with Server(machine, 80, "tcp", "a")`."""

    def __init__(self, machine: Machine, port: int, kind: str = "tcp", name: str = "it", host: str = "::") -> None:
        self._machine, self._port, self._kind, self._name = machine, port, kind, name
        self._socket = machine.listen(port, kind, host)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._kind == "tcp":
            self._socket.shutdown(socket.SHUT_RDWR)
        else:
            with self._machine.connect("::1", self._port, "udp") as ending:
                ending.send(b"")
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                if self._kind == "tcp":
                    connection, peer = self._socket.accept()
                    with connection:
                        connection.sendall(self._answer(peer))
                else:
                    data, peer = self._socket.recvfrom(100)
                    if not data:
                        return
                    self._socket.sendto(self._answer(peer), peer)
            except OSError:
                return

    def _answer(self, peer: tuple[str, int]) -> bytes:
        return f"{self._name} {peer[0].removeprefix('::ffff:')}".encode()


def ask(machine: Machine, host: str, port: int, kind: str = "tcp", *, source: int = 0) -> str:
    """What a server says, and from whom it has heard. Raises OSError."""
    with machine.connect(host, port, kind, source=source) as asking:
        if kind == "udp":
            asking.send(b"?")
        return asking.recv(100).decode()


def is_deaf(machine: Machine, host: str, port: int, kind: str = "tcp") -> bool:
    """Whether nothing comes back from a port, not even that it is closed."""
    with machine.inside():
        asking = socket.socket(
            socket.AF_INET6 if ":" in host else socket.AF_INET,
            socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM,
        )
    with asking:
        asking.settimeout(DEAF)
        try:
            asking.connect((host, port))
            asking.send(b"?")
            asking.recv(1)
        except TimeoutError:
            return True
        except OSError:
            return False
        return False


class Site:
    """A host with a bridge, another machine, and two containers: `host`, `outside`, `one`, `two`."""

    ONE, TWO = ("10.0.0.2", "fd00:1::2"), ("10.0.0.3", "fd00:1::3")
    HOST, OUTSIDE = ("192.0.2.1", "2001:db8::1"), ("192.0.2.2", "2001:db8::2")
    GATEWAY = ("10.0.0.1", "fd00:1::1")

    def __init__(self) -> None:
        self.host, self.outside, self.one, self.two = (Machine() for _ in range(4))
        self.host.join("up0", self.outside, "eth0")
        self.host.address("up0", "192.0.2.1/24", "2001:db8::1/64")
        self.outside.address("eth0", "192.0.2.2/24", "2001:db8::2/64")
        self.host.route("up0", "192.0.2.2", "2001:db8::2")
        self.host.links.add_bridge(BRIDGE)
        self.host.address(BRIDGE, "10.0.0.1/24", "fd00:1::1/64")
        bridge = self.host.links.find(BRIDGE)
        assert bridge is not None
        for number, (machine, addresses) in enumerate(((self.one, self.ONE), (self.two, self.TWO))):
            self.host.join(f"port{number}", machine, "eth0", master=bridge.index)
            machine.address("eth0", f"{addresses[0]}/24", f"{addresses[1]}/64")
            machine.route("eth0", *self.GATEWAY)

    def close(self) -> None:
        """End all machines."""
        for machine in (self.one, self.two, self.outside, self.host):
            machine.close()


class Inside(Machine):
    """The network namespace of a process, such as a container's first one: `with Inside(pid) as machine`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.number = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.links = Links(messages.open_socket(self.number))

    @property
    def pid(self) -> int:
        return self._pid

    def close(self) -> None:
        self.links.close()
        os.close(self.number)

    def __enter__(self) -> Inside:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
