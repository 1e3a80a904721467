"""What is left of networks: bridges that nobody is on, and what killed supervisors have had."""

from __future__ import annotations

import os

from hakoniwa.kernel.filesystem.files import entries_of
from hakoniwa.kernel.netlink import messages
from hakoniwa.kernel.netlink.routes import Links
from hakoniwa.network import firewall, hostsfile, publishing
from hakoniwa.network.links import bridge as bridges
from hakoniwa.network.links import interfaces, leases, netns
from hakoniwa.places import networks_dir


def leave_bridge(bridge: str) -> bool:
    """Let go of a bridge if no container is on it any more; whether it was made for them, and removed. The lock is held.

    Raises OSError, and HakoError.
    """
    if leases.in_use(bridge):
        return False
    firewall.forget(bridge)
    links = Links(messages.open_socket())
    try:
        return bridges.remove(links, bridge)
    finally:
        links.close()


def clear(name: str = "") -> list[str]:
    """Remove what dead owners have left: all of them, or one container. Returns what was removed, in words. Raises OSError."""
    cleared = []
    hostsfile.leave(name)
    with leases.Lock():
        left = set()
        for bridge, address in leases.of_dead(name):
            if bridge == leases.NAMESPACES:
                if netns.release(netns.path_of(address)):
                    cleared.append(f"network namespace {address}")
            else:
                left.add(bridge)
                cleared.append(f"address {address} on {bridge}")
            leases.release(bridge, address)
        links = Links(messages.open_socket())
        if not name:
            left |= {link.name for link in links.every() if link.kind == "bridge" and link.alias == bridges.OURS}
        links.close()
        cleared += [f"bridge {bridge}" for bridge in sorted(left) if leave_bridge(bridge)]
        living = leases.living()
    if entries_of(os.path.join(networks_dir(), "cni")):
        from hakoniwa.network.cni import attachment

        cleared += attachment.clear(name)
    cleared += publishing.remove(lambda owner: owner == name if name else owner not in living)
    return cleared


def let_go(name: str, namespace: str) -> None:
    """Remove a network namespace that a container has left to stay, with its interfaces and addresses. Raises OSError."""
    with leases.Lock():
        netns.release(namespace)
        links = Links(messages.open_socket())
        interfaces.remove_of(links, name)
        links.close()
    clear(name)
