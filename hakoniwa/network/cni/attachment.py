"""A container's part in a network of CNI: joined by ADD of each plugin, left by DEL of each, in the opposite order.

What was asked for is written down before the first ADD, and what came of it after the last: so DEL is given what ADD was,
though the file of the network has changed meanwhile, or the supervisor was killed. Its owner has the note locked.
The network namespace is kept by a mount beside it, for as long as plugins may have to find what they made in there.
"""

from __future__ import annotations

import fcntl
import json
import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem.files import entries_of, read_all
from hakoniwa.network.cni import plugins
from hakoniwa.network.facts import InterfaceFacts
from hakoniwa.network.links import netns
from hakoniwa.places import ensure_private, networks_dir
from hakoniwa.record import Record
from hakoniwa.spec.networks import Interface
from hakoniwa.spec.subnets import bits_of, parse, written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from hakoniwa.network.cni.configuration import Configuration
    from hakoniwa.spec.networks import Published

_MOST_ADDRESSES = 16
_NOTE, _NAMESPACE = ".json", ".netns"


class Asked(Record):
    """What a container asks of a network."""

    container: str
    ifname: str
    namespace: str  # where its network namespace is kept
    arguments: str  # CNI_ARGS
    runtime: Mapping[str, Any]  # by capabilities

    def environ(self) -> dict[str, str]:
        """What a plugin is told by its environment."""
        kept = self.namespace if netns.is_there(self.namespace) else ""  # it may be gone at the end
        return {
            "CNI_CONTAINERID": self.container,
            "CNI_NETNS": kept,
            "CNI_IFNAME": self.ifname,
            "CNI_ARGS": self.arguments,
            "CNI_PATH": ":".join(plugins.FOLDERS),
        }


def ask(
    container: str, ifname: str, interface: Interface, published: Sequence[Published], network: Configuration
) -> Asked:
    """What a file's words come to. Raises HakoError if no plugin of the network has the capability for one of them."""
    runtime: dict[str, Any] = {}
    if published:
        runtime["portMappings"] = [
            {
                "hostPort": one.first + number,
                "containerPort": one.inside + number,
                "protocol": one.protocol,
                **({"hostIP": one.host} if one.host else {}),
            }
            for one in published
            for number in range(one.count)
        ]
    if ips := [one for one in (interface.container_ip, interface.container_ip6) if one not in (None, "auto")]:
        runtime["ips"] = ips
    if interface.mac is not None:
        runtime["mac"] = interface.mac
    if interface.rate is not None:
        bits = interface.rate * 8
        burst = max(bits // 10, 1 << 16)
        runtime["bandwidth"] = {"ingressRate": bits, "ingressBurst": burst, "egressRate": bits, "egressBurst": burst}
    capable = {word for plugin in network.plugins for word, on in _capabilities(plugin).items() if on is True}
    for word in runtime:
        if word not in capable:
            told = f"no plugin of the network {network.name!r} has the capability {word}"
            raise HakoError(told, hint=f'"capabilities": {{"{word}": true}} in {network.path}')
    words = {"IgnoreUnknown": "1", **interface.cni_arguments}
    return Asked(
        container=container,
        ifname=ifname,
        namespace=os.path.join(folder(), container + _NAMESPACE),
        arguments=";".join(f"{key}={value}" for key, value in words.items()),
        runtime=runtime,
    )


def _capabilities(plugin: Mapping[str, Any]) -> dict[str, Any]:
    found = plugin.get("capabilities")
    return found if isinstance(found, dict) else {}


def folder() -> str:
    """Where notes lie."""
    return os.path.join(networks_dir(), "cni")


def keep_namespace(container: str, namespace: int) -> None:
    """Keep a container's network namespace, by a descriptor. Raises HakoError, and OSError."""
    ensure_private(folder())
    path = os.path.join(folder(), container + _NAMESPACE)
    netns.release(path)
    netns.keep(path, namespace)


class Attachment:
    """A container's part in one network."""

    def __init__(self, network: Configuration, asked: Asked) -> None:
        self._network = network
        self._asked = asked
        self._file = -1

    def add(self) -> InterfaceFacts:
        """Join. What a plugin refuses is raised as a HakoError; `delete` undoes what the others have done."""
        path = os.path.join(folder(), f"{self._asked.container}@{self._asked.ifname}{_NOTE}")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._note({})
        result: dict[str, Any] = {}
        for plugin in self._network.plugins:
            result = plugins.run("ADD", _given(self._network, self._asked, plugin, result), self._asked.environ())
        self._note(result)
        return _facts(self._asked.ifname, result)

    def check(self) -> None:
        """Have the plugins look whether all is as they have made it. Raises HakoError if not."""
        result = json.loads(os.pread(self._file, os.fstat(self._file).st_size, 0))["result"]
        for plugin in self._network.plugins:
            plugins.run("CHECK", _given(self._network, self._asked, plugin, result), self._asked.environ())

    def _note(self, result: Mapping[str, Any]) -> None:
        note = {"network": _plain(self._network), "asked": _plain(self._asked), "result": result}
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(note).encode(), 0)

    def delete(self) -> None:
        """Leave, as far as it was joined. Raises HakoError for what a plugin could not undo."""
        if self._file == -1:
            return
        file, self._file = self._file, -1
        try:
            _delete_noted(file)
        finally:
            os.close(file)


def _plain(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record._fields}


def _given(
    network: Configuration, asked: Asked, plugin: Mapping[str, Any], previous: Mapping[str, Any]
) -> dict[str, Any]:
    """What a plugin is given on its standard input."""
    able = {
        word: asked.runtime[word] for word, on in _capabilities(plugin).items() if on is True and word in asked.runtime
    }
    given = {key: value for key, value in plugin.items() if key != "capabilities"}
    given |= {"name": network.name, "cniVersion": network.version}
    given |= {"runtimeConfig": able} if able else {}
    given |= {"prevResult": {"cniVersion": network.version, **previous}} if previous else {}
    return given


def _delete_noted(file: int) -> None:
    """Do what a note says has to be undone, and remove it. Each plugin is asked, whatever the others say."""
    from hakoniwa.network.cni.configuration import Configuration

    note = json.loads(read_all(file) or b"{}")
    failures: list[HakoError] = []
    if note:
        network = Configuration(**note["network"])
        asked = Asked(**note["asked"])
        for plugin in reversed(network.plugins):
            try:
                plugins.run("DEL", _given(network, asked, plugin, note["result"]), asked.environ())
            except HakoError as error:
                failures.append(error)
        if not failures:
            os.unlink(os.path.join(folder(), f"{asked.container}@{asked.ifname}{_NOTE}"))
    if failures:
        raise failures[0]


def let_namespace_go(container: str) -> None:
    """Keep a container's network namespace no longer."""
    netns.release(os.path.join(folder(), container + _NAMESPACE))


def clear(name: str = "") -> list[str]:
    """Leave the networks that the dead have joined: all of them, or one container. Returns what was left, in words."""
    cleared, living = [], set()
    for entry in sorted(entries_of(folder())):
        container, at, rest = entry.partition("@")
        if not at or not rest.endswith(_NOTE) or name not in ("", container):
            continue
        file = os.open(os.path.join(folder(), entry), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _delete_noted(file)
            cleared.append(f"CNI network of {container} ({rest.removesuffix(_NOTE)})")
        except BlockingIOError:
            living.add(container)
        except HakoError as error:
            cleared.append(f"not: {error}")
            living.add(container)
        finally:
            os.close(file)
    for entry in entries_of(folder()):
        container = entry.removesuffix(_NAMESPACE)
        if entry.endswith(_NAMESPACE) and container not in living and name in ("", container):
            netns.release(os.path.join(folder(), entry))
    return cleared


def _facts(ifname: str, result: Mapping[str, Any]) -> InterfaceFacts:
    """What a result says of the interface, in any version of the specification. What is wrong in it is not taken."""
    found = {"address": "", "address6": "", "gateway": "", "gateway6": ""}
    for one in _addresses(result, ifname)[:_MOST_ADDRESSES]:
        address, gateway = _address(one.get("address") or one.get("ip")), _address(one.get("gateway"))
        word = "6" if ":" in address else ""
        if address and not found[f"address{word}"]:
            found[f"address{word}"] = address
            found[f"gateway{word}"] = gateway.partition("/")[0] if _has_default(result, one) else ""
    return InterfaceFacts(name=ifname, nat=False).replace(**found)


def _addresses(result: Mapping[str, Any], ifname: str) -> list[Mapping[str, Any]]:
    links = result.get("interfaces") if isinstance(result.get("interfaces"), list) else []
    ips = result.get("ips") if isinstance(result.get("ips"), list) else [result.get("ip4"), result.get("ip6")]
    inside = {
        number
        for number, link in enumerate(links or [])
        if isinstance(link, dict) and link.get("sandbox") and link.get("name") == ifname
    }
    return [one for one in ips or [] if isinstance(one, dict) and one.get("interface", None) in (None, *inside)]


def _has_default(result: Mapping[str, Any], one: Mapping[str, Any]) -> bool:
    routes = [*(result.get("routes") or []), *(one.get("routes") or [])]
    return any(isinstance(route, dict) and route.get("dst") in ("0.0.0.0/0", "::/0") for route in routes)


def _address(value: object) -> str:
    """An address, with its mask if it has one; "" if it is none."""
    address, slash, mask = value.partition("/") if isinstance(value, str) else ("", "", "")
    found = parse(address)
    if found is None or (slash and not (mask.isascii() and mask.isdecimal() and int(mask) <= bits_of(found[0]))):
        return ""
    return f"{written(*found)}{slash}{mask}"
