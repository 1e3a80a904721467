"""The state of a container as its supervisor writes it down for other commands."""

from __future__ import annotations

import os

from hakoniwa import state
from hakoniwa.errors import HakoError
from hakoniwa.kernel.pidfd import boot_id, start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.plan import Launch
    from hakoniwa.spec import Container
    from hakoniwa.supervisor.base import Base


class WrittenState:
    """What is known of one run. `facts` may be added to until it is written for the last time."""

    def __init__(self, container: Container, launch: Launch, base: Base, *, background: bool) -> None:
        self._name = container.name
        self._barn_process = os.getppid()
        self.facts: dict[str, Any] = {
            "name": container.name,
            "barn": container.barn,
            "file": container.file,
            "created_at": base.created_at,
            "cgroups": [],
            "assigned_cgroup": None,
            "persisted": [kept.path for kept in container.persisted],
            "pid_file": container.container_pid_file,
            "rootfs": container.rootfs.path,
            "log": state.log_file(container.name) if background else None,
            "devpts": None,
            "capabilities": launch.capabilities,
            "filters": [program.path for program in launch.filters],
            "user_namespace": container.has_user_namespace(),
            "command": launch.command,
        }

    def identify(self, definition: dict[str, Any], init: int) -> None:
        """Note what tells the processes from any later ones with their pids, and the definition; while others are busy."""
        self.facts |= {
            "init": _identity(init),
            "supervisor": _identity(os.getpid()),
            # The barn's process, which in the background outlives the supervisor by its last hooks.
            "barn_process": _identity(self._barn_process),
            "boot_id": boot_id(),
            "definition": definition,
        }

    def write(self, status: str, base: Base, error: HakoError | None) -> None:
        """Write it down. Raises HakoError."""
        ended = base.exit_status
        facts = {
            **self.facts,
            "status": status,
            "error": None if error is None else str(error),
            "exit": None if ended is None else {"code": ended.code, "signal": ended.signal},
        }
        try:
            state.write(self._name, facts)
        except OSError as failure:
            raise HakoError(
                f"cannot write the state of {self._name!r}: {failure.strerror}", hint="is the disk full?"
            ) from None


def _identity(pid: int) -> dict[str, int]:
    return {"pid": pid, "started": start_time(pid)}
