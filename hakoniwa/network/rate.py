"""How fast a container may send and be sent to: a token bucket on each end of its pair of interfaces. `man 8 tc-tbf`."""

from __future__ import annotations

import _socket
from _struct import pack

from hakoniwa.kernel.netlink import messages
from hakoniwa.kernel.netlink.messages import ACK, CREATE, REPLACE, attribute, nested

_NEW_QDISC, _DELETE_QDISC = 36, 37  # linux/rtnetlink.h
_ROOT, _HANDLE = 0xFFFFFFFF, 0x10000  # TC_H_ROOT; "1:"
_KIND, _OPTIONS = 1, 2  # TCA_…
_PARAMETERS, _RATE64, _BURST = 1, 4, 6  # TCA_TBF_…, linux/pkt_sched.h
_ETHERNET = 1  # TC_LINKLAYER_ETHERNET: so the kernel counts by itself, without a table of ours
_LARGEST = (1 << 32) - 1
_HEADER = 14  # of a frame


def limit(channel: _socket.socket, index: int, rate: int, *, mtu: int = 1500) -> None:
    """Have an interface send `rate` bytes a second at most, frames' headers included. Raises Refused.

    What has waited is sent at once, as much as goes through in a twentieth of a second; what comes faster waits for a tenth of
    a second, and is dropped then. Of both a few frames are let through whatever the rate is.
    """
    frame = mtu + _HEADER
    burst = min(max(rate // 20, 2 * frame), _LARGEST)
    queue = min(burst + max(rate // 10, 10 * frame), _LARGEST)
    whole = min(rate, _LARGEST)
    # struct tc_tbf_qopt: two of struct tc_ratespec, then the queue, and two that TCA_TBF_BURST stands for
    parameters = pack("BBHhHI12xIII", 0, _ETHERNET, 0, 0, 0, whole, queue, 0, 0)
    options = [attribute(_PARAMETERS, parameters), attribute(_BURST, pack("I", burst))]
    if rate > _LARGEST:
        options.append(attribute(_RATE64, pack("Q", rate)))
    body = _about(index) + attribute(_KIND, b"tbf\0") + nested(_OPTIONS, *options)
    messages.request(channel, _NEW_QDISC, ACK | CREATE | REPLACE, body)


def unlimit(channel: _socket.socket, index: int) -> None:
    """Have it send as fast as it can again. EINVAL if it was not limited."""
    messages.request(channel, _DELETE_QDISC, ACK, _about(index))


def _about(index: int) -> bytes:
    """struct tcmsg"""
    return pack("BxxxiIII", 0, index, _HANDLE, _ROOT, 0)
