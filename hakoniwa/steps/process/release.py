"""The last step of a held container before its program: it waits to be released."""

from __future__ import annotations

import os

from hakoniwa.kernel.filesystem.files import wait_readable
from hakoniwa.kernel.processes import signals
from hakoniwa.steps.step import Context, Step


class AwaitRelease(Step):
    """Wait for a byte from the supervisor, through a socket.

    Nobody else can write to that: unlike a pipe, a socket cannot be opened once more through /proc/PID/fd (`man 5 proc_pid_fd`),
    and this process is undumpable. What asks to end is heard meanwhile; as pid 1, it would be dropped otherwise.
    """

    channel: int

    def __str__(self) -> str:
        return "wait to be released"

    def apply(self, context: Context) -> None:
        wakeup = signals.listen(signals.ENDING)
        context.tell_held()
        ready = wait_readable(wakeup, self.channel)
        if wakeup in ready:
            os._exit(128 + signals.take(wakeup)[0])
        if not os.read(self.channel, 1):
            os._exit(1)  # the supervisor is gone
        signals.reset_all()
        for descriptor in (wakeup, self.channel):
            os.close(descriptor)
