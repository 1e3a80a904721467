"""What must hold between the settings of networks (rules.py). Loaded where a container has one."""

from __future__ import annotations

from hakoniwa.spec.networks import AUTO, guest_name, host_side, on_bridges
from hakoniwa.spec.subnets import does_not_fit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hakoniwa.spec.held import Capabilities
    from hakoniwa.spec.networks import Interface, Network, Policy, Published
    from hakoniwa.spec.records import Barn, Container

    Found = tuple[str, str, str]  # the path of the setting, what is wrong with it, the way out

_LEAST_OF_IPV6 = 1280  # bytes that a packet must be able to have, RFC 8200


def broken_network_rules(container: Container) -> Iterator[Found]:
    """The problems of one container's network."""
    network = container.network
    assert network is not None
    yield from _where_it_is(container, network)
    if network.share_with is not None:
        yield from _is_another_s(container, network)
        return
    yield from _interfaces_fit(network)
    yield from _ports_fit(network)
    yield from _policy_stands(container, network)
    if not network.cleanup and network.namespace is None:
        yield "network.cleanup", "cleanup = False keeps the namespace, which needs a name", "set network.namespace"


def _where_it_is(container: Container, network: Network) -> Iterator[Found]:
    if container.flavour == "fly":
        yield "network", "a fly container has the host's network, and no other", 'flavour = "container" has its own'
    entered = next((one for one in container.namespaces.entered if one.name == "net"), None)
    if entered is not None:
        told = "a network of its own, and a net namespace that is entered, exclude each other"
        yield "network", told, f"remove one of the two; the other is at {entered.where}"


def _is_another_s(container: Container, network: Network) -> Iterator[Found]:
    if network.share_with == container.name:
        yield "network.share_with", "a container cannot share its network with itself", "name another container"
    if "net" in container.namespaces.own:
        told = "a net namespace of its own and share_with exclude each other"
        yield "network.share_with", told, 'remove namespace.unshare("net")'
    taken = {
        "interfaces": network.interfaces,
        "published": network.published,
        "policy": network.policy,
        "namespace": network.namespace,
    }
    for word, value in taken.items():
        if value:
            told = f"{word} and share_with exclude each other: the network is {network.share_with}'s"
            yield f"network.{word}", told, f"set it in {network.share_with}"


def _interfaces_fit(network: Network) -> Iterator[Found]:
    guests: dict[str, int] = {}
    ends: dict[str, int] = {}
    for number, one in enumerate(network.interfaces):
        path, guest = f"network.interfaces[{number}]", guest_name(number, one)
        if guest == "lo":
            yield f"{path}.guest", "lo is the loopback, and no name for another interface", "such as eth0"
        if guest in guests:
            told = f"two interfaces are called {guest} inside"
            yield f"{path}.guest", told, "veth_guest names one"
        if one.host and one.host in ends:
            yield f"{path}.host", f"two interfaces are called {one.host} on the host", "veth_host names one"
        guests.setdefault(guest, number)
        ends.setdefault(one.host, number)
        if one.mtu is not None and one.mtu < _LEAST_OF_IPV6 and one.container_ip6 is not None:
            told = f"an mtu of {one.mtu} is below the {_LEAST_OF_IPV6} that IPv6 takes"
            yield f"{path}.mtu", told, "raise it, or leave container_ip6 out"
        if one.kind == "bridge":
            yield from _port_fits(path, one)
        else:
            yield from _others_fit(path, one)


def _port_fits(path: str, one: Interface) -> Iterator[Found]:
    """What an interface on a bridge is asked to be."""
    for word in ("container_ip", "container_ip6"):
        if "/" in (getattr(one, word) or ""):
            told = f"{word} has no mask of its own on a bridge: {getattr(one, word)}"
            yield f"{path}.{word}", told, "the mask is the bridge's"
    mask = (one.bridge_ip or "").partition("/")[2]
    if one.netmask is not None and mask and int(mask) != one.netmask:
        told = f"the bridge has {mask} bits of mask, and netmask has {one.netmask}"
        yield f"{path}.netmask", told, "remove one of the two"
    for word, bridge in (("container_ip", one.bridge_ip), ("container_ip6", one.bridge_ip6)):
        address = getattr(one, word)
        if address not in (None, AUTO) and bridge is not None and "/" in bridge and "/" not in address:
            wrong, hint = does_not_fit(address, bridge)
            if wrong:
                yield f"{path}.{word}", wrong, hint
    for word in ("parent", "gateway", "cni"):
        if getattr(one, word):
            yield f"{path}.{word}", f"{word} is nothing that an interface on a bridge has", "remove it"


def _others_fit(path: str, one: Interface) -> Iterator[Found]:
    """What an interface that is on no bridge is asked to be."""
    if one.kind == "macvlan" and not one.parent:
        yield f"{path}.parent", "a macvlan needs a parent", "parent= names an interface of the host"
    if one.kind == "cni" and not one.cni:
        yield f"{path}.cni", "an interface of CNI's needs the name of a network", 'cni("NET")'
    if one.kind == "macvlan" and one.rate is not None:
        yield f"{path}.rate", "the rate of a macvlan is not limited: it has no end on the host", "take a bridge"
    if one.isolated:
        yield f"{path}.isolated", f"isolated is for bridges, and this is {one.kind}", 'a macvlan has mode="private"'
    for word in ("container_ip", "container_ip6"):
        address = getattr(one, word)
        if one.kind == "macvlan" and address == AUTO:
            told = "nobody gives a macvlan an address by itself: its network is the parent's"
            yield f"{path}.{word}", told, f'{word}="192.0.2.7/24", or None'
        elif one.kind == "macvlan" and address is not None and "/" not in address:
            yield f"{path}.{word}", f"{address} has no mask", f"{address}/{64 if ':' in address else 24}"


def _ports_fit(network: Network) -> Iterator[Found]:
    if network.published and all(one.kind == "macvlan" for one in network.interfaces):
        yield "network.published[0]", "ports are published through a bridge, and there is none", 'container_ip = "auto"'
    first_on_bridge = next((one for _, one in on_bridges(network)), None)
    for number, one in enumerate(network.published):
        path = f"network.published[{number}]"
        if first_on_bridge is not None:
            yield from _leads_somewhere(path, one, first_on_bridge)
        for word, first in (("first", one.first), ("inside", one.inside)):
            if first + one.count - 1 > 65535:
                yield f"{path}.{word}", f"{one.count} ports from {first} on go beyond 65535", "publish fewer"
        if one.idle and not one.wake:
            yield f"{path}.idle", "idle goes with wake=True", "add wake=True, or remove idle="
        for earlier in network.published[:number]:
            if collide(one, earlier):
                told = f"port {_shared_port(one, earlier)}/{one.protocol} of the host is published twice"
                yield path, told, f"the other is at {earlier.where}" if earlier.where else "publish it once"


def _leads_somewhere(path: str, published: Published, interface: Interface) -> Iterator[Found]:
    """A packet of one kind of IP cannot be led to an address of the other."""
    kind, word = ("IPv6", "container_ip6") if ":" in published.host else ("IPv4", "container_ip")
    nowhere = interface.container_ip is None and interface.container_ip6 is None
    if nowhere or (published.host and getattr(interface, word) is None):
        told = f"{host_side(published)} leads nowhere: the container has no {'' if nowhere else f'{kind} '}address"
        yield path, told, f'network.{word} = "auto"'


def collide(one: Published, other: Published) -> bool:
    """Whether two have a port of the host in common."""
    apart = one.first + one.count <= other.first or other.first + other.count <= one.first
    anywhere = ("", "0.0.0.0", "::")
    hosts = one.host == other.host or one.host in anywhere or other.host in anywhere
    families = (one.host and other.host) and (":" in one.host) != (":" in other.host)
    return one.protocol == other.protocol and not apart and hosts and not families


def _shared_port(one: Published, other: Published) -> int:
    return max(one.first, other.first)


def _policy_stands(container: Container, network: Network) -> Iterator[Found]:
    policy, held = network.policy, container.security.capabilities
    if policy is None or policy.default == "any":
        return
    if policy.default == "none" and policy.allowed:
        yield "network.policy", 'the policy "none" allows nothing, and there is a list', '"list" goes with it'
    for one in policy.allowed:
        if one.dns == bool(one.network):
            yield "network.policy", 'an item of a policy has a network, or is "dns"', ""
    if not policy.insist and (names := _lifting(held)):
        told = ", ".join(f"{name} {LIFTS[name]}" for name in names)
        yield "network.policy", told, f"drop {' and '.join(names)}, or say policy_can_be_lifted = True"


# The capabilities that a policy cannot stand beside: over the network namespace, which is the container's own.
LIFTS = {
    "cap_net_admin": "can lift the policy from inside",
    "cap_net_raw": "leads past it: it makes frames that no rule sees",
}


def _lifting(held: Capabilities) -> list[str]:
    """Which of those a container has."""
    return [name for name in LIFTS if (held.everything or name in held.named) and name not in held.dropped]


def stands(policy: Policy | None) -> bool:
    """Whether a policy forbids anything, and nobody may lift it."""
    return policy is not None and policy.default != "any" and not policy.insist


def broken_rules_of_all(barn: Barn) -> Iterator[tuple[int, str, str, str]]:
    """What the networks of a barn's containers cannot have in common; the number of the container comes first."""
    own: dict[tuple[str, ...], str] = {}
    ports: list[tuple[str, Published]] = []
    standing = {one.name for one in barn.containers if one.network is not None and stands(one.network.policy)}
    sharing = {
        one.name: one.network.share_with
        for one in barn.containers
        if one.network is not None and one.network.share_with is not None
    }
    for number, container in enumerate(barn.containers):
        network = container.network
        if network is None:
            continue
        if network.share_with in sharing:
            told = f"{network.share_with} shares the network of {sharing[network.share_with]}"
            yield number, "network.share_with", told, f'share_with("{sharing[network.share_with]}")'
        names = _lifting(container.security.capabilities) if network.share_with in standing else []
        if names:
            told = f"{network.share_with} has a policy, and {', '.join(f'{name} {LIFTS[name]}' for name in names)}"
            hint = f"drop {' and '.join(names)}, or say policy_can_be_lifted = True in {network.share_with}"
            yield number, "network.share_with", told, hint
        if "net" in barn.shared.namespaces:
            told = "the barn shares a net namespace, and a network of its own needs another one"
            yield number, "network", told, "remove one of the two"
        for kind, value, path in _alone(network):
            other = own.setdefault((*kind, value), container.name)
            if other != container.name:
                told = f"containers {other!r} and {container.name!r} have one {kind[0]}, {value}"
                yield number, path, told, "give each its own"
        for index, one in enumerate(network.published):
            found = next((name for name, earlier in ports if name != container.name and collide(one, earlier)), None)
            if found is not None:
                told = f"containers {found!r} and {container.name!r} publish the port {host_side(one)}/{one.protocol}"
                yield number, f"network.published[{index}]", told, "give each its own"
        ports += [(container.name, one) for one in network.published]


def _alone(network: Network) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """What a container has to itself: what it is, its value, and the path of the setting."""
    if network.namespace is not None:
        yield ("network.namespace",), network.namespace, "network.namespace"
    for number, one in on_bridges(network):
        path = f"network.interfaces[{number}]"
        if one.host:
            yield ("veth_host",), one.host, f"{path}.host"
        for word in ("container_ip", "container_ip6", "mac"):
            value = getattr(one, word)
            if value not in (None, AUTO):
                yield (word, one.bridge_name), value, f"{path}.{word}"
