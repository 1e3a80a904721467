"""`config.network`: what joins the container to others."""

from __future__ import annotations

from hakoniwa.errors import nearest
from hakoniwa.haco.reading import Reading, short
from hakoniwa.haco.sections.section import Section, Table
from hakoniwa.spec.networks import BRIDGE, BRIDGE_IP, KINDS, MACVLAN_MODES, Interface, Network, Policy, Published
from hakoniwa.spec.rules import addresses, checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal, Self

# The words of the first interface, and the fields of its record.
_FIRST = {
    **{word: word for word in ("container_ip", "container_ip6", "bridge_name", "bridge_ip", "bridge_ip6", "netmask")},
    **{word: word for word in ("mtu", "mac", "nat", "isolated", "rate")},
    "veth_host": "host",
    "veth_guest": "guest",
}
_WORDS = {field: word for word, field in _FIRST.items()}
_ADDED = {**_FIRST, "parent": "parent", "mode": "mode", "gateway": "gateway"}


class NetworkSection(Section):
    """`config.network`."""

    _word = "config.network"
    _checks = {
        "namespace": addresses.maybe(addresses.namespace_name),
        "container_ip": addresses.container_ip,
        "container_ip6": addresses.container_ip6,
        "bridge_name": addresses.link_name,
        "bridge_ip": addresses.maybe(addresses.bridge_ip),
        "bridge_ip6": addresses.maybe(addresses.bridge_ip6),
        "netmask": addresses.maybe(addresses.netmask),
        "veth_host": addresses.link_name,
        "veth_guest": addresses.link_name,
        "mtu": addresses.maybe(addresses.mtu),
        "mac": addresses.maybe(addresses.mac),
        "rate": addresses.maybe(addresses.rate),
        "nat": checks.flag,
        "isolated": checks.flag,
        "cleanup": checks.flag,
        "policy": addresses.policy,
        "policy_can_be_lifted": checks.flag,
    }
    _added_checks = {
        **{word: check for word, check in _checks.items() if word in _FIRST},
        "container_ip": addresses.interface_ip,
        "container_ip6": addresses.interface_ip6,
        "parent": addresses.link_name,
        "mode": checks.word_of(*MACVLAN_MODES),
        "gateway": addresses.any_address,
    }
    _defaults = {
        "bridge_name": BRIDGE,
        "bridge_ip": BRIDGE_IP,
        "veth_guest": "eth0",
        "nat": True,
        "isolated": False,
        "cleanup": True,
        "policy_can_be_lifted": False,
    }

    if TYPE_CHECKING:
        namespace: str | None
        """A name for `ip netns`."""
        container_ip: str | None
        """An address of the bridge's network; "auto" for a free one, the same again at the next start."""
        container_ip6: str | None
        """The same for IPv6, of which there is none unless this is set."""
        bridge_name: str
        """The bridge, which is made if it is missing."""
        bridge_ip: str | None
        """The bridge's address with its mask; unset, what a bridge has that is there already."""
        bridge_ip6: str | None
        """The bridge's IPv6 address with its mask."""
        netmask: str | int | None
        """The mask, if it is not in `bridge_ip`."""
        veth_host: str
        """The name of the host's end."""
        veth_guest: str
        """The name of the interface inside."""
        mtu: int | None
        """The largest packet; that of the host's default route unless set."""
        mac: str | None
        """The hardware address."""
        rate: int | str | None
        """Bytes a second, each way: a number, or "10M"."""
        nat: bool
        """Whether what leaves the bridge's network leaves as the host."""
        isolated: bool
        """Whether the neighbours on the bridge do not see the container."""
        cleanup: bool
        """Whether the namespace goes when the container ends."""
        policy: Literal["any", "none"] | Sequence[str]
        """What the container may reach: "any", "none", or a list such as ["10.0.0.0/24", "192.0.2.7:443/tcp", "dns"]."""
        policy_can_be_lifted: bool
        """Whether a policy may be set beside cap_net_admin, which can lift it."""
        hosts: dict[str, str | Sequence[str]]
        """Names and their addresses, for /etc/hosts."""

    _published: list[Published]
    _interfaces: list[Interface]
    _slots: dict[str, Any]

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        hosts = Table(self, "hosts", addresses.hosts_item)
        self.__dict__.update(hosts=hosts, _published=[], _interfaces=[], _slots={})

    def _set(self, name: str, value: object) -> None:
        if name == "hosts":
            self._must_be_open()
            self.__dict__[name].replace(value)
        else:
            super()._set(name, value)

    if not TYPE_CHECKING:
        __setattr__ = _set

    @property
    def enabled(self) -> bool:
        """Whether the file says anything of a network."""
        return self._is_set()

    @property
    def container_ip_with_netmask(self) -> str:
        """The address and the mask, as far as the file says them."""
        mask = self._get("netmask") or (self._get("bridge_ip") or BRIDGE_IP).partition("/")[2] or 24
        return f"{self._get('container_ip')}/{mask}"

    def publish(self, *ports: str, wake: bool = False, idle: float = 0) -> None:
        """Have ports of the host lead inside: `[HOST:]PORT[-PORT]:PORT[/tcp|udp]`.

        With `wake`, a connection starts or thaws the container, which rests again after `idle` seconds without any.
        """
        self._must_be_open()
        where, word = self._reading.here(), f"{self._word}.publish"
        self._places.setdefault("publish", where)
        if not ports:
            self._reading.problem(f"{word}() names no port", 'such as publish("8080:80")')
        woken = self._reading.check(f"{word}(wake=)", checks.flag, wake, False)
        rests = self._reading.check(f"{word}(idle=)", checks.duration, idle, 0.0)
        for port in ports:
            found = self._reading.check(f"{word}()", addresses.published, port)
            if found is not None:
                self._published.append(found.replace(wake=woken, idle=rests, where=where))

    def add(
        self,
        kind: Literal["bridge", "macvlan"] = "bridge",
        *,
        container_ip: str | None = None,
        container_ip6: str | None = None,
        bridge_name: str | None = None,
        bridge_ip: str | None = None,
        bridge_ip6: str | None = None,
        netmask: str | int | None = None,
        veth_host: str | None = None,
        veth_guest: str | None = None,
        parent: str | None = None,
        mode: Literal["bridge", "private", "vepa", "passthru"] | None = None,
        gateway: str | None = None,
        mtu: int | None = None,
        mac: str | None = None,
        nat: bool | None = None,
        isolated: bool | None = None,
        rate: int | str | None = None,
    ) -> None:
        """A further interface: on a bridge, or a macvlan of an interface of the host."""
        given = {name: value for name, value in locals().items() if name in _ADDED and value is not None}
        self._must_be_open()
        where, word = self._reading.here(), f"{self._word}.add"
        if kind not in KINDS[:2]:
            self._reading.problem(f"{word}({short(kind)}) is no kind of interface", nearest(str(kind), KINDS[:2]))
            return
        fields: dict[str, Any] = {}
        for name, value in given.items():
            checked = self._reading.check(f"{word}({name}=)", self._added_checks[name], value)
            if checked is not None:
                fields[_ADDED[name]] = checked
        if kind == "bridge" and bridge_name is None:
            self._reading.problem(f"{word}() names no bridge", "bridge_name= names one other than the first")
        if kind == "macvlan":
            fields.setdefault("container_ip", None)
        self._interfaces.append(Interface(kind=kind, where=where, **fields))

    def cni(
        self,
        network: str,
        *,
        container_ip: str | None = None,
        container_ip6: str | None = None,
        veth_guest: str | None = None,
        mac: str | None = None,
        rate: int | str | None = None,
        **arguments: str,
    ) -> None:
        """An interface that the installed CNI plugins make, for a network of /etc/hakoniwa/net.d or /etc/cni/net.d.

        The words need plugins with the capabilities ips, mac and bandwidth; what else is given are CNI_ARGS, such as IP="10.22.0.5".
        """
        own = {"container_ip": container_ip, "container_ip6": container_ip6, "veth_guest": veth_guest}
        own |= {"mac": mac, "rate": rate}  # type: ignore[dict-item]
        self._must_be_open()
        word = f"{self._word}.cni"
        name = self._reading.check(f"{word}()", addresses.network_name, network)
        given = {
            key: self._reading.check(f"{word}({key}=)", checks.text, value, "") for key, value in arguments.items()
        }
        fields: dict[str, Any] = {"container_ip": None}
        for key, value in own.items():
            if value is not None:
                fields[_ADDED[key]] = self._reading.check(f"{word}({key}=)", self._added_checks[key], value)
        if name is not None:
            one = Interface(kind="cni", cni=name, cni_arguments=given, where=self._reading.here(), **fields)
            self._interfaces.append(one)

    def dns(self, servers: Sequence[str] = (), search: Sequence[str] = (), options: Sequence[str] = ()) -> None:
        """What /etc/resolv.conf has in the place of the host's."""
        self._must_be_open()
        word = f"{self._word}.dns"
        self._places["dns"] = self._reading.here()
        self._slots["dns_servers"] = self._reading.check(f"{word}(servers=)", addresses.servers, servers, ())
        self._slots["dns_search"] = self._reading.check(f"{word}(search=)", addresses.search, search, ())
        self._slots["dns_options"] = self._reading.check(f"{word}(options=)", addresses.resolver_options, options, ())

    def share_with(self, name: str) -> None:
        """Have the network of another container of the barn, or of one that runs."""
        self._must_be_open()
        self._places["share_with"] = self._reading.here()
        self._slots["share_with"] = self._reading.check(f"{self._word}.share_with()", checks.name, name)

    def _is_set(self) -> bool:
        return bool(self._values or self._published or self._interfaces or self._slots or self.hosts)

    def _build(self) -> Network | None:
        """None if the file says nothing of it."""
        if not self._is_set():
            return None
        where = self._place("container_ip", "publish", "bridge_name", "namespace", *self._places)
        policy = self._values.get("policy")
        return Network(
            interfaces=(*self._first(where), *self._interfaces),
            namespace=self._values.get("namespace"),
            cleanup=self._get("cleanup"),
            published=tuple(self._published),
            policy=self._build_policy(policy) if policy else None,
            hosts=dict(self._values_of_hosts()),
            where=where,
            **self._slots,
        )

    def _values_of_hosts(self) -> dict[str, Any]:
        return self.hosts  # as the table has checked them

    def _build_policy(self, policy: Policy) -> Policy:
        return policy.replace(insist=self._get("policy_can_be_lifted"), where=self._place("policy"))

    def _first(self, where: str) -> tuple[Interface, ...]:
        """The interface of the section's own words. Without any, there is one if there would be none else (complete.py)."""
        fields = {field: self._values[word] for word, field in _FIRST.items() if word in self._values}
        joins_cni = any(one.kind == "cni" for one in self._interfaces)  # whose plugins publish ports, too
        if not fields and (joins_cni or not (self._published and self._interfaces)):
            return ()
        namespace = self._values.get("namespace")
        if namespace is not None and "container_ip" in self._values and "host" not in fields:
            from hakoniwa.network.links.naming import haconiwa_s

            fields["host"] = haconiwa_s(namespace)
        return (Interface(where=where, **fields),)

    def _line(self, path: str) -> str | None:
        """The line of a setting by its path below `network`; None if its record knows it."""
        setting = path.rpartition(".")[2]
        word = _WORDS.get(setting, setting)
        first = path.startswith(("interfaces[0].", setting))
        return self._places.get(word) if first else None

    def _copy(self) -> Self:
        twin = super()._copy()
        twin.hosts.update(self.hosts)
        twin._published.extend(self._published)
        twin._interfaces.extend(self._interfaces)
        twin._slots.update(self._slots)
        return twin
