"""Which descriptors are open; and handing them on through a pair of sockets (`man 7 unix`, SCM_RIGHTS)."""

from __future__ import annotations

import _socket
import os
import sys

_MOST = 200  # in one message; the kernel takes 253 (SCM_MAX_FD)
_LARGEST = 60_000
_INT = 4  # bytes


def opened() -> set[int]:
    """The descriptors of this process that are open, but for the standard streams."""
    listing = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return {int(name) for name in os.listdir(listing)} - {0, 1, 2, listing}
    finally:
        os.close(listing)


def open_pair() -> tuple[_socket.socket, _socket.socket]:
    """Two ends of a channel that keeps messages apart, and ends when the other end is closed."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    return ours, theirs


def send(channel: _socket.socket, message: bytes, descriptors: list[int]) -> None:
    """Send a message with descriptors. Raises OSError when nobody is there to take it."""
    while True:
        some, descriptors = descriptors[:_MOST], descriptors[_MOST:]
        rights = b"".join(descriptor.to_bytes(_INT, sys.byteorder) for descriptor in some)
        more = b"+" if descriptors else b"."
        attached = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if some else []
        channel.sendmsg([more + message], attached, _socket.MSG_NOSIGNAL)
        if not descriptors:
            return


def receive(channel: _socket.socket) -> tuple[bytes, list[int]] | None:
    """The next message and its descriptors, or None when the other end is closed."""
    descriptors: list[int] = []
    while True:
        space = _socket.CMSG_SPACE(_MOST * _INT)
        message, attached, _, _ = channel.recvmsg(_LARGEST, space, _socket.MSG_CMSG_CLOEXEC)
        for _, _, rights in attached:
            for start in range(0, len(rights) - _INT + 1, _INT):
                descriptors.append(int.from_bytes(rights[start : start + _INT], sys.byteorder))
        if not message:
            for descriptor in descriptors:
                os.close(descriptor)
            return None
        if message[:1] == b".":
            return message[1:], descriptors
