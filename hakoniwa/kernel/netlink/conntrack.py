"""Flows that the kernel tracks, of which those that lead to where nobody is any more are forgotten.

linux/netfilter/nfnetlink_conntrack.h. A datagram follows the flow that it belongs to, not the rules of today: a client that keeps its
port goes on to reach whoever had a published port before, or the host itself if that was nobody.
"""

from __future__ import annotations

from _struct import pack, unpack
from errno import EINVAL, ENOENT, EOPNOTSUPP

from hakoniwa.kernel.netlink import messages
from hakoniwa.kernel.netlink.messages import attribute, attributes, nested

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Iterable

_GET, _DELETE = (1 << 8 | number for number in (1, 2))  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_*
_ORIGINAL, _FILTER = 1, 25  # CTA_TUPLE_ORIG, CTA_FILTER
_PROTOCOL = 2  # CTA_TUPLE_PROTO
_NUMBER, _DESTINATION_PORT = 1, 3  # CTA_PROTO_NUM, CTA_PROTO_DST_PORT
_OF_ORIGINAL = 1  # CTA_FILTER_ORIG_FLAGS
_BY_PROTOCOL_AND_PORT = 1 << 3 | 1 << 5  # CTA_FILTER_FLAG(CTA_PROTO_NUM), CTA_FILTER_FLAG(CTA_PROTO_DST_PORT)


def forget_flows(channel: _socket.socket, family: int, protocol: int, ports: Iterable[int]) -> None:
    """Forget what is known of flows to these ports of any address, as their first packet named them. Raises Refused."""
    for port in ports:
        wanted = nested(
            _PROTOCOL, attribute(_NUMBER, bytes([protocol])), attribute(_DESTINATION_PORT, pack(">H", port))
        )
        by = nested(_FILTER, attribute(_OF_ORIGINAL, pack("I", _BY_PROTOCOL_AND_PORT)))
        try:
            messages.request(channel, _DELETE, 0, _family(family) + nested(_ORIGINAL, wanted) + by)
        except messages.Refused as refused:
            if refused.errno == ENOENT:
                continue
            if refused.errno not in (EINVAL, EOPNOTSUPP):
                raise
            # The kernel takes no filter here: without one it takes whole addresses only, and refuses this one.
            _forget_one_by_one(channel, family, protocol, {*ports})
            return


def _family(family: int) -> bytes:
    return pack("BBH", family, 0, 0)


def _forget_one_by_one(channel: _socket.socket, family: int, protocol: int, ports: set[int]) -> None:
    for flow in messages.dump(channel, _GET, _family(family)):
        original = attributes(flow, 4).get(_ORIGINAL, b"")
        said = attributes(attributes(original).get(_PROTOCOL, b""))
        if said.get(_NUMBER) != bytes([protocol]) or _DESTINATION_PORT not in said:
            continue
        if unpack(">H", said[_DESTINATION_PORT])[0] in ports:
            try:
                messages.request(
                    channel, _DELETE, 0, _family(family) + attribute(_ORIGINAL | messages.NESTED, original)
                )
            except messages.Refused as refused:
                if refused.errno != ENOENT:
                    raise
