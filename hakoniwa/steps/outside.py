"""The step by which a first process that is not the host's root waits for who is, and what that says."""

from __future__ import annotations

import errno
import os

from hakoniwa.kernel.processes import idmap, prctl
from hakoniwa.steps.step import AwaitsMaps, Context, sort_provided

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket


class AwaitOutside(AwaitsMaps):
    """Wait until the host's side has written the id maps, and take what it has opened for us."""

    channel: _socket.socket | None  # None in a plan that is only shown
    user_namespace: bool  # become root of it
    announce: bool  # somebody waits for our namespaces to be complete

    def __str__(self) -> str:
        return "become root of the user namespace" if self.user_namespace else "take what was opened outside"

    def apply(self, context: Context) -> None:
        from hakoniwa.kernel import descriptors

        assert self.channel is not None
        if self.announce:
            descriptors.send(self.channel, b"here", [])
        received = descriptors.receive(self.channel)
        self.channel.close()
        prctl.become_undumpable()
        if received is None:
            os._exit(1)  # what has failed outside was told there
        message, opened = received
        if message.startswith(ASSISTED):
            context.provided = sort_provided(message.removeprefix(ASSISTED), opened)
        if self.user_namespace:
            context.look_at_user_namespace()
            idmap.become_root_inside(context.may_set_groups)

    def hint(self, error: OSError) -> str:
        return "the maps must have an id 0" if error.errno == errno.EINVAL else ""


# What the host's side says: that it has opened things, and for which steps; or that the first process can do so itself.
ASSISTED, ALONE = b"assisted", b"alone"
