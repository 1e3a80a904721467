"""Our one nftables table, `inet hakoniwa`: NAT for bridges, published ports, and what must not be reached through them.

Its rules never change. What they go by are sets and maps, to whose elements a container adds what it needs in one message
(kernel/netlink/elements.py): so a start runs no `nft` unless the table is missing, as it is before the first bridge, and
after `nft flush ruleset`. The table goes with the last bridge.

A base chain of ours can accept nothing that another table's drops (`man 8 nft`, "VERDICT STATEMENT").
"""

from __future__ import annotations

import os
from errno import ENOENT, EPERM, ERESTART

from hakoniwa.errors import HakoError
from hakoniwa.kernel.netlink import elements
from hakoniwa.kernel.netlink.elements import Element
from hakoniwa.kernel.netlink.messages import Refused
from hakoniwa.kernel.netlink.routes import IPV4, IPV6, address_bytes
from hakoniwa.kernel.processes import process
from hakoniwa.network import sysctls
from hakoniwa.places import run_dir, wait_for_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Collection, Iterable, Mapping
    from types import TracebackType

    from hakoniwa.kernel.netlink.elements import Message

TABLE = "hakoniwa"
LAYOUT = "layout 1"  # the comment of the table; another number with each change of what follows
PUBLISHED = {4: "publish4", 6: "publish6"}

# Each command can be given once more, to a table that is there. The sets are filled by bridges, the maps by published ports.
#
# publish      What is sent to an address of this host, from elsewhere (prerouting) or from here (output), leads inside where an element
#              says so. What comes from elsewhere to 127.0.0.1 is left to the kernel, which drops it: changed here, it would not
#              see that. From here, ::1 is left out: IPv6 has no route_localnet, so no answer would come back, and who connects would
#              wait. A key has no comparison of protocols, hence the one before.
# postrouting  What a container sends elsewhere leaves as the host. What comes from 127.0.0.1, or from the container's own network, to a
#              published port has to come back the way that it went, too, and not directly.
# forward      An interface that forwards since we have made it (sysctls.py) leads to our bridges, and the host is no router otherwise.
# inward       A network behind NAT is entered from its own bridge, from the host, and through published ports.
# guard        route_localnet on a bridge, without which 127.0.0.1 leads to no published port, would let a container in to what
#              listens there for the host alone (CVE-2020-8558).
RULES = """\
add table inet hakoniwa { comment "LAYOUT"; }
add map inet hakoniwa publish4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; flags interval; }
add map inet hakoniwa publish6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; flags interval; }
add set inet hakoniwa bridges { type ifname; }
add set inet hakoniwa closed { type ifname; }
add set inet hakoniwa lent4 { type ifname; }
add set inet hakoniwa lent6 { type ifname; }
add set inet hakoniwa itself { type ifname . ifname; }
add set inet hakoniwa nat4 { type ipv4_addr . ipv4_addr; flags interval; }
add set inet hakoniwa nat6 { type ipv6_addr . ipv6_addr; flags interval; }
add set inet hakoniwa within4 { type ipv4_addr . ipv4_addr; flags interval; }
add set inet hakoniwa within6 { type ipv6_addr . ipv6_addr; flags interval; }
add chain inet hakoniwa guard { type filter hook prerouting priority raw; }
add chain inet hakoniwa prerouting { type nat hook prerouting priority dstnat; }
add chain inet hakoniwa output { type nat hook output priority -100; }
add chain inet hakoniwa postrouting { type nat hook postrouting priority srcnat; }
add chain inet hakoniwa forward { type filter hook forward priority filter; }
add chain inet hakoniwa publish
add chain inet hakoniwa inward
flush table inet hakoniwa
table inet hakoniwa {
  chain guard {
    iifname @bridges ip daddr 127.0.0.0/8 drop
  }
  chain prerouting {
    ip daddr 127.0.0.0/8 return
    fib daddr type local jump publish
  }
  chain output {
    ip6 daddr ::1 return
    fib daddr type local jump publish
  }
  chain publish {
    meta l4proto { tcp, udp } dnat ip to ip daddr . meta l4proto . th dport map @publish4
    meta l4proto { tcp, udp } dnat ip6 to ip6 daddr . meta l4proto . th dport map @publish6
  }
  chain postrouting {
    ct status dnat ip saddr 127.0.0.0/8 oifname @bridges masquerade
    ct status dnat ip saddr . ip daddr @within4 masquerade
    ct status dnat ip6 saddr . ip6 daddr @within6 masquerade
    ip saddr . ip daddr @within4 return
    ip6 saddr . ip6 daddr @within6 return
    ip saddr . ip daddr @nat4 masquerade
    ip6 saddr . ip6 daddr @nat6 masquerade
  }
  chain forward {
    meta nfproto ipv4 iifname @lent4 oifname != @bridges drop
    meta nfproto ipv6 iifname @lent6 oifname != @bridges drop
    oifname @closed jump inward
  }
  chain inward {
    ct state established,related accept
    ct status dnat accept
    iifname . oifname @itself accept
    reject with icmpx admin-prohibited
  }
}
""".replace("LAYOUT", LAYOUT)


_ARPHRD_NAME = 16  # IFNAMSIZ
_TRIES = 20  # while others change tables


class Firewall:
    """The table, through the one socket that this process has for that: `with Firewall(where) as firewall`.

    What the kernel refuses leaves the block as a HakoError, unless it was caught. The socket stays, since who closes one of
    netfilter may have to wait for what others have deleted: `let_go` closes it.
    """

    _kept: tuple[int, _socket.socket] | None = None  # by the process
    _deleting = False  # something was deleted through it

    def __init__(self, where: str = "") -> None:
        self._where = where

    def __enter__(self) -> Firewall:
        kept = Firewall._kept
        if kept is not None and kept[0] != os.getpid():
            kept[
                1
            ].detach()  # of the process that has forked us, which goes on to use it; the descriptor may be another by now
            kept = None
        if kept is None:
            try:
                kept = os.getpid(), elements.open_socket()
            except OSError as error:
                raise self._explained(error) from None
            Firewall._kept, Firewall._deleting = kept, False
        self.channel = kept[1]
        return self

    def __exit__(self, _kind: type | None, error: BaseException | None, _traceback: TracebackType | None) -> None:
        if error is not None:
            self.channel.close()  # answers may still be on their way
            Firewall._kept = None
        if isinstance(error, Refused):
            raise self._explained(error) from None

    def commit(self, changes: list[Message], generation: int | None = None, *, deleting: bool = False) -> None:
        """Do all changes at once, or none. Raises Refused."""
        if changes:
            Firewall._deleting |= deleting
            elements.commit(self.channel, changes, generation)

    def _explained(self, error: OSError) -> HakoError:
        told = f"cannot change the nftables table inet {TABLE}: {error.strerror}"
        hints = {
            EPERM: "it takes root's capability net_admin",
            ENOENT: "a part of it is gone: nft delete table inet hakoniwa",
        }
        hint = hints.get(
            error.errno or 0, "does the kernel have nf_tables, with nat, fib, sets of intervals and reject?"
        )
        return HakoError(told, where=self._where, hint=hint)

    def ensure(self) -> bool:
        """Make the table if it is missing. True if it was. The lock is held. Raises HakoError."""
        comment = elements.comment_of_table(self.channel, TABLE)
        if comment is None:
            from hakoniwa.network import nft

            nft.run(RULES, what=f"make the nftables table inet {TABLE}", where=self._where)
            return True
        if comment != LAYOUT:
            told = f"the nftables table inet {TABLE} is not what this version makes: it says {comment!r}, and not {LAYOUT!r}"
            hint = f"end what runs on bridges, and then: nft delete table inet {TABLE}"
            raise HakoError(told, where=self._where, hint=hint)
        return False

    def members(self, name: str) -> list[Element]:
        """The elements of a set or map; none if there is no table."""
        try:
            return elements.elements_of(self.channel, TABLE, name)
        except Refused as refused:
            if refused.errno == ENOENT:
                return []
            raise

    def bridges(self) -> dict[str, str]:
        """The bridges that the table knows: each is "nat" or "routed"."""
        return {_name_in(member.key): member.comment for member in self.members("bridges")}

    def without(self, bridge: str, subnets: Iterable[str]) -> list[str]:
        """Those of these networks that the table does not know to be on a bridge."""
        found = []
        for subnet in subnets:
            number, first, last = bounds(subnet)
            members = self.members(f"within{number}")
            if not any((one.key, one.last, one.comment) == (first * 2, last * 2, bridge) for one in members):
                found.append(subnet)
        return found


class Lock:
    """Held while the table is made or removed, and while settings of the kernel change: `with Lock()`."""

    def __enter__(self) -> None:
        self._file = wait_for_lock(run_dir(), sysctls.folder())

    def __exit__(self, *_error: object) -> None:
        os.close(self._file)


def let_go() -> None:
    """Close the socket that this process has; its end would, too.

    The kernel has who closes one wait until nobody can be looking at what was deleted any more, some ten milliseconds
    (nf_tables_trans_destroy_flush_work). So a child is the last to have it: it ends once we have, and nobody waits for it.
    """
    kept, Firewall._kept = Firewall._kept, None
    if kept is None or kept[0] != os.getpid():
        return
    channel = kept[1]
    if Firewall._deleting and len(os.listdir("/proc/self/task")) == 1:  # beside threads, nothing can be forked safely
        reader, writer = os.pipe2(os.O_CLOEXEC)
        pid, pidfd = process.clone(0)
        if pid == 0:
            process.close_all_but({reader, channel.fileno()})
            for number in range(3):
                os.close(number)
            os.read(reader, 1)
            os._exit(0)
        os.close(pidfd)
        os.close(reader)
        channel.close()
        os.close(writer)
        return
    channel.close()


def prepare(
    bridge: str, subnet4: str = "", subnet6: str = "", *, nat: bool = True, hosts: Collection[str] = (), where: str = ""
) -> bool:
    """Have a bridge with these networks ("10.0.0.0/24"; "": none) reach others, and its published ports be reached.

    `hosts` are the host's addresses that ports are published on, "" for all of them. For a bridge that is known, it is a look.
    True if the table was missing: then nothing that was published before is any more. Raises HakoError.
    """
    kind = "nat" if nat else "routed"
    subnets = [subnet for subnet in (subnet4, subnet6) if subnet]
    families = [family for family, subnet in ((IPV4, subnet4), (IPV6, subnet6)) if subnet]
    with Firewall(where) as firewall:
        wanted = sysctls.needed(bridge, families, hosts) if nat or hosts else []
        known = firewall.bridges()
        if known.get(bridge) == kind and not firewall.without(bridge, subnets) and not sysctls.missing(wanted):
            return False
        with Lock():
            made = firewall.ensure()
            known = firewall.bridges()
            if known.get(bridge, kind) != kind:
                raise _differs(bridge, kind, where)
            changes = [] if bridge in known else _add_bridge(bridge, kind)
            changes += _add_subnets(bridge, firewall.without(bridge, subnets), nat=nat)
            changes += _add_lent(sysctls.lending(wanted), {*known, bridge})
            firewall.commit(changes)
            sysctls.change(wanted, where)
    return made


def _differs(bridge: str, kind: str, where: str) -> HakoError:
    words = {"nat": "with NAT", "routed": "without NAT"}
    other = words["routed" if kind == "nat" else "nat"]
    told = f"the bridge {bridge} is {other}, for other containers, and cannot be {words[kind]} at the same time"
    return HakoError(told, where=where, hint="end them, or take another bridge_name")


def forget(bridge: str) -> None:
    """Have the table know a bridge no more. With the last one it goes, and settings of the kernel are put back. Raises HakoError."""
    with Firewall() as firewall, Lock():
        for _ in range(_TRIES):
            generation = elements.generation_of(firewall.channel)
            if elements.comment_of_table(firewall.channel, TABLE) not in (LAYOUT, None):
                return
            known = firewall.bridges()
            last = not known.keys() - {bridge}
            changes = _remove_table(firewall) if last else _remove_bridge(firewall, bridge)
            try:
                firewall.commit(changes, generation, deleting=True)
                break
            except Refused as refused:
                if refused.errno != ERESTART:
                    raise
        else:
            raise HakoError(
                f"cannot remove {bridge} from the nftables table inet {TABLE}: others change tables all the time"
            )
        if last:
            sysctls.put_back()


def _remove_table(firewall: Firewall) -> list[Message]:
    there = elements.comment_of_table(firewall.channel, TABLE) is not None
    return elements.delete_table(TABLE) if there else []


def _remove_bridge(firewall: Firewall, bridge: str) -> list[Message]:
    """What deletes the elements that tell of a bridge."""
    changes = []
    for name in ("closed", "itself", *_SUBNETS):
        changes += elements.delete(TABLE, name, [one for one in firewall.members(name) if one.comment == bridge])
    if bridge in firewall.bridges():
        changes += elements.delete(TABLE, "bridges", [Element(_name(bridge))])
    return changes


_SUBNETS = ("nat4", "nat6", "within4", "within6")


def _add_bridge(bridge: str, kind: str) -> list[Message]:
    """What tells the table of a bridge. Each element says whose it is."""
    name = _name(bridge)
    members = {"bridges": Element(name, comment=kind), "itself": Element(name * 2, comment=bridge)}
    if kind == "nat":
        members["closed"] = Element(name, comment=bridge)
    return [change for kind, member in members.items() for change in elements.add(TABLE, kind, [member])]


def _add_subnets(bridge: str, subnets: Iterable[str], *, nat: bool) -> list[Message]:
    """What tells it of networks on a bridge."""
    changes = []
    for subnet in subnets:
        number, first, last = bounds(subnet)
        changes += elements.add(TABLE, f"within{number}", [Element(first * 2, last * 2, comment=bridge)])
        if nat:
            anywhere, to_the_end = bytes(len(first)), b"\xff" * len(first)
            changes += elements.add(
                TABLE, f"nat{number}", [Element(first + anywhere, last + to_the_end, comment=bridge)]
            )
    return changes


def _add_lent(lent: Mapping[int, Collection[str]], bridges: Collection[str]) -> list[Message]:
    changes = []
    for kind, family in (("lent4", IPV4), ("lent6", IPV6)):
        changes += elements.add(TABLE, kind, [Element(_name(one)) for one in sorted({*lent[family]} - {*bridges})])
    return changes


def bounds(subnet: str) -> tuple[int, bytes, bytes]:
    """Of a network such as 10.0.0.0/24 the version of IP, and its first and last address."""
    address, _, length = subnet.partition("/")
    family, value = address_bytes(address)
    host = (1 << (8 * len(value) - int(length))) - 1
    first = int.from_bytes(value, "big") & ~host
    return 4 if family == IPV4 else 6, first.to_bytes(len(value), "big"), (first | host).to_bytes(len(value), "big")


def _name(interface: str) -> bytes:
    """The name of an interface as a key."""
    return interface.encode().ljust(_ARPHRD_NAME, b"\0")


def _name_in(key: bytes) -> str:
    return key.rstrip(b"\0").decode(errors="replace")
