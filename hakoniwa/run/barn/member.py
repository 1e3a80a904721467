"""A container of a barn, as the barn's process knows it: what its supervisor has told so far."""

from __future__ import annotations

import os

from hakoniwa.errors import FAILED, HakoError
from hakoniwa.run.barn import messages
from hakoniwa.run.hooks.view import ExitStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    from hakoniwa.plan.container import Launch
    from hakoniwa.run.barn.late.requests import Fare
    from hakoniwa.spec.records import Barn, Container


class Member:
    """A container of the barn, as the barn's process knows it."""

    def __init__(
        self, name: str, container: Container | None = None, launch: Launch | None = None, packed: bytes = b""
    ) -> None:
        """With its container, and how that is launched; or with a container that was added, packed."""
        self.name = name
        self.container = container
        self.launch = launch
        self._packed = packed
        self._hold = False  # once it is started after it was added
        self.supervisor = 0
        self.inbox: messages.Inbox | None = None
        self.pid = 0
        self.held = False
        self.ready = False
        self.code: int | None = None
        self.signal: int | None = None
        self.error: HakoError | None = None
        self.failure_told = False  # to the `system_failure` hooks

    def take_up(self, barn: Barn) -> tuple[Container, Launch]:
        """The container, and how it is launched now: in the process that is to supervise it. Raises HakoError."""
        container = self.container
        if container is None:
            from hakoniwa.run.barn.late.packing import unpack

            container = unpack(self._packed)
        if self.launch is not None:
            return container, self.launch
        from hakoniwa.run.prepare import prepare_one

        container, launch = prepare_one(container, barn)
        return container, launch.replace(hold=self._hold)

    def begin_anew(self, *, hold: bool) -> None:
        """Forget how it has fared, before a further start: what the host gives for it may be another by now."""
        self._hold = hold
        self.supervisor = self.pid = 0
        self.launch = self.code = self.signal = self.error = None
        self.held = self.ready = self.failure_told = False

    def is_settled(self, *, wait: bool) -> bool:
        """Whether it runs or is held (with `wait`: is ready), has run, or could not be started."""
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
                    f"the supervisor of container {self.name!r} was killed, and the container with it"
                )
            return True
        for kind, parts in heard:
            self.take(kind, *parts)
        return False

    def take(self, kind: str, *parts: Any) -> None:
        """Note what a message of the supervisor tells."""
        if kind in (messages.HELD, messages.RUNNING):
            (self.pid,), self.held = parts, kind == messages.HELD
        elif kind == messages.READY:
            self.ready = True
        elif kind == messages.EXITED:
            self.code, self.signal = parts
        elif kind == messages.FAILED:
            self.error = messages.error_of(parts)

    def status(self) -> int:
        """What the command exits with for this container."""
        return self.error.status if self.error else FAILED if self.code is None else self.code

    def fare(self) -> Fare:
        """How it fares, as it is told outside."""
        from hakoniwa.run.barn.late.requests import Fare

        status: Literal["added", "starting", "created", "running", "stopped", "failed"] = "starting"
        if self.pid:
            status = "created" if self.held else "running"
        if self.inbox is None:
            status = "failed" if self.error else "added" if self.code is None else "stopped"
        return Fare(
            name=self.name,
            status=status,
            pid=self.pid if self.inbox is not None and self.pid else None,
            code=self.code,
            signal=self.signal,
            error=str(self.error) if self.error else None,
        )

    def exit_status(self) -> ExitStatus:
        """The same, as hooks see it."""
        return ExitStatus(code=self.status(), signal=None if self.error else self.signal)
