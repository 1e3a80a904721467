"""The host's side of interfaces that CNI plugins make."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.netlink import messages
from hakoniwa.kernel.netlink.routes import Links
from hakoniwa.known import state
from hakoniwa.network.cni import attachment, configuration, plugins
from hakoniwa.network.facts import NetworkFacts
from hakoniwa.network.links import interfaces
from hakoniwa.places import networks_dir
from hakoniwa.run.life import CLAIM, NETWORK, HostStep
from hakoniwa.run.start.joining.macvlans import explained, with_interface
from hakoniwa.spec.networks import guest_name, on_bridges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.run.life import Life
    from hakoniwa.spec.networks import Interface, Network


def cni_steps(container: str, network: Network) -> list[HostStep]:
    """The steps for interfaces of CNI's."""
    found = [(number, one) for number, one in enumerate(network.interfaces) if one.kind == "cni"]
    joined = [JoinNetwork(container, network, number, one) for number, one in found]
    return [FindNetworks(container, network, joined), *joined] if joined else []


class FindNetworks(HostStep):
    """Find the networks and their plugins, before anything is made; and keep the namespace while plugins need it."""

    stage = CLAIM

    def __init__(self, container: str, network: Network, joined: list[JoinNetwork]) -> None:
        self._container = container
        self._network = network
        self._joined = joined

    def __str__(self) -> str:
        return f"find the networks {' '.join(one.interface.cni for one in self._joined)} and their plugins"

    def do(self, life: Life) -> None:
        try:
            state.note(self._container, networks_dir())
            for number, one in enumerate(self._joined):
                one.find(first=number == 0)
        except OSError as error:
            raise explained(error, str(self), self._network.where) from None

    def undo(self) -> None:
        attachment.let_namespace_go(self._container)
        state.strike_notes(self._container)


class JoinNetwork(HostStep):
    """Have the plugins of a network make an interface inside."""

    stage = NETWORK

    def __init__(self, container: str, network: Network, number: int, interface: Interface) -> None:
        self._container = container
        self._network = network
        self._number = number
        self.interface = interface
        self._where = interface.where or network.where
        self._attachment: attachment.Attachment | None = None

    def __str__(self) -> str:
        name = guest_name(self._number, self.interface)
        return f"have the plugins of the CNI network {self.interface.cni} make {name} inside"

    def find(self, *, first: bool) -> None:
        """Find the network and its plugins. Ports are published through the `first`, if there is no bridge. Raises HakoError."""
        one, name = self.interface, guest_name(self._number, self.interface)
        published = self._network.published if first and not on_bridges(self._network) else ()
        try:
            found = configuration.find(one.cni)
            for plugin in found.plugins:
                plugins.find(plugin["type"])
            asked = attachment.ask(self._container, name, one, published, found)
        except (OSError, HakoError) as error:
            raise explained(error, str(self), self._where) from None
        self._published = published
        self._attachment = attachment.Attachment(found, asked)

    def do(self, life: Life) -> None:
        assert self._attachment is not None
        facts = life.base.network or NetworkFacts()
        try:
            namespace = interfaces.open_namespace(life.base.pid)
            if not any(one.kind == "cni" for one in self._network.interfaces[: self._number]):
                attachment.keep_namespace(self._container, namespace)
            found = self._attachment.add()
            inside = Links(messages.open_socket(namespace))
            link = inside.find(found.name)
        except (OSError, HakoError) as error:
            raise explained(error, str(self), self._where) from None
        inside.close()
        os.close(namespace)
        if link is None:
            raise HakoError(f"the plugins of {self.interface.cni} have made no {found.name}", where=self._where)
        found = found.replace(mac=link.mac, mtu=link.mtu, index=link.index)
        facts = with_interface(self._network, facts, self._number, found)
        life.have_network(facts.replace(published=self._published) if self._published else facts)

    def undo(self) -> None:
        if self._attachment is not None:
            self._attachment.delete()

    def undoing(self) -> str:
        return f"leave the CNI network {self.interface.cni}"
