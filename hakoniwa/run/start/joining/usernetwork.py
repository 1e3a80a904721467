"""The host's side of the network of an ordinary user's container, which `pasta` is (network/links/pasta.py).

All of it is done while the first process waits for its id maps: from then on, nobody but itself can open its namespaces.
"""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes.pidfd import start_time
from hakoniwa.network import nft
from hakoniwa.network.facts import HelperFacts, InterfaceFacts, NetworkFacts
from hakoniwa.network.links import pasta
from hakoniwa.network.reservation import Reservation
from hakoniwa.places import folder_of
from hakoniwa.run.life import CLAIM, NAMESPACES, HostStep
from hakoniwa.run.start.networknames import MakeNetworkFiles, resolver_of, says
from hakoniwa.spec.networks import guest_name, host_side, publish_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.run.life import Life
    from hakoniwa.spec.networks import Network, Policy
    from hakoniwa.spec.records import Container

# What leaves for a loopback, pasta would connect to on the host. Everybody may send a packet by an interface that its destination is
# not behind (`man 7 socket`, SO_BINDTODEVICE); routes do not keep it back (`ip_route_output_key_hash_rcu` in net/ipv4/route.c).
_CLOSED = """
table inet hakoniwa_loopback {
  chain outgoing {
    type filter hook output priority raw; policy accept;
    oifname != "lo" ip daddr { 0.0.0.0/8, 127.0.0.0/8 } drop
    oifname != "lo" ip6 daddr { ::/127, ::ffff:0.0.0.0/96 } drop
  }
}
"""
_PURPOSE = "keep the loopback of the host apart"  # completes "cannot ..."


def user_steps(container: Container) -> list[HostStep]:
    """What is done on the host, in order."""
    network = container.network
    assert network is not None
    if not network.interfaces:
        return [MakeNetworkFiles(container)]
    serve = ServeNetwork(container, network)
    steps = [ClaimHelper(network, serve), MakeNetworkFiles(container), CloseLoopback(network)]
    if network.policy is not None and network.policy.default != "any":
        steps.append(EnforceUserPolicy(container, network.policy))
    return [*steps, serve]


class ClaimHelper(HostStep):
    """See that pasta is there and can have the ports, and settle the addresses."""

    stage = CLAIM

    def __init__(self, network: Network, serve: ServeNetwork) -> None:
        self._network = network
        self._serve = serve

    def __str__(self) -> str:
        ports = " ".join(f"{host_side(one)}/{one.protocol}" for one in self._network.published)
        return f"have pasta, and the ports {ports} of the host" if ports else "have pasta"

    def do(self, life: Life) -> None:
        network = self._network
        self._serve.program = pasta.find(network.where)
        nft.must_be_there(_PURPOSE, network.where)
        self._serve.must_have_ports()
        (one,) = network.interfaces
        address, address6, _, _ = pasta.addresses(one)
        # The gateway is no host: nothing that listens there is to be reached.
        found = InterfaceFacts(
            name=guest_name(0, one), address=address, address6=address6, mac=one.mac or "", mtu=one.mtu or 0
        )
        life.have_network(NetworkFacts(interfaces=(found,)))

    def undo(self) -> None:
        """Nothing is kept of it."""


def _open_namespaces(pid: int) -> pasta.Namespaces:
    user, net = (os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in ("user", "net"))
    return pasta.Namespaces(user=user, net=net)


def _close(namespaces: pasta.Namespaces) -> None:
    os.close(namespaces.user)
    os.close(namespaces.net)


class CloseLoopback(HostStep):
    """Have nothing leave for the loopback of the host."""

    stage = NAMESPACES

    def __init__(self, network: Network) -> None:
        self._where = network.where

    def __str__(self) -> str:
        return "refuse, inside, what would leave for a loopback"

    def do(self, life: Life) -> None:
        namespaces = _open_namespaces(life.base.pid)
        try:
            pasta.inside(namespaces, lambda: nft.run(_CLOSED, what=_PURPOSE), what=_PURPOSE, where=self._where)
        finally:
            _close(namespaces)

    def undo(self) -> None:
        """It goes with the namespace."""


class EnforceUserPolicy(HostStep):
    """Put the rules in force that say what the container may reach, before it reaches anything."""

    stage = NAMESPACES

    def __init__(self, container: Container, policy: Policy) -> None:
        self._container = container
        self._policy = policy

    def __str__(self) -> str:
        return f"let through, inside, {says(self._policy)}"

    def do(self, life: Life) -> None:
        from hakoniwa.network import policy

        rules = policy.rules(self._policy, resolver_of(self._container).servers)
        namespaces = _open_namespaces(life.base.pid)
        try:
            pasta.inside(
                namespaces, lambda: nft.run(rules, what=policy.PURPOSE), what=policy.PURPOSE, where=self._policy.where
            )
        finally:
            _close(namespaces)

    def undo(self) -> None:
        """They go with the namespace."""


class ServeNetwork(HostStep):
    """Have pasta run for as long as the container."""

    stage = NAMESPACES

    def __init__(self, container: Container, network: Network) -> None:
        self._container = container
        self._network = network
        self.program = ""  # once it is found
        self._helper: pasta.Helper | None = None
        self._life: Life | None = None

    def __str__(self) -> str:
        published = " ".join(map(publish_text, self._network.published))
        return (
            f"have pasta carry {guest_name(0, self._network.interfaces[0])}{published and f', and publish {published}'}"
        )

    def do(self, life: Life) -> None:
        network, facts = self._network, life.base.network
        assert facts is not None
        namespaces = _open_namespaces(life.base.pid)
        try:
            self._helper = pasta.start(self.program, network, namespaces, folder_of(self._container.name))
        except HakoError:
            self.must_have_ports()  # somebody may have taken one meanwhile
            raise
        finally:
            _close(namespaces)
        self._life = life
        life.loop.add(self._helper.pidfd, self._has_ended, "tell that the network has ended")
        who = HelperFacts(pid=self._helper.pid, started=start_time(self._helper.pid))
        life.have_network(facts.replace(published=network.published, helper=who))

    def must_have_ports(self) -> None:
        """Raise HakoError, which names the owner, if a port is taken. Nothing is reserved: pasta binds them itself."""
        reservation = Reservation()
        reservation.take(self._network.published)
        reservation.close()

    def _has_ended(self) -> None:
        self._end()
        log.write(f"{self._container.name}: pasta has ended, and with it the network (start it anew)", "error")

    def _end(self) -> None:
        if self._helper is not None:
            if self._life is not None:
                self._life.loop.drop(self._helper.pidfd)
            helper, self._helper = self._helper, None
            pasta.end(helper)

    def undo(self) -> None:
        self._end()

    def undoing(self) -> str:
        return "end pasta"
