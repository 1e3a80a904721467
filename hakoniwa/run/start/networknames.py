"""How a container and its neighbours find each other, and what it may reach: /etc/hosts, /etc/resolv.conf, policy, rates."""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.network import hostsfile, resolver
from hakoniwa.network.facts import NetworkFacts
from hakoniwa.plan.networkfiles import HOSTS, RESOLV, own_file
from hakoniwa.run.life import CLONE, NETWORK, HostStep
from hakoniwa.spec.networks import allowed_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.network.resolver import Resolver
    from hakoniwa.run.life import Life
    from hakoniwa.spec.networks import Network, Policy
    from hakoniwa.spec.records import Container


def name_steps(container: Container) -> list[HostStep]:
    """What is done on the host for that, after the container has its interfaces, or what comes before them."""
    network = _network_of(container)
    steps: list[HostStep] = [MakeNetworkFiles(container)]
    if network.interfaces or network.share_with is not None:
        steps.append(MeetNeighbours(container))
    if network.policy is not None and network.policy.default != "any" and network.interfaces:
        steps.append(EnforcePolicy(container, network.policy))
    if any(one.rate is not None for one in network.interfaces):
        steps.append(LimitRates(network))
    return steps


def _network_of(container: Container) -> Network:
    network = container.network
    assert network is not None
    return network


def resolver_of(container: Container) -> Resolver:
    """The resolvers of a container: its file's, or those of the resolv.conf that it mounts, or else the host's."""
    network = _network_of(container)
    if not network.interfaces and network.share_with is None:
        return resolver.Resolver()  # there is no way to any
    given = network.dns_servers, network.dns_search, network.dns_options
    mounted = [mount.source for mount in container.files.mounts if mount.target == f"/etc/{RESOLV}"]
    return resolver.resolver_of(*given, mounted[0], ()) if mounted else resolver.resolver_of(*given)


class MakeNetworkFiles(HostStep):
    """Make the files that are mounted on /etc/hosts and /etc/resolv.conf, before the first process is cloned."""

    stage = CLONE

    def __init__(self, container: Container) -> None:
        self._container = container
        self._paths = [path for name in (HOSTS, RESOLV) if (path := own_file(container, name))]
        self._open: list[int] = []

    def __str__(self) -> str:
        return f"make {' and '.join(self._paths) or 'no files of the network'}"

    def do(self, life: Life) -> None:
        container = self._container
        found = resolver_of(container)
        if found.lacks:
            hint = 'network.dns(servers=["192.0.2.53"]) names one'
            log.write(f"{container.name}: host names are not resolved: {found.lacks} ({hint})", "warning")
        _must_be_enforceable(_network_of(container), found)
        rootfs = container.files.rootfs
        if rootfs.readonly and not rootfs.layered and rootfs.replacement is None and not life.launch.maps.rootless:
            from hakoniwa.host.targets import make_targets

            make_targets(rootfs.path, life.launch.layers, map(os.path.basename, self._paths))
        try:
            for path in self._paths:
                text = found.text() if path.endswith(RESOLV) else _beginning(container, life)
                self._open.append(hostsfile.make(path, text))
                life.undo.descriptors.append(self._open[-1])
        except OSError as error:
            told = f"cannot make {error.filename}: {error.strerror}"
            raise HakoError(told, where=container.name, hint="is the disk full?") from None
        files = {"hosts_file": own_file(container, HOSTS), "resolv_file": own_file(container, RESOLV)}
        life.have_network((life.base.network or NetworkFacts()).replace(**files))

    def undo(self) -> None:
        while self._open:
            os.close(self._open.pop())
        for path in self._paths:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass


def _must_be_enforceable(network: Network, found: Resolver) -> None:
    """Raise HakoError if the policy could not be put in force, while nothing is made yet."""
    if network.policy is not None and network.policy.default != "any" and network.interfaces:
        from hakoniwa.network import nft, policy

        policy.rules(network.policy, found.servers)
        nft.must_be_there(policy.PURPOSE, network.policy.where)


class MeetNeighbours(HostStep):
    """Have the container be found by its neighbours, and find them."""

    stage = NETWORK

    def __init__(self, container: Container) -> None:
        self._container = container

    def __str__(self) -> str:
        return "write the names of its neighbours to its hosts file, and its own to theirs"

    def do(self, life: Life) -> None:
        try:
            hostsfile.join(_as_neighbour(self._container, life))
        except OSError as error:
            told = f"cannot {self}: {error.filename or hostsfile.folder()}: {error.strerror}"
            raise HakoError(told, where=self._container.name) from None

    def undo(self) -> None:
        hostsfile.leave(self._container.name)


def _as_neighbour(container: Container, life: Life) -> hostsfile.Neighbour:
    from hakoniwa.kernel.processes.pidfd import identify

    facts, who = life.base.network or NetworkFacts(), identify(os.getpid())
    bridges: dict[str, list[str]] = {}
    for one in facts.interfaces:
        # What is on no bridge of ours, the barn alone finds.
        place = one.bridge or f"{one.name} of {container.name}"
        bridges.setdefault(place, []).extend(
            address.partition("/")[0] for address in (one.address, one.address6) if address
        )
    return hostsfile.Neighbour(
        name=container.name,
        hostname=container.hostname,
        barn=f"{container.barn} of {container.file}",
        bridges=bridges,
        own=_beginning(container, life),
        file=facts.hosts_file,
        pid=who.pid,
        started=who.started,
        boot=who.boot,
    )


def write_names(container: Container, life: Life) -> None:
    """Write the files anew, of a container that runs. Raises HakoError."""
    facts = life.base.network or NetworkFacts()
    try:
        if facts.resolv_file:
            hostsfile.rewrite(facts.resolv_file, resolver_of(container).text())
        if facts.interfaces and facts.helper is None:
            hostsfile.join(_as_neighbour(container, life))
        elif facts.hosts_file:
            hostsfile.rewrite(facts.hosts_file, _beginning(container, life))
    except OSError as error:
        told = f"cannot write {error.filename or hostsfile.folder()}: {error.strerror}"
        raise HakoError(told, where=container.name) from None


def _beginning(container: Container, life: Life) -> str:
    """What its hosts file has without any neighbours."""
    facts = life.base.network or NetworkFacts()
    gateways = [address for one in facts.interfaces for address in (one.gateway, one.gateway6) if address]
    names = [container.hostname, container.name]
    return hostsfile.beginning(facts.addresses, names, _network_of(container).hosts, gateways)


class EnforcePolicy(HostStep):
    """Put the rules in force that say what the container may reach."""

    stage = NETWORK

    def __init__(self, container: Container, policy: Policy) -> None:
        self._container = container
        self._policy = policy

    def __str__(self) -> str:
        return f"let through, inside, {says(self._policy)}"

    def do(self, life: Life) -> None:
        from hakoniwa.network import policy

        namespace = os.open(f"/proc/{life.base.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            policy.enforce(namespace, self._policy, resolver_of(self._container).servers)
        finally:
            os.close(namespace)

    def undo(self) -> None:
        """They go with their namespace."""


def says(policy: Policy) -> str:
    """A policy in words."""
    if policy.default != "list":
        return f"{policy.default}thing" if policy.default == "any" else "nothing"
    return " ".join(map(allowed_text, policy.allowed)) or "nothing"


class LimitRates(HostStep):
    """Have interfaces send no faster than the file lets them, in both directions."""

    stage = NETWORK

    def __init__(self, network: Network) -> None:
        self._network = network

    def __str__(self) -> str:
        rates = [f"eth{number}: {one.rate}" for number, one in enumerate(self._network.interfaces) if one.rate]
        return f"limit the rate of {', '.join(rates)} bytes a second"

    def do(self, life: Life) -> None:
        from hakoniwa.kernel.netlink import messages
        from hakoniwa.kernel.netlink.routes import Links
        from hakoniwa.network import rate
        from hakoniwa.network.links import interfaces

        facts = life.base.network or NetworkFacts()
        outside = Links(messages.open_socket())
        namespace = interfaces.open_namespace(life.base.pid)
        inside = messages.open_socket(namespace)
        try:
            for one, known in zip(self._network.interfaces, facts.interfaces, strict=True):
                host = outside.find(known.host) if known.host else None
                if one.rate is not None and host is not None:
                    rate.limit(outside.channel, host.index, one.rate, mtu=known.mtu)
                    rate.limit(inside, known.index, one.rate, mtu=known.mtu)
        except OSError as error:
            hint = "this kernel may lack CONFIG_NET_SCH_TBF" if error.errno == 2 else ""
            raise HakoError(f"cannot {self}: {error.strerror}", where=self._network.where, hint=hint) from None
        finally:
            outside.close()
            inside.close()
            os.close(namespace)

    def undo(self) -> None:
        """They go with their interfaces."""
