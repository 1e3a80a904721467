"""Names of interfaces on the host: 15 bytes at most, whatever the container is called (IFNAMSIZ, `man 7 netdevice`)."""

from __future__ import annotations

from zlib import crc32

PREFIX = "hk"


def link_name(container: str, number: int, attempt: int = 0) -> str:
    """What the host's end of an interface is called: its alias says which container's it is. Another one for each attempt."""
    mark = crc32(f"{container}\0{attempt}".encode())
    return f"{PREFIX}{mark:08x}_{number}"


def mac_of(address: bytes) -> str:
    """A hardware address that belongs to an address, so that neighbours who have seen that before know it still.

    It is one that is given locally: the second bit of its first byte is set.
    """
    last = address if len(address) == 4 else crc32(address).to_bytes(4, "big")
    return ":".join(f"{byte:02x}" for byte in (0x0A, 0x68, *last))


def haconiwa_s(namespace: str) -> str:
    """What haconiwa calls the host's end for a namespace."""
    from hashlib import sha1

    return f"{sha1(namespace.encode(), usedforsecurity=False).hexdigest()[:8]}_h"
