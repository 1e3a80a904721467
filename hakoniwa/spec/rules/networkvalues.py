"""What the values of networks must be: the checks of container files, for documents (values.py)."""

from __future__ import annotations

from hakoniwa.spec import networks
from hakoniwa.spec.rules import addresses, checks
from hakoniwa.spec.rules.checks import Wrong
from hakoniwa.spec.rules.values import _every, _items, _maybe, _number, _or_empty, _words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hakoniwa.record import Record


def _host(value: object) -> str:
    word = addresses.any_address(value)
    if word == "::1":
        raise Wrong("an address that ports can be led from, which ::1 is not", "127.0.0.1")
    return word


def _addresses(value: Any) -> tuple[str, ...]:
    return _every(addresses.any_address, value)


def _argument(key: object, value: object) -> str:
    checks.text(key)
    return checks.text(value)


_PORT = _number(1, 65535)
_LINK = _or_empty(addresses.link_name)

VALUES: dict[type[Record], dict[str, Callable[[Any], Any]]] = {
    networks.Published: {
        "host": _or_empty(_host),
        "first": _PORT,
        "count": _PORT,
        "inside": _PORT,
        "protocol": _words(*networks.PROTOCOLS),
        "idle": checks.duration,
    },
    networks.Interface: {
        "kind": _words(*networks.KINDS),
        "bridge_name": addresses.link_name,
        "bridge_ip": _maybe(addresses.bridge_ip),
        "bridge_ip6": _maybe(addresses.bridge_ip6),
        "netmask": _maybe(_number(1, 30)),
        "container_ip": addresses.interface_ip,
        "container_ip6": addresses.interface_ip6,
        "parent": _LINK,
        "mode": _words(*networks.MACVLAN_MODES),
        "gateway": _or_empty(addresses.any_address),
        "guest": _LINK,
        "host": _LINK,
        "mtu": _maybe(addresses.mtu),
        "mac": _maybe(addresses.mac),
        "rate": _maybe(addresses.rate),
        "cni": _or_empty(addresses.network_name),
        "cni_arguments": _items(_argument),
    },
    networks.Allowed: {
        "network": _or_empty(addresses.network),
        "port": _number(0, 65535),
        "protocol": _or_empty(_words(*networks.PROTOCOLS)),
    },
    networks.Policy: {"default": _words(*networks.POLICIES)},
    networks.Network: {
        "namespace": _maybe(addresses.namespace_name),
        "hosts": _items(addresses.hosts_item),
        "dns_servers": _addresses,
        "dns_search": addresses.search,
        "dns_options": addresses.resolver_options,
        "share_with": _maybe(checks.name),
    },
}
