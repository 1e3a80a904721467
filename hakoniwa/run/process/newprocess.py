"""The one way to a process inside, for a container's first one and for a further one: what both are given, and the clone.

The clone keeps nothing of ours but what it is given: streams, a pidfd of ours (to end with us), and the pipe that tells us
how it fares. It becomes its program by itself (child.py).
"""

from __future__ import annotations

import os

from hakoniwa.run.process import child
from hakoniwa.steps.step import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from hakoniwa.run.process.streams import Streams


class NewProcess:
    """A process that is to be cloned. `front` is a socket that takes the master of its pty, or -1.

    `parent` is a pidfd of its parent, unless that is this process.
    """

    def __init__(self, streams: Streams, front: int, parent: int = -1) -> None:
        self.streams = streams
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC)  # it tells how it fares
        self._front = front
        self._parent = os.pidfd_open(os.getpid()) if parent == -1 else parent

    def make_context(self, environ: dict[str, str]) -> Context:
        """What its steps share. It may be made before the clone, or in it."""
        context = Context(supervisor=self._parent, status=self.writer, environ=environ)
        context.files, context.null_streams = self.streams.files, self.streams.null
        if self._front != -1:
            context.front = lambda master: child.send_master(self._front, master)
        return context

    def kept(self) -> set[int]:
        """The descriptors that it keeps in any case."""
        inherited = self.streams.inherited.values()
        return {self._parent, self.writer, self._front, *inherited, *self.streams.files.values()} - {-1}

    def clone(self, cloning: Callable[[], tuple[int, int]], become: Callable[[], NoReturn]) -> tuple[int, int]:
        """Clone it by `cloning`, and have the clone `become` its program: (pid, pidfd).

        `writer` stays open here, for who has to tell something in its place. Raises what `cloning` raises.
        """
        try:
            pid, pidfd = cloning()
            if pid == 0:
                for number, descriptor in self.streams.inherited.items():
                    os.dup2(descriptor, number)
                for descriptor in {*self.streams.inherited.values()}:
                    os.close(descriptor)
                become()
        finally:  # never in the clone, which does not return
            self.streams.close()
            os.close(self._parent)
        return pid, pidfd
