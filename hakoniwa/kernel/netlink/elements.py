"""Tables of nftables, and the elements of their sets and maps: batches of nfnetlink, which are done as a whole or not at all.

linux/netfilter/nf_tables.h, and linux/netfilter/nfnetlink.h. The rules themselves are text, for `nft` (network/firewall.py).
"""

from __future__ import annotations

from _struct import pack, unpack_from
from errno import ENOENT

from hakoniwa.kernel.netlink import messages
from hakoniwa.kernel.netlink.messages import ACK, CREATE, EXCLUSIVE, NETFILTER, attribute, attributes, nested, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Iterable, Sequence

    Message = tuple[int, int, bytes]

INET = 1  # NFPROTO_INET, the family of tables for IPv4 and IPv6

_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_BEGIN, _END = 0x10, 0x11  # NFNL_MSG_BATCH_*
_GET_TABLE, _DELETE_TABLE, _NEW_ELEMENT, _GET_ELEMENT, _DELETE_ELEMENT, _GET_GENERATION = (
    _SUBSYSTEM << 8 | number for number in (1, 2, 12, 13, 14, 16)
)
_GENERATION = 1  # NFNL_BATCH_GENID, NFTA_GEN_ID
_TABLE_NAME, _TABLE_DATA = 1, 6  # NFTA_TABLE_*
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3  # NFTA_SET_ELEM_LIST_*
_MEMBER = 1  # NFTA_LIST_ELEM
_KEY, _DATA, _USER_DATA, _KEY_END = 1, 2, 6, 10  # NFTA_SET_ELEM_*
_VALUE = 1  # NFTA_DATA_VALUE
_COMMENT = 0  # in the data of a table or an element; include/udata.h of libnftnl
_FAMILY = pack("BBH", INET, 0, 0)
_MOST = 400  # elements of one message, whose list has 16 bits for its length
_SO_SNDBUFFORCE, _USUAL = 32, 100_000  # bytes, which any socket takes


class Element:
    """One element: `key` is what it is found by, or the first of an interval up to `last`. `value` is what a map leads to.

    A set of intervals must have keys of several parts: of one, it has elements of another kind.
    """

    def __init__(self, key: bytes, last: bytes = b"", value: bytes = b"", comment: str = "") -> None:
        self.key = key
        self.last = last
        self.value = value
        self.comment = comment

    def packed(self, *, whole: bool) -> bytes:
        """As a member of a list; not `whole`, as much as it takes to delete it."""
        said = [nested(_KEY, attribute(_VALUE, self.key))]
        if self.last:
            said.append(nested(_KEY_END, attribute(_VALUE, self.last)))
        if whole and self.value:
            said.append(nested(_DATA, attribute(_VALUE, self.value)))
        if whole and self.comment:
            told = self.comment.encode() + b"\0"
            said.append(attribute(_USER_DATA, pack("BB", _COMMENT, len(told)) + told))
        return nested(_MEMBER, *said)


def open_socket(netns_fd: int = -1) -> _socket.socket:
    """A socket for all of this. Raises OSError: EPROTONOSUPPORT if the kernel has no netfilter."""
    return messages.open_socket(netns_fd, NETFILTER)


def add(table: str, name: str, elements: Sequence[Element], *, exclusive: bool = False) -> list[Message]:
    """Messages that add elements. With `exclusive`, one that is there already is refused, be it the same (EEXIST)."""
    flags = CREATE | (EXCLUSIVE if exclusive else 0)
    return _change(_NEW_ELEMENT, flags, table, name, [element.packed(whole=True) for element in elements])


def delete(table: str, name: str, elements: Sequence[Element]) -> list[Message]:
    """Messages that delete elements. One that is not there is refused (ENOENT)."""
    return _change(_DELETE_ELEMENT, 0, table, name, [element.packed(whole=False) for element in elements])


def delete_table(table: str) -> list[Message]:
    """A message that deletes a table with all that is in it."""
    return [(_DELETE_TABLE, 0, _FAMILY + text(_TABLE_NAME, table))]


def _change(kind: int, flags: int, table: str, name: str, packed: list[bytes]) -> list[Message]:
    head = _FAMILY + text(_LIST_TABLE, table) + text(_LIST_SET, name)
    parts = (packed[at : at + _MOST] for at in range(0, len(packed), _MOST))
    return [(kind, flags, head + nested(_LIST_ELEMENTS, *part)) for part in parts]


def commit(channel: _socket.socket, changes: Iterable[Message], generation: int | None = None) -> None:
    """Do all changes at once, or none. Raises Refused.

    With `generation`, only if nothing at all has changed since it was that (ERESTART otherwise).
    """
    batch = pack(">BBH", 0, 0, _SUBSYSTEM)
    since = b"" if generation is None else attribute(_GENERATION, pack(">I", generation))
    *changes, (kind, flags, body) = changes
    wanted = [(_BEGIN, 0, batch + since), *changes, (kind, flags | ACK, body), (_END, 0, batch)]
    size = sum(len(body) for _, _, body in wanted)
    if size > _USUAL:  # a batch is one datagram
        import _socket

        channel.setsockopt(_socket.SOL_SOCKET, _SO_SNDBUFFORCE, 2 * size)
    messages.transact(channel, wanted)


def generation_of(channel: _socket.socket) -> int:
    """A number that becomes another with each change of any table."""
    answer = messages.get(channel, _GET_GENERATION, _FAMILY)
    found: int = unpack_from(">I", attributes(answer, 4)[_GENERATION])[0]
    return found


def comment_of_table(channel: _socket.socket, table: str) -> str | None:
    """The comment of a table, which may be empty; None if there is no such table. Raises Refused."""
    try:
        answer = messages.get(channel, _GET_TABLE, _FAMILY + text(_TABLE_NAME, table))
    except messages.Refused as refused:
        if refused.errno == ENOENT:
            return None
        raise
    return _comment_in(attributes(answer, 4).get(_TABLE_DATA, b""))


def elements_of(channel: _socket.socket, table: str, name: str) -> list[Element]:
    """All elements of a set or map. Raises Refused: ENOENT if there is no such table or set."""
    found = []
    body = _FAMILY + text(_LIST_TABLE, table) + text(_LIST_SET, name)
    for answer in messages.dump(channel, _GET_ELEMENT, body):
        listed = attributes(answer, 4).get(_LIST_ELEMENTS, b"")
        found += [_read(member) for _, member in messages.every_attribute(listed)]
    return found


def _read(member: bytes) -> Element:
    said = attributes(member)
    key, last, value = (attributes(said.get(kind, b"")).get(_VALUE, b"") for kind in (_KEY, _KEY_END, _DATA))
    return Element(key, last, value, _comment_in(said.get(_USER_DATA, b"")))


def _comment_in(data: bytes) -> str:
    """The comment among the data that a user has given with something: of each a kind, a length, and the value."""
    at = 0
    while at + 2 <= len(data):
        kind, length = data[at], data[at + 1]
        if kind == _COMMENT:
            return data[at + 2 : at + 2 + length].rstrip(b"\0").decode(errors="replace")
        at += 2 + length
    return ""
