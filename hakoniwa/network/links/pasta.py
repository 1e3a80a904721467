"""The network of an ordinary user's container: `pasta` carries what its one interface sends by sockets of that user. `man 1 pasta`.

It runs in the container's user namespace, whose root it needs to be to make the interface, and as long as the container: it is
killed with the supervisor. Who starts it enters that namespace first, since a change of credentials would undo that
(`man 2 prctl`, PR_SET_PDEATHSIG). It names the network namespace by a file in a mount namespace of its own, so that neither a pid
that is somebody else's by then nor a file that somebody has put there leads it elsewhere.
"""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem import mount
from hakoniwa.kernel.filesystem.files import wait_readable
from hakoniwa.kernel.processes import prctl, process, signals
from hakoniwa.record import Record
from hakoniwa.spec.networks import AUTO, BRIDGE, BRIDGE_IP, BRIDGE_IP6, guest_name
from hakoniwa.spec.subnets import network_of, split, written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hakoniwa.spec.networks import Interface, Network, Published
    from hakoniwa.spec.records import Container

# Where distributions have it. Not $PATH, as for nft (network/nft.py).
_PLACES = ("/usr/bin/pasta", "/bin/pasta", "/usr/local/bin/pasta")
_ENVIRON = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_TUN = "/dev/net/tun"
_MOST = 4000  # bytes that are told of what it says
_PATIENCE = 20.0  # seconds until it must be ready
_HINT = "it takes root, or remove it"
_MASK, _MASK6 = 24, 64

# With these, frames that no route of the container's allows reach pasta, and it connects to where they say: to the loopback
# of the host, too.
LEADS_TO_HOST = ("cap_net_admin", "cap_net_raw")


class Namespaces(Record):
    """Descriptors of the namespaces of a first process."""

    user: int
    net: int


class Helper(Record):
    """A pasta that runs."""

    pid: int
    pidfd: int


def must_be_possible(container: Container) -> None:
    """Raise HakoError for what an ordinary user's container cannot have of a network."""
    network = container.network
    assert network is not None
    for word, where in _impossible(network):
        raise HakoError(
            f"{word} takes root: without it, pasta is the network", where=where or network.where, hint=_HINT
        )
    if any(one.name == "user" for one in container.namespaces.entered):
        told = "without root, a network of its own takes a user namespace of its own"
        raise HakoError(told, where=network.where, hint="do not share or enter one")
    held = container.security.capabilities
    for name in LEADS_TO_HOST if network.interfaces else ():
        if (held.everything or name in held.named) and name not in held.dropped:
            told = f"without root, {name} leads to what listens on the loopback of the host: pasta connects to where frames say"
            raise HakoError(told, where=container.place(name) or network.where, hint=f"drop {name}, or run it as root")


def _impossible(network: Network) -> Iterator[tuple[str, str]]:
    """Words that pasta has no like of, with their lines."""
    if network.share_with is not None:
        yield "share_with()", network.where
    if network.namespace is not None:
        yield "network.namespace", network.where
    for number, one in enumerate(network.interfaces):
        if one.kind != "bridge":
            yield f"an interface of {one.kind}", one.where
        if number:
            yield f"a second interface, {guest_name(number, one)},", one.where
        if one.bridge_name != BRIDGE:
            yield f"bridge_name = {one.bridge_name!r}", one.where
        if one.host:
            yield f"veth_host = {one.host!r}", one.where
        if one.rate is not None:
            yield "rate", one.where
        if not one.nat:
            yield "nat = False", one.where
        if one.isolated:
            yield "isolated", one.where


def find(where: str) -> str:
    """Where pasta is. Raises HakoError if it is not installed, or could not make an interface."""
    found = next((path for path in _PLACES if os.access(path, os.X_OK)), None)
    if found is None:
        told = "pasta is not installed, which is the network of a container without root"
        raise HakoError(told, where=where, hint="apt-get install passt, or run it as root")
    if not os.access(_TUN, os.R_OK | os.W_OK):
        if not os.path.exists(_TUN):
            raise HakoError(f"{_TUN} is missing, which pasta needs", where=where, hint="modprobe tun, as root")
        told = f"{_TUN} is not open to you, and pasta needs it"
        raise HakoError(told, where=where, hint=f"chmod 0666 {_TUN}, as root: everybody may open it, as udev has it")
    return found


def addresses(one: Interface) -> tuple[str, str, str, str]:
    """An interface's addresses with their masks, IPv4 and IPv6, and those of the gateways; "" for none."""
    mask = one.netmask or _MASK
    address, gateway = _address(one.container_ip, one.bridge_ip or BRIDGE_IP, mask)
    address6, gateway6 = _address(one.container_ip6, one.bridge_ip6 or BRIDGE_IP6, _MASK6)
    if one.netmask is not None and address:
        address = f"{address.partition('/')[0]}/{one.netmask}"
    return address, address6, gateway, gateway6


def _address(wanted: str | None, bridge: str, mask: int) -> tuple[str, str]:
    """An address with its mask, and that of the gateway. Nobody else is in that network: the first one is free."""
    if wanted is None:
        return "", ""
    network = bridge if "/" in bridge else f"{bridge}/{mask}"
    family, gateway, length = split(network)
    if wanted == AUTO:
        _, first, _ = network_of(network)
        wanted = written(family, first + 1 if first + 1 != gateway else first + 2)
    return f"{wanted}/{length}", written(family, gateway)


def arguments(network: Network, path: str) -> list[str]:
    """What pasta is called with: all that it would do by itself is switched off, and what is asked for is on.

    `path` is that of the network namespace. No value begins with a dash: they are addresses, numbers, and names that were checked.
    """
    (one,) = network.interfaces
    address, address6, gateway, gateway6 = addresses(one)
    words = ["--foreground", "--quiet", "--config-net", "--no-map-gw", "--pid", "/proc/self/fd/1"]
    words += [
        "--no-dhcp",
        "--no-dhcpv6",
        "--no-ra",
        "--ns-ifname",
        guest_name(0, one),
        "--tcp-ns",
        "none",
        "--udp-ns",
        "none",
    ]
    if address:
        bare, _, length = address.partition("/")
        words += ["--address", bare, "--netmask", length, "--gateway", gateway]
    if address6:
        words += ["--address", address6.partition("/")[0], "--gateway", gateway6]
    if not (address and address6):
        words.append("--ipv4-only" if address else "--ipv6-only")
    if one.mtu is not None:
        words += ["--mtu", str(one.mtu)]
    if one.mac is not None:
        words += ["--ns-mac-addr", one.mac]
    for protocol in ("tcp", "udp"):
        ports = [_port(published) for published in network.published if published.protocol == protocol]
        words += [word for port in ports or ["none"] for word in (f"--{protocol}-ports", port)]
    return [*words, "--netns-only", "--netns", path]


def _port(one: Published) -> str:
    """`[ADDRESS/]FIRST[-LAST]:FIRST[-LAST]`."""
    outside, inside = (
        f"{first}-{first + one.count - 1}" if one.count > 1 else f"{first}" for first in (one.first, one.inside)
    )
    host = f"{one.host}/" if one.host not in ("", "::") else ""
    return f"{host}{outside}:{inside}"


def start(program: str, network: Network, namespaces: Namespaces, folder: str) -> Helper:
    """Have pasta run, and be ready. `folder` is any that is there: another is shown to it in its place. Raises HakoError."""
    told, telling = os.pipe2(os.O_CLOEXEC)
    said, saying = os.pipe2(os.O_CLOEXEC)
    us = os.getpid()
    pid, pidfd = process.clone(0)
    if pid == 0:
        _be_pasta(us, program, network, namespaces, folder, telling, saying)
    os.close(telling)
    os.close(saying)
    helper = Helper(pid=pid, pidfd=pidfd)
    try:
        if wait_readable(told, seconds=_PATIENCE) and os.read(told, 32):
            return helper
        ended = wait_readable(pidfd, seconds=0.0 if not wait_readable(told, seconds=0) else 1.0)
        end(helper)
        words = os.read(said, _MOST).decode(errors="replace") if ended else f"not ready within {_PATIENCE:.0f} seconds"
        raise HakoError(f"pasta cannot make the network: {_reason(words)}", where=network.where, hint=_hint(words))
    except OSError:
        end(helper)
        raise
    finally:
        os.close(told)
        os.close(said)  # nobody hears what it says later: it cannot fill anything


def end(helper: Helper) -> None:
    """End it, if it has not ended, and reap it."""
    try:
        signals.pidfd_send_signal(helper.pidfd, signals.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        os.waitpid(helper.pid, 0)
    except ChildProcessError:
        pass  # it was reaped with the orphans of the container
    os.close(helper.pidfd)


def inside(namespaces: Namespaces, action: Callable[[], object], *, what: str, where: str) -> None:
    """Do something as root of a first process's user namespace, in its network namespace. Raises HakoError; `what` as in nft.py."""
    told, telling = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = process.clone(0)
    if pid == 0:
        try:
            process.join(namespaces.user, process.NAMESPACES["user"])
            process.join(namespaces.net, process.NAMESPACES["net"])
            action()
        except HakoError as error:
            os.write(telling, str(error.message).encode())
        except BaseException as error:
            os.write(telling, f"cannot {what}: {getattr(error, 'strerror', None) or error}".encode())
        finally:
            os._exit(0)
    os.close(telling)
    os.close(pidfd)
    failure = os.read(told, _MOST)
    os.close(told)
    os.waitpid(pid, 0)
    if failure:
        raise HakoError(failure.decode(errors="replace"), where=where)


def _be_pasta(
    parent: int, program: str, network: Network, namespaces: Namespaces, folder: str, telling: int, saying: int
) -> None:
    """In the child: become it."""
    try:
        os.setsid()
        process.join(namespaces.user, process.NAMESPACES["user"])
        prctl.die_with_parent()
        if os.getppid() != parent:
            os._exit(127)  # it has ended before that
        path = _show(namespaces.net, folder)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for number, stream in enumerate((null, telling, saying)):
            os.dup2(stream, number)
        process.close_all_but(set())
        signals.reset_all()
        os.execve(program, ["pasta", *arguments(network, path)], _ENVIRON)
    except BaseException as error:
        os.write(saying, f"{getattr(error, 'filename', None) or program}: {error}".encode())
    finally:
        os._exit(127)


def _show(namespace: int, folder: str) -> str:
    """Have the network namespace be a file in a folder that only this process and what it becomes sees. Returns its path."""
    process.unshare(process.NAMESPACES["mount"])
    mount.make_all_private()
    tree, below = mount.make("tmpfs", "none", ["mode=700", "size=4k"]), os.open(folder, os.O_PATH | os.O_CLOEXEC)
    mount.attach(tree, below)
    path = os.path.join(folder, "net")
    file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
    mount.bind_file(f"/proc/self/fd/{namespace}", file)
    return path


def _reason(words: str) -> str:
    """The last line that it has said; where no system log is, it tells that of each, too."""
    lines = [line.strip() for line in words.splitlines() if line.strip() and "to syslog" not in line]
    return lines[-1] if lines else "it has ended without a word"


def _hint(words: str) -> str:
    if "routable interface" in words:
        family = "IPv6" if "IPv6" in words else "IPv4"
        return f"the host has no default route of {family}, which pasta goes by"
    return "man 1 pasta"
