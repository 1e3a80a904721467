"""`base` and `barn`: what a hook sees of the running container, and of the barn."""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.errors import HakoError, nearest
from hakoniwa.kernel.processes.signals import by_name, pidfd_send_signal
from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping
    from typing import Self

    from hakoniwa.network.facts import NetworkFacts
    from hakoniwa.run.start.groups import Groups
    from hakoniwa.spec.records import Barn, Container


class ExitStatus(Record):
    """How a container ended: `code` as a shell has it (128+n after signal n), and the signal or None."""

    code: int
    signal: int | None

    @classmethod
    def of(cls, wait_status: int, error: HakoError | None) -> Self:
        """From what `waitpid` tells; from `error` where the program never ran."""
        if error is not None:
            return cls(code=error.status, signal=None)
        code = os.waitstatus_to_exitcode(wait_status)
        return cls(code=code if code >= 0 else 128 - code, signal=-code if code < 0 else None)

    @property
    def success(self) -> bool:
        """Whether the code is 0."""
        return self.code == 0


def _checked_log(name: str, text: str, level: str) -> None:
    if level not in log.LEVELS:
        raise ValueError(f"log level {level!r} is unknown ({nearest(str(level), list(log.LEVELS))})")
    log.write_text(text, level, name)


class ContainerView:
    """The running container, as hooks see it."""

    def __init__(self, container: Container, supervisor_pid: int, created_at: str) -> None:
        self._container = container
        self._pidfd: int | None = None
        self._groups: Groups | None = None
        self.pid = 0
        self.supervisor_pid = supervisor_pid
        self.created_at = created_at
        self.exit_status: ExitStatus | None = None
        self.network: NetworkFacts | None = None  # its addresses, names of interfaces, ports; None: that of the host

    @property
    def name(self) -> str:
        """The container's name."""
        return self._container.name

    @property
    def hostname(self) -> str:
        """Its host name."""
        return self._container.hostname

    @property
    def metadata(self) -> Mapping[str, object]:
        """The free keys and values of the file."""
        return self._container.metadata

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment that the file sets."""
        return self._container.process.environ

    @property
    def rootfs(self) -> str:
        """The root as the host sees it: the container's own view while it runs, then the folder of the rootfs."""
        running = self.pid and self.exit_status is None
        return f"/proc/{self.pid}/root" if running else self._container.files.rootfs.path

    @property
    def cgroup(self) -> Groups:
        """The parameters of the container's cgroups by their kernel names: read (a number where it is one) and written."""
        if self._groups is None:
            raise HakoError(f"container {self.name!r} has no cgroup", hint="set a parameter or a limit in its file")
        return self._groups

    def log(self, text: str, level: str = "info") -> None:
        """Write to the log, line by line."""
        _checked_log(self.name, text, level)

    def kill(self, sig: str | int = "TERM") -> None:
        """Send a signal to the container's first process, and do not wait."""
        if self._pidfd is None:
            raise HakoError(f"container {self.name!r} does not run: there is nothing to send {sig} to")
        pidfd_send_signal(self._pidfd, by_name(str(sig)))

    def run(self, argv: list[str], timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command inside, with every restriction of the container, and return it completed, its output as text.

        That is what `hako attach` does, in a process of its own: beside threads, Python must not be forked. The exit
        status is as there. Of each stream the first 4 MiB are kept; that more was dropped is logged. What the command
        leaves running is not waited for. Raises subprocess.TimeoutExpired after `timeout` seconds, when the command has
        been ended.
        """
        if self._pidfd is None:
            raise HakoError(f"container {self.name!r} does not run: nothing can run inside")
        import sys

        from hakoniwa.run.process.bounded import run_bounded

        words = [sys.executable, "-I", "-m", "hakoniwa", "attach", "-n", self.name, "--", *argv]
        completed, dropped = run_bounded(words, timeout)
        if dropped:
            self.log(
                f"{dropped} bytes of the output of {argv[0]!r} were dropped: 4 MiB of each stream are kept", "warning"
            )
        return completed


class BarnView:
    """The barn, as the hooks `setup`, `teardown` and `system_failure` see it.

    In `system_failure`, `failed` names the container that could not be started or was lost (None: the barn itself was
    refused), `system_exception` says why, and `exit_status` is what the command exits with for it. In `teardown`, the
    latter two are those of the first container that failed; `exit_statuses` has what is known of each by its name.
    """

    def __init__(self, barn: Barn) -> None:
        self.name = barn.name
        self.file = barn.file
        self.names = [container.name for container in barn.containers]
        self.failed: str | None = None
        self.system_exception: HakoError | None = None
        self.exit_status: ExitStatus | None = None
        self.exit_statuses: dict[str, ExitStatus] = {}

    def log(self, text: str, level: str = "info") -> None:
        """Write to the log, line by line."""
        _checked_log(self.name, text, level)
