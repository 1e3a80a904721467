"""What a container's network is, as plain data. Loaded for containers that have one."""

from __future__ import annotations

from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

BRIDGE, BRIDGE_IP, BRIDGE_IP6 = "haconiwa0", "10.0.0.1/24", "fd68:616b:6f::1/64"
AUTO = "auto"  # in the place of an address: a free one
GUEST = "eth"  # interfaces inside are called that, with their number
KINDS = ("bridge", "macvlan", "cni")
MACVLAN_MODES = ("bridge", "private", "vepa", "passthru")
PROTOCOLS = ("tcp", "udp")
POLICIES = ("any", "none", "list")

NO_ADDRESSES: Mapping[str, tuple[str, ...]] = {}
NO_ARGUMENTS: Mapping[str, str] = {}


class Published(Record):
    """Ports of the host, `count` from `first` on, that lead to as many inside, from `inside` on."""

    host: str = ""  # the one address of the host; "" stands for all
    first: int
    count: int = 1
    inside: int
    protocol: str = "tcp"
    wake: bool = False  # a connection starts or thaws the container
    idle: float = 0.0  # seconds without a connection, after which it is frozen or ended; 0: never
    where: str = ""


class Interface(Record):
    """One interface of the container."""

    kind: str = "bridge"
    bridge_name: str = BRIDGE
    bridge_ip: str | None = None  # with its mask; None: what the bridge has, and BRIDGE_IP for one that is made
    bridge_ip6: str | None = None
    netmask: int | None = (
        None  # bits of the network that the container takes its address to be in; None: as the bridge's
    )
    container_ip: str | None = AUTO
    container_ip6: str | None = None
    parent: str = ""  # of a macvlan: an interface of the host
    mode: str = "bridge"  # of a macvlan
    gateway: str = ""  # of a macvlan, which has no bridge to go by
    guest: str = ""  # its name inside; "": eth0, eth1 … by its place
    host: str = ""  # the name of the host's end; "": one that is free
    mtu: int | None = None  # None: that of the host's default route
    mac: str | None = None  # None: one that belongs to the address
    nat: bool = True  # what leaves the network of the bridge leaves as the host
    isolated: bool = False  # the neighbours on the bridge do not see it
    rate: int | None = None  # bytes a second, each way
    cni: str = ""  # the name of a network that CNI plugins join
    cni_arguments: Mapping[str, str] = NO_ARGUMENTS
    where: str = ""


class Allowed(Record):
    """What a policy lets the container reach: a network, on one port or on all; or with `dns` its resolvers."""

    network: str = ""  # with its mask
    port: int = 0  # 0: all
    protocol: str = ""  # "": each
    dns: bool = False


class Policy(Record):
    """What the container may reach: "any", "none", or what is in the "list"."""

    default: str = "any"
    allowed: tuple[Allowed, ...] = ()
    insist: bool = False  # it stands though the container has cap_net_admin, and so could lift it
    where: str = ""


class Network(Record):
    """The network of a container."""

    interfaces: tuple[Interface, ...] = ()
    namespace: str | None = None  # the name that `ip netns` knows it by
    cleanup: bool = True  # the namespace goes when the container ends
    published: tuple[Published, ...] = ()
    policy: Policy | None = None
    hosts: Mapping[str, tuple[str, ...]] = NO_ADDRESSES
    dns_servers: tuple[str, ...] = ()  # none: the host's
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    share_with: str | None = None  # the container whose network it has
    where: str = ""


def on_bridges(network: Network) -> list[tuple[int, Interface]]:
    """The interfaces that are ports of bridges, each with its number among all."""
    return [(number, one) for number, one in enumerate(network.interfaces) if one.kind == "bridge"]


def guest_name(number: int, interface: Interface) -> str:
    """The name of an interface inside."""
    return interface.guest or f"{GUEST}{number}"


def host_side(published: Published) -> str:
    """Ports of the host in words: `[HOST:]PORT[-PORT]`."""
    last = published.first + published.count - 1
    ports = f"{published.first}-{last}" if published.count > 1 else f"{published.first}"
    host = f"[{published.host}]" if ":" in published.host else published.host
    return f"{host}:{ports}" if host else ports


def publish_text(published: Published) -> str:
    """As files write it, and lists show it."""
    protocol = "" if published.protocol == "tcp" else f"/{published.protocol}"
    return f"{host_side(published)}:{published.inside}{protocol}"


def allowed_text(one: Allowed) -> str:
    """An item of a policy, as files write it."""
    if one.dns:
        return "dns"
    address, _, length = one.network.partition("/")
    network = address if int(length) == (128 if ":" in address else 32) else one.network
    port = f":{one.port}" if one.port else ""
    return f"{f'[{network}]' if port and ':' in network else network}{port}{f'/{one.protocol}' if one.protocol else ''}"
