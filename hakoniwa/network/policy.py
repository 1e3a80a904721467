"""What a container may reach: a table of nftables in its own network namespace, put there from outside.

Nobody inside can change it without cap_net_admin over that namespace, which none gets that has a policy. Whoever makes a user
namespace inside has that capability over what belongs to the new one, and not over what is there already (`man 7 user_namespaces`).
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from hakoniwa.errors import HakoError
from hakoniwa.network import nft

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hakoniwa.spec.networks import Allowed, Policy

    # Which packets: family, protocol ("" any) and port (0 any).
    Kind = tuple[int, str, int]

PURPOSE = "put the policy of the network in force"  # completes "cannot ..."
TABLE = "inet hakoniwa_policy"
_CLEARED = f"add table {TABLE}\ndelete table {TABLE}\n"
_DNS_PORT = 53

# A connection that has come in from outside, so that what it is answered may leave. The mark is the connection's
# (`ct mark`): nobody inside can set it, nor make one that has it. It is set by its first packet, which is none of `lo`: an error
# that comes back from outside is of a connection that was begun inside, too.
_ANSWERED = 0x68616B6F

_BASE = """
  chain incoming {
    type filter hook input priority filter; policy accept;
    iif lo accept
    ct state new ct mark set %(mark)#x
  }
  chain forwarded {
    type filter hook forward priority filter; policy drop;
  }
  chain outgoing {
    type filter hook output priority filter; policy drop;
    %(routed)s
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept
    icmpv6 type mld2-listener-report ip6 daddr ff02::16 ip6 hoplimit 1 accept
    %(forged)s
    oif lo accept
    ct direction reply ct mark %(mark)#x accept
%(allowed)s    reject with icmpx type admin-prohibited
  }
"""
# A source route (LSRR and SSRR, RFC 791; the routing header, RFC 8200) leads a packet on from an address that is allowed. It takes
# no capability to ask for one (`man 7 ip`, IP_OPTIONS; `man 7 ipv6`, IPV6_RTHDR).
_ROUTED = "ip hdrlength > 5 drop\n    exthdr rt exists drop"
# With IPV6_FREEBIND everybody may send from any address. On `lo`, a connection would seem to come from there, and what is sent
# there to be the answer; a neighbour could be had to send such an answer, too.
_FORGED = "fib saddr type != local drop"


def enforce(namespace: int, policy: Policy | None, resolvers: Sequence[str]) -> None:
    """Have a policy be in force in a network namespace, by a descriptor, in the place of any that was. Raises HakoError.

    It is one transaction: there is no moment without a policy, nor one with half of it. What was open to an address that is
    not allowed any more is cut, since each packet is looked at.
    """
    where = "" if policy is None else policy.where
    nft.run(rules(policy, resolvers), namespace, what=PURPOSE, where=where)


replace = enforce


def rules(policy: Policy | None, resolvers: Sequence[str]) -> str:
    """What nft is given. Raises HakoError if the policy names resolvers and there are none."""
    if policy is None or policy.default == "any":
        return _CLEARED
    found: dict[Kind, list[tuple[int, int]]] = {}
    for one in policy.allowed:
        for kind, network in _meant(one, policy, resolvers):
            found.setdefault(kind, []).append(network)
    allowed = "".join(f"    {_rule(kind, networks)} accept\n" for kind, networks in found.items())
    parts = {"mark": _ANSWERED, "routed": _ROUTED, "forged": _FORGED, "allowed": allowed}
    return f"{_CLEARED}table {TABLE} {{{_BASE % parts}}}\n"


def _meant(one: Allowed, policy: Policy, resolvers: Sequence[str]) -> Iterator[tuple[Kind, tuple[int, int]]]:
    """The packets that an entry stands for, each with a range of addresses."""
    if not one.dns:
        protocols = (one.protocol,) if one.protocol or not one.port else ("tcp", "udp")
        family, network = _range_of(one.network)
        for protocol in protocols:
            yield (family, protocol, one.port), network
        return
    if not resolvers:
        told = 'the policy lets "dns" through, and the container has no resolver'
        raise HakoError(told, where=policy.where, hint='network.dns(servers=["192.0.2.53"])')
    for address in resolvers:
        family, network = _range_of(address)
        for protocol in ("udp", "tcp"):
            yield (family, protocol, _DNS_PORT), network


def _range_of(network: str) -> tuple[int, tuple[int, int]]:
    """The family, and the first and last address of a network or of one address."""
    address, _, length = network.partition("/")
    family = AF_INET6 if ":" in address else AF_INET
    packed = inet_pton(family, address)
    bits = 8 * len(packed)
    hosts = (1 << bits - int(length or bits)) - 1
    first = int.from_bytes(packed, "big") & ~hosts
    return family, (first, first | hosts)


def _rule(kind: Kind, networks: Iterable[tuple[int, int]]) -> str:
    """The match of a rule."""
    family, protocol, port = kind
    length = 16 if family == AF_INET6 else 4

    def shown(address: int) -> str:
        return inet_ntop(family, address.to_bytes(length, "big"))

    ranges = [shown(first) if first == last else f"{shown(first)}-{shown(last)}" for first, last in _joined(networks)]
    match = f"{'ip6' if family == AF_INET6 else 'ip'} daddr {{ {', '.join(ranges)} }}"
    return f"{match} {protocol} dport {port}" if port else f"{match} meta l4proto {protocol}" if protocol else match


def _joined(networks: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in order, of which none overlaps another: a set of nft refuses those."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(networks):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined
