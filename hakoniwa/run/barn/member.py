"""A container of a barn, as the barn's process knows it: what its supervisor has told so far."""

from __future__ import annotations

import os

from hakoniwa.errors import FAILED, HakoError
from hakoniwa.run.barn import messages
from hakoniwa.run.hooks.view import ExitStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.plan.container import Launch
    from hakoniwa.spec.records import Container
    from hakoniwa.statefile import Definition


class Member:
    """A container of the barn, as the barn's process knows it."""

    def __init__(self, container: Container, launch: Launch) -> None:
        self.container = container
        self.launch = launch
        self.supervisor = 0
        self.inbox: messages.Inbox | None = None
        self.pid = 0
        self.ready = False
        self.definition: Definition | None = None
        self.code: int | None = None
        self.signal: int | None = None
        self.error: HakoError | None = None
        self.failure_told = False  # to the `system_failure` hooks

    def is_settled(self, *, wait: bool) -> bool:
        """Whether it runs (with `wait`: is ready), has run, or could not be started."""
        return bool((self.ready if wait else self.pid) or self.error or self.inbox is None)

    def hear(self) -> bool:
        """Take what the supervisor tells. True when it has told everything, and has ended."""
        assert self.inbox is not None
        heard = self.inbox.receive()
        if heard is None:
            os.close(self.inbox.pipe)
            self.inbox = None
            os.waitpid(self.supervisor, 0)
            if self.code is None and self.error is None:
                self.error = HakoError(
                    f"the supervisor of container {self.container.name!r} was killed, and the container with it"
                )
            return True
        for kind, parts in heard:
            self.take(kind, *parts)
        return False

    def take(self, kind: str, *parts: Any) -> None:
        """Note what a message of the supervisor tells."""
        if kind == messages.RUNNING:
            (self.pid,) = parts
        elif kind == messages.READY:
            self.ready = True
        elif kind == messages.EXITED:
            self.code, self.signal = parts
        elif kind == messages.FAILED:
            self.error = messages.error_of(parts)

    def status(self) -> int:
        """What the command exits with for this container."""
        return self.error.status if self.error else FAILED if self.code is None else self.code

    def exit_status(self) -> ExitStatus:
        """The same, as hooks see it."""
        return ExitStatus(code=self.status(), signal=None if self.error else self.signal)
