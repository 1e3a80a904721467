"""Addresses that containers have on bridges: a file for each, which its owner holds a lock on for as long as it lives.

So whose address is free is told by the kernel, whatever has killed its owner. Who looks for an address, and who is the last on a bridge,
is settled under one lock for all bridges. A file says whose it is; and if the network namespace of its owner is kept beyond the owner's
end, where that is, since the address is in use there. Names of `ip netns` are had in the same way.
"""

from __future__ import annotations

import fcntl
import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem.files import entries_of, read_file
from hakoniwa.network.links import netns
from hakoniwa.places import LOCK, networks_dir, run_dir, wait_for_lock
from hakoniwa.spec.subnets import bits_of, network_of, parse, split, written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_LARGEST = 4096  # bytes of a lease
NAMESPACES = ".namespaces"  # in the place of a bridge, for names of network namespaces
_MOST_TRIED = 1 << 16  # addresses of a network that are looked at one by one


class Taken(Exception):
    """Somebody has the address: its text says who."""


class Lock:
    """Held while an address is chosen, and while it is settled who is the last on a bridge: `with Lock()`."""

    def __enter__(self) -> None:
        self._file = wait_for_lock(run_dir(), networks_dir(), folder())

    def __exit__(self, *_about: object) -> None:
        os.close(self._file)


def folder() -> str:
    """Where the leases lie, a folder for each bridge."""
    return os.path.join(networks_dir(), "leases")


def path_of(bridge: str, address: str) -> str:
    """The file of an address."""
    return os.path.join(folder(), bridge, address)


def take(bridge: str, address: str, name: str, kept: str = "") -> tuple[int, str]:
    """Take an address for a container: a descriptor that holds it, and whose it was. The lock is held. Raises Taken, and OSError.

    `kept` is the path of its network namespace if that is there to stay.
    """
    path = path_of(bridge, address)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        file = os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.mkdir(os.path.dirname(path), 0o700)
        file = os.open(path, flags, 0o600)
    try:
        owner, place = _said(os.read(file, _LARGEST))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Taken(owner) from None
        if place and owner != name and netns.is_there(place):
            raise Taken(owner)
        os.ftruncate(file, 0)
        os.pwrite(file, f"{name}\n{kept}".encode(), 0)
    except BaseException:
        os.close(file)
        raise
    return file, owner


def _said(content: bytes) -> tuple[str, str]:
    """Whose a lease is, and the path of the network namespace that is kept or ""."""
    owner, _, place = content.decode(errors="replace").partition("\n")
    return owner, place


def choose(bridge: str, network: str, name: str, wanted: str, kept: str = "") -> tuple[str, int, str]:
    """A free address of the network of a bridge, whose address with its mask is `network`; and what `take` returns. The lock is held.

    One container is given the same again as long as nobody else has it: the `wanted` one, or one that follows from its name.
    Raises HakoError if there is none.
    """
    used = {*entries_of(os.path.join(folder(), bridge))}
    stale: list[str] = []
    for address in _candidates(network, name, wanted):
        if address in used and address != wanted:
            stale.append(address)
            continue
        try:
            return address, *take(bridge, address, name, kept)
        except Taken:
            continue
    for address in stale:  # of containers that have been killed, as far as they are free
        try:
            return address, *take(bridge, address, name, kept)
        except Taken:
            continue
    family, first, length = network_of(network)
    told = f"no address of {written(family, first)}/{length} is free: {len(used)} are in use on {bridge}"
    raise HakoError(told, hint="end some, or give the bridge a larger network")


def _candidates(network: str, name: str, wanted: str) -> Iterator[str]:
    """The addresses of a network that a container could have, the likeliest first."""
    from zlib import crc32

    family, first, length = network_of(network)
    own = split(network)[1]
    hosts = (1 << (bits_of(family) - length)) - 2
    if wanted and (found := parse(wanted)) and first < found[1] <= first + hosts and found[1] != own:
        yield wanted
    begin = (crc32(name.encode()) << 16 | crc32(name.encode()[::-1]) & 0xFFFF) % hosts
    for number in range(min(hosts, _MOST_TRIED)):
        candidate = first + 1 + (begin + number) % hosts
        if candidate != own:
            yield written(family, candidate)


def owner_of(bridge: str, address: str) -> str:
    """Whose an address is, or was; "" if nobody has had it."""
    try:
        return _said(read_file(path_of(bridge, address)))[0]
    except FileNotFoundError:
        return ""


def release(bridge: str, address: str) -> None:
    """Let an address go. The lock is held. Raises OSError."""
    try:
        os.unlink(path_of(bridge, address))
    except FileNotFoundError:
        pass
    try:
        os.rmdir(os.path.join(folder(), bridge))
    except OSError:
        pass  # there are others, or it is gone


def in_use(bridge: str) -> bool:
    """Whether anybody has an address on a bridge. The lock is held."""
    return any(_holds(bridge, address) for address in entries_of(os.path.join(folder(), bridge)))


def on(bridge: str) -> list[tuple[str, str]]:
    """The containers on a bridge, each with an address; "" for one that has none."""
    found = []
    for address in entries_of(os.path.join(folder(), bridge)):
        if _holds(bridge, address):
            found.append((owner_of(bridge, address), "" if address.startswith("-") else address))
    return sorted(found)


def left_on(bridge: str) -> list[str]:
    """The addresses of a bridge whose owners do not live. The lock is held."""
    return [address for address in entries_of(os.path.join(folder(), bridge)) if not _holds(bridge, address)]


def _holds(bridge: str, address: str) -> bool:
    """Whether the owner of a lease lives, or its network namespace is kept."""
    try:
        file = os.open(path_of(bridge, address), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return netns.is_there(_said(os.pread(file, _LARGEST, 0))[1])
    except BlockingIOError:
        return True
    finally:
        os.close(file)


def living() -> set[str]:
    """The containers that have a lease and live. The lock is held."""
    pairs = [
        (bridge, address)
        for bridge in entries_of(folder())
        for address in (entries_of(os.path.join(folder(), bridge)) if bridge != LOCK else ())
    ]
    return {owner_of(bridge, address) for bridge, address in pairs if _holds(bridge, address)}


def of_dead(name: str = "") -> list[tuple[str, str]]:
    """The leases, by bridge and address, whose owner does not live: of all, or of one container. The lock is held."""
    found = []
    for bridge in entries_of(folder()):
        for address in entries_of(os.path.join(folder(), bridge)) if bridge != LOCK else ():
            if name in ("", owner_of(bridge, address)) and not _holds(bridge, address):
                found.append((bridge, address))
    return found
