"""The host's side of published ports: reserved before anything is made, and led inside once there is somebody."""

from __future__ import annotations

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.kernel.netlink import messages
from hakoniwa.kernel.netlink.routes import Links
from hakoniwa.network import firewall, publishing
from hakoniwa.network.links import bridge as bridges
from hakoniwa.network.reservation import Reservation
from hakoniwa.run.life import CLAIM, NETWORK, HostStep
from hakoniwa.spec.networks import host_side, publish_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hakoniwa.network.facts import NetworkFacts
    from hakoniwa.run.life import Life
    from hakoniwa.spec.networks import Network, Published


class ClaimPorts(HostStep):
    """Have the ports of the host to itself."""

    stage = CLAIM

    def __init__(self, network: Network) -> None:
        self._published = network.published
        self._reservation = Reservation()

    def __str__(self) -> str:
        ports = " ".join(f"{host_side(one)}/{one.protocol}" for one in self._published)
        return f"reserve the ports {ports} of the host"

    def do(self, life: Life) -> None:
        self._reservation.take(self._published)
        life.reservation = self._reservation
        life.undo.descriptors += self._reservation.descriptors()

    def undo(self) -> None:
        self._reservation.close()

    def undoing(self) -> str:
        return "let go of the published ports"


class PublishPorts(HostStep):
    """Have them lead inside."""

    stage = NETWORK

    def __init__(self, container: str, network: Network) -> None:
        self._container = container
        self._network = network
        self._life: Life | None = None

    def __str__(self) -> str:
        return f"publish {' '.join(map(publish_text, self._network.published))}"

    def do(self, life: Life) -> None:
        facts = life.base.network
        assert facts is not None
        self._life = life
        published = self._network.published
        publishing.publish(self._container, *addresses_of(facts), published, published[0].where)
        life.have_network(facts.replace(published=published))

    def undo(self) -> None:
        """What is published by then, which a reload may have changed."""
        if self._life is not None:
            withdraw(self._life)

    def undoing(self) -> str:
        return "withdraw the published ports"


def withdraw(life: Life) -> None:
    """Have nothing lead inside any more."""
    facts = life.base.network
    if facts is not None and facts.published:
        publishing.withdraw(life.container.name, *addresses_of(facts), facts.published)


def addresses_of(facts: NetworkFacts) -> tuple[str, str]:
    """Where published ports lead: the first IPv4 and IPv6 address on a bridge."""
    first = next((one for one in facts.interfaces if one.bridge), None)
    if first is None:
        return "", ""
    return first.address.partition("/")[0], first.address6.partition("/")[0]


def publish_again(starting: str) -> None:
    """Publish once more what the containers that run have published: the table was gone, and with it that. One starts itself."""
    from hakoniwa.known import listing
    from hakoniwa.known.statefile import ALIVE, State

    for known in listing.every(recorded=False, tell=False):
        if not isinstance(known, State) or known.status not in ALIVE or known.name == starting or not known.network:
            continue
        try:
            _publish_again(known.name, known.network)
            log.write(f"{known.name}: the firewall had lost what it publishes, and has it again", "warning")
        except HakoError as error:
            log.write(f"{known.name}: {error}", "warning")


def _publish_again(name: str, facts: NetworkFacts) -> None:
    prepare_again(facts, facts.published)
    if facts.published and any(addresses_of(facts)):  # else they are led inside by others, such as plugins of CNI's
        settle(name, facts, facts.published)


def prepare_again(facts: NetworkFacts, published: Sequence[Published]) -> bool:
    """Have the bridges of a container that runs lead to others, and be reached by these ports. Raises HakoError.

    True if the firewall had lost its table.
    """
    hosts = {one.host for one in published}
    lost = False
    links = Links(messages.open_socket())
    for one in facts.interfaces:
        four, six = bridges.subnets_of(links, one.bridge) if one.bridge else ([], [])
        for number in range(max(len(four), len(six))):
            networks = ("".join(found[number : number + 1]) for found in (four, six))
            lost |= firewall.prepare(one.bridge, *networks, nat=one.nat, hosts=hosts)
    links.close()
    return lost


def settle(name: str, facts: NetworkFacts, published: Sequence[Published]) -> None:
    """Have these ports and no others lead to a container that runs. Raises HakoError."""
    publishing.settle(name, *addresses_of(facts), published)
