"""Settings of the kernel that bridges need: changed only where they are not right already, written down, and put back.

A packet is forwarded if the interface that it comes in by has `forwarding` (ip-sysctl.rst of the kernel): so the bridge needs it, and
so do the interfaces of the networks that answers and visitors come from. IPv6 forwards by interface where there is `force_forwarding`
(Linux 6.17). Before, all interfaces forward or none, and one that does takes no router advertisements unless `accept_ra` is 2.
"""

from __future__ import annotations

import _socket
import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem.files import read_file, replace_file
from hakoniwa.kernel.netlink import messages
from hakoniwa.kernel.netlink.routes import IPV4, IPV6, Links, address_bytes
from hakoniwa.places import ensure_private, networks_dir, run_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    Setting = tuple[str, str]  # the path below /proc/sys/net, and the value

_ROOT = "/proc/sys/net"
_FORWARDING, _FORCED = "forwarding", "force_forwarding"


def needed(bridge: str, families: Sequence[int], hosts: Collection[str]) -> list[Setting]:
    """What a bridge needs whose networks are of these families.

    `hosts` are the host's addresses that ports are published on, "" for all of them. Raises OSError.
    """
    wanted: list[Setting] = []
    links = Links(messages.open_socket())
    try:
        for family in families:
            others = _interfaces_to_others(links, family, hosts) - {bridge}
            add = _forwarding_of_ipv4 if family == IPV4 else _forwarding_of_ipv6
            wanted += add([bridge, *sorted(others)])
    finally:
        links.close()
    if IPV6 in families:
        # Or its own address would be tentative for a second or two from its first port on, and nobody behind it be asked for meanwhile.
        wanted.append((f"ipv6/conf/{bridge}/accept_dad", "0"))
    if any(not host or host.startswith("127.") for host in hosts):
        wanted.append((f"ipv4/conf/{bridge}/route_localnet", "1"))
    return wanted


def _interfaces_to_others(links: Links, family: int, hosts: Collection[str]) -> set[str]:
    """Those of the default routes, and those that have an address which ports are published on."""
    indexes = {route.index for route in links.routes(family) if route.length == 0}
    if hosts:
        named = {address_bytes(host)[1] for host in hosts if host}
        indexes |= {one.index for one in links.addresses(family=family) if "" in hosts or one.value in named}
    return {_socket.if_indextoname(index) for index in indexes} - {"lo"}


def _forwarding_of_ipv4(names: Sequence[str]) -> list[Setting]:
    return [(f"ipv4/conf/{name}/forwarding", "1") for name in names]


def _forwarding_of_ipv6(names: Sequence[str]) -> list[Setting]:
    if _value("ipv6/conf/all/forwarding") == "1":
        return []
    if _value(f"ipv6/conf/{names[0]}/{_FORCED}") is not None:
        return [(f"ipv6/conf/{name}/{_FORCED}", "1") for name in names]
    every = sorted({*os.listdir(f"{_ROOT}/ipv6/conf")} - {"all", "default", "lo"})
    hearing = [name for name in every if _value(f"ipv6/conf/{name}/accept_ra") == "1"]
    first = [(f"ipv6/conf/{name}/accept_ra", "2") for name in hearing]
    # Each by itself, too: so it is written down which of them forward because of us.
    return [*first, *((f"ipv6/conf/{name}/forwarding", "1") for name in every), ("ipv6/conf/all/forwarding", "1")]


def missing(wanted: Iterable[Setting]) -> list[Setting]:
    """Those that are not right. What the kernel does not have cannot be wrong."""
    return [(path, value) for path, value in wanted if _value(path) not in (value, None)]


def lending(wanted: Iterable[Setting]) -> dict[int, set[str]]:
    """The interfaces, by family, that forward because we have made them, or will once this is set."""
    found: dict[int, set[str]] = {IPV4: set(), IPV6: set()}
    changed = [(path, value) for path, _, value in _written_down()]
    for path, value in (*changed, *missing(wanted)):
        family, _, name, setting = path.split("/")
        if value == "1" and setting in (_FORWARDING, _FORCED) and name != "all":
            found[IPV4 if family == "ipv4" else IPV6].add(name)
    return found


def change(wanted: Iterable[Setting], where: str) -> None:
    """Set what is not right, once it is written down what it was. Raises HakoError."""
    before = _written_down()
    changes = [(path, _value(path) or "", value) for path, value in missing(wanted)]
    if changes:
        _write_down([*before, *changes])
    for number, (path, was, value) in enumerate(changes):
        try:
            _set(path, value)
        except OSError as error:
            _write_down([*before, *changes[:number]])
            name = path.replace("/", ".")
            told = f"cannot set net.{name} to {value}, which networks need (it is {was}): {error.strerror}"
            hint = "have the host set it, or mount /proc/sys for writing"
            raise HakoError(told, where=where, hint=hint) from None


def put_back() -> None:
    """Put back what was changed, unless it was changed again since. Raises OSError."""
    changes = _written_down()
    for path, was, value in reversed(changes):
        if _value(path) == value:
            try:
                _set(path, was)
            except FileNotFoundError:
                continue  # the interface has gone meanwhile
    try:
        os.unlink(_record())
    except FileNotFoundError:
        pass  # nothing was changed


def _value(path: str) -> str | None:
    """A setting, None if the kernel does not have it."""
    try:
        return read_file(f"{_ROOT}/{path}").decode().strip()
    except FileNotFoundError:
        return None


def _set(path: str, value: str) -> None:
    file = os.open(f"{_ROOT}/{path}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, value.encode())
    finally:
        os.close(file)


# What was changed: of each its path, what it was, and what we have made it. It goes at the next boot, as the settings do.


def _record() -> str:
    return os.path.join(folder(), "sysctls")


def folder() -> str:
    """Where is kept what networks share: no container can have its name."""
    return networks_dir()


def _written_down() -> list[tuple[str, str, str]]:
    try:
        lines = read_file(_record()).decode().splitlines()
    except FileNotFoundError:
        return []
    words = [line.split() for line in lines]
    return [(found[0], found[1], found[2]) for found in words if len(found) == 3 and found[0].count("/") == 3]


def _write_down(changes: Iterable[tuple[str, str, str]]) -> None:
    ensure_private(run_dir())
    ensure_private(folder())
    replace_file(_record(), "".join(f"{path} {was} {value}\n" for path, was, value in changes).encode())
