"""The state of a container as its supervisor writes it down for other commands."""

from __future__ import annotations

import os

from hakoniwa import fastjson
from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem.files import lock_name
from hakoniwa.kernel.processes.pidfd import boot_id, start_time
from hakoniwa.known import state
from hakoniwa.known.statefile import End, ProcessRecord, State, definition_text
from hakoniwa.record import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    from hakoniwa.network.facts import NetworkFacts
    from hakoniwa.plan.container import Launch
    from hakoniwa.run.hooks.view import ContainerView
    from hakoniwa.run.inheritance import Inheritance
    from hakoniwa.spec.networks import Policy
    from hakoniwa.spec.records import Container


class StateWriter:
    """What is known of one run. Its attributes may be set until it is written for the last time."""

    def __init__(self, container: Container, launch: Launch, base: ContainerView, inherited: Inheritance) -> None:
        self._container = container
        self._launch = launch
        self._created_at = base.created_at
        self._log = state.log_file(container.name) if inherited.background else None
        self._barn = inherited.barn
        self.processes: tuple[ProcessRecord, ProcessRecord] | None = None  # the first one and the supervisor
        self._boot = ""
        self._lock = ""
        self._definition: fastjson.Written | None = None  # it is the same each time
        self._policy: Policy | None = None
        self.cgroups: tuple[str, ...] = ()
        self.assigned_cgroup: str | None = None
        self.devpts: int | None = None
        self.network: NetworkFacts | None = None

    def prepare(self) -> None:
        """Make the greater part of what is to be written, unless that was done; in the process that has locked the name."""
        if self._definition is None:
            self._boot = boot_id()
            self._lock = f"{os.getpid()} {lock_name(state.lock_path(self._container.name))}"
            self.define(self._container)

    def define(self, container: Container) -> None:
        """Have this definition written from now on."""
        self._definition = fastjson.Written(definition_text(container))
        self._policy = None if container.network is None else container.network.policy

    def _network_shown(self) -> dict[str, Any] | None:
        if self.network is None:
            return None
        from hakoniwa.network.facts import shown

        return shown(self.network, self._policy)

    def identify(self, init: int) -> None:
        """Note what tells the processes from any later ones with their pids; while others are busy."""
        own = self._barn if self._barn.pid == os.getpid() else own_process()
        self.processes = _process(init), own

    def write(
        self, status: Literal["created", "running", "stopped", "failed"], base: ContainerView, error: HakoError | None
    ) -> None:
        """Write it down, whole; nothing where the run came to its end before there was anything to tell. Raises HakoError."""
        if self.processes is None:
            return
        container, ended = self._container, base.exit_status
        init, supervisor = self.processes
        found = State(
            name=container.name,
            barn=container.barn,
            file=container.file,
            rootfs=container.files.rootfs.path,
            created_at=self._created_at,
            metadata=plain(container.metadata),
            origin=container.origin,
            network_shown=self._network_shown(),
            lock=self._lock,
            definition=self._definition,  # type: ignore[arg-type]  # it is written, and not read
            status=status,
            boot_id=self._boot,
            pid=init.pid,
            started=init.started,
            supervisor_pid=supervisor.pid,
            supervisor_started=supervisor.started,
            barn_process=self._barn,
            command=self._launch.command,
            capabilities=self._launch.capabilities,
            user_namespace=container.has_user_namespace(),
            cgroups=self.cgroups,
            assigned_cgroup=self.assigned_cgroup,
            persisted=tuple(kept.path for kept in container.namespaces.persisted),
            pid_file=container.container_pid_file,
            log=self._log,
            devpts=self.devpts,
            filters=tuple(program.path for program in self._launch.filters),
            network=self.network,
            error=None if error is None else str(error),
            exit=None if ended is None else End(code=ended.code, signal=ended.signal),
        )
        try:
            state.write(container.name, found)
        except OSError as failure:
            raise HakoError(
                f"cannot write the state of {container.name!r}: {failure.strerror}", hint="is the disk full?"
            ) from None


def own_process() -> ProcessRecord:
    """What tells this process from any later one with its pid."""
    return _process(os.getpid())


def _process(pid: int) -> ProcessRecord:
    return ProcessRecord(pid=pid, started=start_time(pid))
