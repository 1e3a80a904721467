"""Messages of netlink, and the sockets that they go through. `man 7 netlink`.

By hand, since the library for it takes longer to load than a whole start (docs/performance.md).
"""

from __future__ import annotations

import _socket
import os
from _struct import pack, unpack_from

from hakoniwa.kernel.processes import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROUTE, NETFILTER = 0, 12  # protocols, linux/netlink.h

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300  # flags of any message
REPLACE, EXCLUSIVE, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800  # of one that makes something

NESTED = 0x8000  # NLA_F_NESTED: the attribute is made of attributes
_TYPE = 0x3FFF  # NLA_TYPE_MASK

_ERROR, _DONE, _OVERRUN = 2, 3, 4  # types of answers
_HEADER = 16
_INTERRUPTED, _CAPPED, _WITH_ATTRIBUTES = 0x10, 0x100, 0x200  # flags of an answer
_TEXT = 1  # NLMSGERR_ATTR_MSG
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT = 270, 10, 11, 12
_LARGEST = (
    1 << 15
)  # of a datagram that is read: the kernel makes no larger ones (netlink_recvmsg in net/netlink/af_netlink.c)
_TRIES = 8  # for a list that changes while it is read


class Refused(OSError):
    """What the kernel has refused; its own words, where it has any, in `strerror`. `at` is the number of the message."""

    at = 0


def open_socket(netns_fd: int = -1, protocol: int = ROUTE) -> _socket.socket:
    """A socket of a network namespace, in which it stays; by default of this process's own. Raises OSError.

    `netns_fd` is a descriptor of a namespace, or a pidfd. This process must have no threads.
    """
    if netns_fd == -1:
        return _open(protocol)
    with Visit(netns_fd):
        return _open(protocol)


class Visit:
    """Be in another network namespace for a moment: `with Visit(netns_fd)`. This process must have no threads. Raises OSError."""

    def __init__(self, netns_fd: int) -> None:
        self._there = netns_fd

    def __enter__(self) -> None:
        self._own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            process.join(self._there, process.NAMESPACES["net"])
        except OSError:
            os.close(self._own)
            raise

    def __exit__(self, *_about: object) -> None:
        try:
            process.join(self._own, process.NAMESPACES["net"])
        finally:
            os.close(self._own)


def _open(protocol: int) -> _socket.socket:
    channel = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, protocol)
    channel.bind((0, 0))
    # An error need not repeat what it is about, and may say why in words. Lists are filtered as they are asked to be.
    for option in (_CAP_ACK, _EXT_ACK, _STRICT):
        channel.setsockopt(_SOL_NETLINK, option, 1)
    return channel


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return pack("HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def text(kind: int, value: str) -> bytes:
    """An attribute that is a string."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """An attribute of 32 bits, in this machine's order."""
    return attribute(kind, pack("I", value))


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that is made of others."""
    return attribute(kind | NESTED, b"".join(attributes))


def attributes(body: bytes, start: int = 0) -> dict[int, bytes]:
    """What the attributes from `start` on say, by their kinds. Of several of a kind, the last one."""
    return dict(every_attribute(body, start))


def every_attribute(body: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """The same in order, for lists whose members are of one kind."""
    while start + 4 <= len(body):
        length, kind = unpack_from("HH", body, start)
        if length < 4 or start + length > len(body):
            return
        yield kind & _TYPE, body[start + 4 : start + length]
        start += (length + 3) & ~3


def message(kind: int, flags: int, body: bytes, sequence: int) -> bytes:
    """A whole message. What is sent in one datagram has a number for each."""
    return pack("IHHII", _HEADER + len(body), kind, flags, sequence, 0) + body + bytes(-len(body) % 4)


_numbered = 0


def _number(count: int) -> int:
    """A number for the first of so many messages, the others having the next ones: an answer to an earlier one is told by it."""
    global _numbered
    first = _numbered + 1 if _numbered + count < 1 << 31 else 1
    _numbered = first + count - 1
    return first


def transact(channel: _socket.socket, wanted: Sequence[tuple[int, int, bytes]]) -> None:
    """Send messages (kind, flags, body) in one datagram, and wait for the answer to each that has ACK among its flags.

    Raises Refused for the first one that the kernel refuses. All the others are done all the same, unless they are a batch of
    netfilter's (linux/netfilter/nfnetlink.h).
    """
    first = _number(len(wanted))
    channel.send(
        b"".join(message(kind, flags | REQUEST, body, first + at) for at, (kind, flags, body) in enumerate(wanted))
    )
    awaited = {first + at for at, (_, flags, _) in enumerate(wanted) if flags & ACK}
    failed: Refused | None = None
    while awaited:
        for kind, flags, sequence, body in _receive(channel):
            if kind != _ERROR or not first <= sequence < first + len(wanted):
                continue
            refused = _refused(flags, body)
            if refused is not None:
                refused.at = sequence - first
                failed = failed or refused
                if sequence not in awaited:
                    awaited.clear()  # a message that asked for no answer: what followed it may get none
            awaited.discard(sequence)
    if failed is not None:
        raise failed


def request(channel: _socket.socket, kind: int, flags: int, body: bytes) -> None:
    """Send one message, and wait until it is done. Raises Refused."""
    transact(channel, [(kind, flags | ACK, body)])


def get(channel: _socket.socket, kind: int, body: bytes) -> bytes:
    """What the kernel answers to a question about one thing, without the header. Raises Refused."""
    ours = _number(1)
    channel.send(message(kind, REQUEST, body, ours))
    while True:
        for answered, flags, sequence, answer in _receive(channel):
            if sequence != ours:
                continue
            if answered == _ERROR:
                raise _refused(flags, answer) or Refused(0, "no answer")
            return answer


def dump(channel: _socket.socket, kind: int, body: bytes) -> list[bytes]:
    """All that there is of a kind, as it is at one moment. Raises Refused."""
    for _ in range(_TRIES):
        found = _dump_once(channel, kind, body)
        if found is not None:
            return found
    raise Refused(11, "it does not stop to change")  # EAGAIN


def _dump_once(channel: _socket.socket, kind: int, body: bytes) -> list[bytes] | None:
    """The same; None if it has changed meanwhile."""
    ours = _number(1)
    channel.send(message(kind, REQUEST | DUMP, body, ours))
    found: list[bytes] = []
    whole = True
    while True:
        for answered, flags, sequence, answer in _receive(channel):
            if sequence != ours:
                continue
            whole = whole and not flags & _INTERRUPTED
            if answered == _DONE:
                # It ends with a number as an error does, where the kernel could not go on.
                (code,) = unpack_from("i", answer) if len(answer) >= 4 else (0,)
                if code < 0:
                    raise Refused(-code, os.strerror(-code))
                return found if whole else None
            if answered == _ERROR:
                raise _refused(flags, answer) or Refused(0, "no answer")
            found.append(answer)


def _receive(channel: _socket.socket) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages of one datagram: kind, flags, number, and what follows the header."""
    while True:
        datagram, sender = channel.recvfrom(_LARGEST)
        if sender[0] == 0:  # others than the kernel may write to us
            break
    at = 0
    while at + _HEADER <= len(datagram):
        length, kind, flags, sequence, _ = unpack_from("IHHII", datagram, at)
        if length < _HEADER or at + length > len(datagram):
            return
        yield kind, flags, sequence, datagram[at + _HEADER : at + length]
        at += (length + 3) & ~3


def _refused(flags: int, body: bytes) -> Refused | None:
    """What an answer says that tells of an error; None if it tells that all went well."""
    (code,) = unpack_from("i", body)
    if code == 0:
        return None
    said = ""
    if flags & _WITH_ATTRIBUTES:
        # The header of our message follows, and all of it unless the answer is capped.
        (length,) = unpack_from("I", body, 4)
        start = 4 + (_HEADER if flags & _CAPPED else (length + 3) & ~3)
        said = attributes(body, start).get(_TEXT, b"").rstrip(b"\0").decode(errors="replace")
    reason = os.strerror(-code)
    return Refused(-code, f"{reason}: {said}" if said else reason)
