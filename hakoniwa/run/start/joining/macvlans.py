"""The host's side of macvlans."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.netlink import messages
from hakoniwa.kernel.netlink.routes import Links
from hakoniwa.network.facts import InterfaceFacts, NetworkFacts
from hakoniwa.network.links import interfaces, macvlan
from hakoniwa.run.life import CLAIM, NETWORK, HostStep
from hakoniwa.spec.networks import guest_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.run.life import Life
    from hakoniwa.spec.networks import Interface, Network


def macvlan_steps(network: Network) -> list[HostStep]:
    """The steps for macvlans."""
    found = [(number, one) for number, one in enumerate(network.interfaces) if one.kind == "macvlan"]
    return [step for number, one in found for step in (FindParent(network, one), JoinParent(network, number, one))]


def with_interface(network: Network, facts: NetworkFacts, number: int, found: InterfaceFacts) -> NetworkFacts:
    """The facts with one interface more, in the place that it has in the file."""
    names = [guest_name(at, one) for at, one in enumerate(network.interfaces)]
    known = {one.name: one for one in facts.interfaces} | {names[number]: found}
    return facts.replace(interfaces=tuple(known[name] for name in names if name in known))


def explained(error: OSError | HakoError, what: str, where: str) -> HakoError:
    """An error of a step, with the line that it is about."""
    if isinstance(error, HakoError):
        error.where = error.where or where
        return error
    return HakoError(f"cannot {what}: {error.strerror}", where=where)


class FindParent(HostStep):
    """See that a macvlan's parent is there, before anything is made."""

    stage = CLAIM

    def __init__(self, network: Network, interface: Interface) -> None:
        self._interface = interface
        self._where = interface.where or network.where

    def __str__(self) -> str:
        return f"find the interface {self._interface.parent}"

    def do(self, life: Life) -> None:
        links = Links(messages.open_socket())
        try:
            macvlan.parent_of(links, self._interface)
        except (OSError, HakoError) as error:
            raise explained(error, str(self), self._where) from None
        finally:
            links.close()

    def undo(self) -> None:
        """It was a look."""


class JoinParent(HostStep):
    """Make a macvlan inside."""

    stage = NETWORK

    def __init__(self, network: Network, number: int, interface: Interface) -> None:
        self._network = network
        self._number = number
        self._interface = interface
        self._where = interface.where or network.where

    def __str__(self) -> str:
        name, one = guest_name(self._number, self._interface), self._interface
        return f"make {name} inside, a macvlan of {one.parent} ({one.mode})"

    def do(self, life: Life) -> None:
        facts = life.base.network or NetworkFacts()
        try:
            namespace = interfaces.open_namespace(life.base.pid)
            outside, inside = Links(messages.open_socket()), Links(messages.open_socket(namespace))
            name = guest_name(self._number, self._interface)
            found = macvlan.add(outside, inside, namespace, self._interface, name)
        except (OSError, HakoError) as error:
            raise explained(error, str(self), self._where) from None
        outside.close()
        inside.close()
        os.close(namespace)
        life.have_network(with_interface(self._network, facts, self._number, found))

    def undo(self) -> None:
        """It goes with its namespace."""
