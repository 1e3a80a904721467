"""What is known of a container's network while it runs; its state has it."""

from __future__ import annotations

from hakoniwa.record import Record, plain
from hakoniwa.spec.networks import (
    Policy,
    Published,
    allowed_text,
    publish_text,
)  # `recordreader.read` finds Published here

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class InterfaceFacts(Record):
    """One interface: its name inside, and what others know it by."""

    name: str
    host: str = ""  # the host's end
    bridge: str = ""
    address: str = ""  # with its mask
    address6: str = ""
    gateway: str = ""  # of the default route through it
    gateway6: str = ""
    mac: str = ""
    mtu: int = 0
    nat: bool = True
    index: int = 0  # inside


class HelperFacts(Record):
    """A process of ours that serves the network for as long as the container runs."""

    pid: int
    started: int


class NetworkFacts(Record):
    """The network of one run."""

    interfaces: tuple[InterfaceFacts, ...] = ()
    published: tuple[Published, ...] = ()
    namespace: str = ""  # its path, where it has a name
    kept: bool = False  # the namespace stays when the container has ended
    hosts_file: str = ""
    resolv_file: str = ""
    leases: tuple[str, ...] = ()  # files that hold its addresses
    helper: HelperFacts | None = None

    @property
    def addresses(self) -> list[str]:
        """The addresses, without masks."""
        words = [word for one in self.interfaces for word in (one.address, one.address6)]
        return [word.partition("/")[0] for word in words if word]


def shown(facts: NetworkFacts, policy: Policy | None) -> dict[str, Any]:
    """What lists show of a network: interfaces, ports, and what the container may reach."""
    policy = policy or Policy()
    allowed = " ".join(map(allowed_text, policy.allowed)) or "none"
    return {
        "interfaces": [
            {name: value for name, value in plain(one).items() if value not in ("", 0)} for one in facts.interfaces
        ],
        "published": [publish_text(one) for one in facts.published],
        "namespace": facts.namespace or None,
        "policy": allowed if policy.default == "list" else policy.default,
    }
