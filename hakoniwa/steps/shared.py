"""The namespaces that the containers of a barn share: made by a process that nobody sees, or that waits as pid 1 in one of them."""

from __future__ import annotations

import os

from hakoniwa.kernel.processes import prctl
from hakoniwa.steps.process.program import Execute
from hakoniwa.steps.step import Context, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket


class AwaitKeeping(Step):
    """Tell that the namespaces are complete, and wait until they are kept; then end, or go on if one of them needs a process."""

    channel: _socket.socket
    goes_on: bool

    def __str__(self) -> str:
        return "wait for the namespaces to be kept"

    def prepare(self, context: Context) -> None:
        import hakoniwa.kernel.descriptors  # noqa: F401

    def apply(self, context: Context) -> None:
        from hakoniwa.kernel import descriptors

        with prctl.Dumpable():  # else an ordinary user could not open them (`man 5 proc_pid`); nobody is inside yet
            descriptors.send(self.channel, b"made", [])
            kept = descriptors.receive(self.channel)
        self.channel.close()
        if kept is None or not self.goes_on:
            os._exit(0)  # nobody wants them any more, or nobody needs this process


class WaitAsFirst(Execute):
    """Become the first process of a pid namespace, which waits, reaps, and can be made to do nothing else from inside."""

    def __str__(self) -> str:
        return "wait as the first process of the pid namespace"

    def prepare(self, context: Context) -> None:
        super().prepare(context)
        os.fchmod(
            context.init_program, 0o111
        )  # not to be read, so that nobody inside traces it (kernel/processes/trampoline.py)

    def apply(self, context: Context) -> None:
        for stream in (0, 1, 2):
            os.close(stream)  # they lead to files of the host
        super().apply(context)
