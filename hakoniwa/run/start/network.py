"""The host's side of a network: addresses that are claimed, bridges that are there, and the interfaces of a first process that waits.

What a killed supervisor has left of it is found by its leases (network/leases.py, known/leftovers.py).
"""

from __future__ import annotations

import os
from errno import EACCES, EAFNOSUPPORT, EOPNOTSUPP, EPERM

from hakoniwa.errors import HakoError
from hakoniwa.kernel.netlink import messages
from hakoniwa.kernel.netlink.routes import Links, address_bytes
from hakoniwa.known import state
from hakoniwa.known.glance import names as listed
from hakoniwa.known.statefile import ALIVE
from hakoniwa.network import firewall, publishing
from hakoniwa.network.clearing import leave_bridge
from hakoniwa.network.facts import InterfaceFacts, NetworkFacts
from hakoniwa.network.links import bridge as bridges
from hakoniwa.network.links import interfaces, leases, netns
from hakoniwa.network.links.naming import mac_of
from hakoniwa.places import networks_dir
from hakoniwa.run.life import CLAIM, NETWORK, HostStep
from hakoniwa.run.start.networknames import name_steps
from hakoniwa.spec.networks import AUTO, guest_name, on_bridges
from hakoniwa.spec.subnets import does_not_fit
from hakoniwa.trust import read_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.network.links.bridge import Bridge
    from hakoniwa.run.life import Life
    from hakoniwa.spec.networks import Interface, Network
    from hakoniwa.spec.records import Container


def network_steps(container: Container) -> list[HostStep]:
    """What is done on the host for a container's network, in order."""
    network = container.network
    assert network is not None
    for one in network.published:
        if one.wake:
            told = "a port cannot wake its container yet: there is nobody who waits for connections to one that does not run"
            raise HakoError(told, where=one.where, hint="remove wake= and idle=, and start it")
    if os.geteuid() != 0:
        from hakoniwa.run.start.joining.usernetwork import user_steps

        return user_steps(container)
    if network.share_with is not None:
        from hakoniwa.run.start.joining.sharing import ShareNetwork

        return [ShareNetwork(container, network), *name_steps(container)]
    steps: list[HostStep] = []
    if network.namespace is not None:
        steps.append(ClaimNamespace(container.name, network))
    if network.published:
        from hakoniwa.run.start.ports import ClaimPorts

        steps.append(ClaimPorts(network))
    steps += [ClaimAddress(container.name, network, number, one) for number, one in on_bridges(network)]
    if on_bridges(network):
        steps.append(JoinBridges(container.name, network))
    if any(one.kind == "macvlan" for one in network.interfaces):
        from hakoniwa.run.start.joining.macvlans import macvlan_steps

        steps += macvlan_steps(network)
    if any(one.kind == "cni" for one in network.interfaces):
        from hakoniwa.run.start.joining.cni import cni_steps

        steps += cni_steps(container.name, network)
    if network.published and on_bridges(network):
        from hakoniwa.run.start.ports import PublishPorts

        steps.append(PublishPorts(container.name, network))
    if network.namespace is not None:
        steps.append(NameNamespace(network))
    return [*steps, *name_steps(container)]


def _explained(error: OSError | HakoError, what: str, where: str) -> HakoError:
    """An error of a step, with the line that it is about."""
    if isinstance(error, HakoError):
        error.where = error.where or where
        return error
    path = f"{error.filename}: " if isinstance(error.filename, str) else ""
    hints = {
        EPERM: "it takes root's capability net_admin",
        EACCES: "is IPv6 switched off: net.ipv6.conf.all.disable_ipv6?",
        EAFNOSUPPORT: "the kernel has no IPv6: leave container_ip6 out",
        EOPNOTSUPP: "the kernel lacks what this takes: bridges, veth, or IPv6",
    }
    hint = hints.get(error.errno or 0, "")
    return HakoError(f"cannot {what}: {path}{error.strerror}", where=where, hint=hint)


class ClaimNamespace(HostStep):
    """Have the name of a network namespace. What is there under it is nobody else's, or refused."""

    stage = CLAIM

    def __init__(self, container: str, network: Network) -> None:
        assert network.namespace is not None
        self._container = container
        self._network = network
        self._name = network.namespace

    def __str__(self) -> str:
        return f"have the name {self._name} for its network namespace"

    def do(self, life: Life) -> None:
        where, path = self._network.where, netns.path_of(self._name)
        try:
            state.note(self._container, networks_dir())
            with leases.Lock():
                ours = leases.owner_of(leases.NAMESPACES, self._name)
                kept = "" if self._network.cleanup else path
                self.lock, _ = leases.take(leases.NAMESPACES, self._name, self._container, kept)
                if ours and netns.release(path):  # of an earlier run, which was killed, or has left it to stay
                    links = Links(messages.open_socket())
                    interfaces.remove_of(links, ours)
                    links.close()
                netns.must_be_free(path, where)
        except leases.Taken as taken:
            told = f"the network namespace {self._name!r} is that of the container {str(taken)!r}"
            raise HakoError(told, where=where, hint="take another network.namespace") from None
        except (OSError, HakoError) as error:
            raise _explained(error, str(self), where) from None

    def undo(self) -> None:
        if self.lock == -1:
            return
        with leases.Lock():
            if self._network.cleanup or not netns.is_there(netns.path_of(self._name)):
                leases.release(leases.NAMESPACES, self._name)
            os.close(self.lock)
        state.strike_notes(self._container)

    def undoing(self) -> str:
        return f"let go of the name {self._name}"


class ClaimAddress(HostStep):
    """Have an interface's addresses on its bridge, which is made if it is missing."""

    stage = CLAIM

    def __init__(self, container: str, network: Network, number: int, interface: Interface) -> None:
        self._container = container
        self._network = network
        self._number = number
        self._interface = interface
        self._where = interface.where or network.where
        self._held: list[tuple[str, int]] = []  # addresses, and what holds them

    def __str__(self) -> str:
        one = self._interface
        asked = [word for word in (one.container_ip, one.container_ip6) if word is not None]
        words = ["an IPv4 address" if word == AUTO else word for word in asked[:1]]
        words += ["an IPv6 address" if word == AUTO else word for word in asked[1:]]
        return f"have {' and '.join(words) or 'a place'} on the bridge {one.bridge_name}, made if it is missing"

    def do(self, life: Life) -> None:
        try:
            state.note(self._container, networks_dir())
            with leases.Lock():
                links = Links(messages.open_socket())
                try:
                    self._claim(life, bridges.ensure(links, self._interface))
                finally:
                    links.close()
        except (OSError, HakoError) as error:
            raise _explained(error, str(self), self._where) from None

    def _claim(self, life: Life, bridge: Bridge) -> None:
        one, before = self._interface, _address_before(self._container, self._number)
        address = self._have(life, bridge, bridge.ip, one.container_ip, before[0])
        address6 = self._have(life, bridge, bridge.ip6, one.container_ip6, before[1])
        if not self._held:
            self._take(life, f"-{self._container}.{self._number}")
        if one.netmask is not None and address:
            address = f"{address.partition('/')[0]}/{one.netmask}"
        self._prepare_firewall(bridge)
        facts = life.base.network or NetworkFacts()
        first = not any(other.gateway or other.gateway6 for other in facts.interfaces)
        first = first and not any(other.gateway for other in self._network.interfaces)  # of a macvlan, as the file says
        bare = address.partition("/")[0] or address6.partition("/")[0]
        found = InterfaceFacts(
            name=guest_name(self._number, one),
            bridge=bridge.name,
            address=address,
            address6=address6,
            gateway=bridge.ip.partition("/")[0] if first and address else "",
            gateway6=bridge.ip6.partition("/")[0] if first and address6 else "",
            mac=one.mac or (mac_of(address_bytes(bare)[1]) if bare else ""),
            mtu=one.mtu or bridge.mtu,
            nat=one.nat,
        )
        life.have_network(facts.replace(interfaces=(*facts.interfaces, found)))

    def _have(self, life: Life, bridge: Bridge, network: str, wanted: str | None, before: str) -> str:
        """An address of the bridge, with its mask; "" if none is wanted."""
        if wanted is None:
            return ""
        length = network.partition("/")[2]
        if wanted == AUTO:
            address, lock, owner = leases.choose(bridge.name, network, self._container, before, self._kept())
            self._hold(life, address, lock, owner)
            return f"{address}/{length}"
        wrong, hint = does_not_fit(wanted, network)
        if wrong:
            raise HakoError(f"{wrong} ({bridge.name} has {network})", hint=hint)
        self._take(life, wanted)
        return f"{wanted}/{length}"

    def _take(self, life: Life, address: str) -> None:
        bridge = self._interface.bridge_name
        try:
            self._hold(life, address, *leases.take(bridge, address, self._container, self._kept()))
        except leases.Taken as taken:
            told = f"the address {address} on {bridge} is that of the container {str(taken)!r}"
            raise HakoError(told, hint=f"hako kill -n {taken}, or take another one") from None

    def _hold(self, life: Life, address: str, lock: int, before: str) -> None:
        """Have an address; what led to the one who had it before, and was killed, does not lead here."""
        self._held.append((address, lock))
        life.undo.descriptors.append(lock)
        if before and before != self._container and not address.startswith("-"):
            publishing.remove_leading_to([address], self._container)

    def _prepare_firewall(self, bridge: Bridge) -> None:
        """Have the bridge's network reach others, and be reached by published ports."""
        hosts = {one.host for one in self._network.published}
        networks = bridges.subnet(bridge.ip), bridges.subnet(bridge.ip6)
        if firewall.prepare(bridge.name, *networks, nat=self._interface.nat, hosts=hosts, where=self._where):
            from hakoniwa.run.start.ports import publish_again

            publish_again(self._container)  # somebody has flushed the tables of the host

    def _kept(self) -> str:
        name = self._network.namespace
        return "" if self._network.cleanup or name is None else netns.path_of(name)

    def undo(self) -> None:
        bridge, kept = self._interface.bridge_name, self._kept()
        with leases.Lock():
            stays = bool(kept) and netns.is_there(kept)
            for address, lock in self._held:
                if not stays:
                    leases.release(bridge, address)
                os.close(lock)
            leave_bridge(bridge)
        state.strike_notes(self._container)

    def undoing(self) -> str:
        return f"leave the bridge {self._interface.bridge_name}"


def _address_before(container: str, number: int) -> tuple[str, str]:
    """The addresses that an interface had when the container ran last, "" for none.

    By the bytes of its state, as known/glance.py does it: what it says of its network comes after what users have said.
    """
    try:
        content = read_own(state.state_file(container))
    except OSError:
        return "", ""  # it has not run yet
    _, _, network = content.rpartition(b'"network": {"interfaces": [') if content.endswith(b"}") else (b"", b"", b"")
    *_, one = network.partition(b"]")[0].split(b'{"name": ')[: number + 2]
    return _word(one, b'"address": "'), _word(one, b'"address6": "')


def _word(content: bytes, begin: bytes) -> str:
    """What stands between a beginning and the next `/` or quotation mark."""
    found = content.partition(begin)[2].partition(b'"')[0]
    return found.partition(b"/")[0].decode(errors="replace")


class JoinBridges(HostStep):
    """Make the interfaces of the first process, which waits."""

    stage = NETWORK

    def __init__(self, container: str, network: Network) -> None:
        self._container = container
        self._network = network

    def __str__(self) -> str:
        found = on_bridges(self._network)
        names = [guest_name(number, one) for number, one in found]
        return f"make {' '.join(names)} inside, with a way to {' '.join(one.bridge_name for _, one in found)}"

    def do(self, life: Life) -> None:
        facts = life.base.network
        assert facts is not None
        where = self._network.where
        try:
            namespace = interfaces.open_namespace(life.base.pid)
            outside, inside = Links(messages.open_socket()), interfaces.enter(namespace)
            found = []
            for (number, one), known in zip(on_bridges(self._network), facts.interfaces, strict=True):
                where = one.where or where
                found.append(
                    interfaces.connect(
                        outside, inside, namespace, one, known, container=self._container, number=number, lives=_lives
                    )
                )
        except (OSError, HakoError) as error:
            raise _explained(error, str(self), where) from None
        outside.close()
        inside.close()
        os.close(namespace)
        life.have_network(facts.replace(interfaces=tuple(found)))

    def undo(self) -> None:
        """They go with their namespace."""


def _lives(container: str) -> bool:
    known = state.read(container) if container in listed() else None
    return known is not None and known.status in ALIVE


class NameNamespace(HostStep):
    """Give the network namespace its name."""

    stage = NETWORK

    def __init__(self, network: Network) -> None:
        assert network.namespace is not None
        self._network = network
        self._path = netns.path_of(network.namespace)
        self._is_ours = False
        self._life: Life | None = None

    def __str__(self) -> str:
        return f"keep its network namespace in {self._path}"

    def do(self, life: Life) -> None:
        namespace = interfaces.open_namespace(life.base.pid)
        try:
            netns.keep(self._path, namespace, self._network.where)
        finally:
            os.close(namespace)
        self._is_ours, self._life = True, life
        facts = life.base.network or NetworkFacts()
        life.have_network(facts.replace(namespace=self._path, kept=not self._network.cleanup))

    def undo(self) -> None:
        """It stays if it is to, unless the container has come to nothing."""
        if self._is_ours and (self._network.cleanup or (self._life is not None and self._life.error is not None)):
            netns.release(self._path)

    def undoing(self) -> str:
        return f"let go of the network namespace {self._path}"
