"""A reload from the request to its answer: the file is executed in a thread, what it says is applied by the main one.

Requests come through the control socket, by SIGHUP in the background, and with `--watch` when the file changes.
"""

from __future__ import annotations

import os
import select
from _thread import allocate_lock

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.statefile import Definition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.spec import Barn
    from hakoniwa.supervisor.control import Control
    from hakoniwa.supervisor.reload import Change
    from hakoniwa.supervisor.supervisor import Supervisor
    from hakoniwa.supervisor.watching import Watcher

_LONGEST = 60.0  # seconds that a connection waits for the main thread


class _Request:
    """A file that was loaded, on its way to the main thread; and the answer, on its way back."""

    def __init__(self, barn: Barn) -> None:
        import threading

        self.barn = barn
        self.done = threading.Event()
        self.changes: list[Change] = []
        self.error: HakoError | None = None


class Reloading:
    """All that a supervisor has to do with reloads."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._control: Control | None = None
        self._notice = -1  # an eventfd: there are requests
        self._requests: list[_Request] = []
        self._watcher: Watcher | None = None
        self._file = os.stat(supervisor.container.file) if supervisor.launch.exposed.fixed else None
        self._loading = allocate_lock()  # one at a time: the file and the loader share a session

    def listen(self, poll: select.poll, watch: bool) -> None:
        """Open the control socket, and with `watch` begin to look at the file. Raises HakoError."""
        from hakoniwa.supervisor.control import Control

        container = self._supervisor.container
        self._notice = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._control = Control(container.name, self._answer)
        except OSError as error:
            raise HakoError(f"cannot make the control socket of {container.name!r}: {error.strerror}") from None
        poll.register(self._notice, select.POLLIN)
        poll.register(self._control.descriptor, select.POLLIN)
        if watch:
            from hakoniwa.supervisor.watching import Watcher, escape

            self._watcher = Watcher((escape(container.file),), 0.2, lambda _: self.begin())

    def end(self) -> None:
        """Remove the socket."""
        if self._control is not None:
            self._control.remove(self._supervisor.container.name)

    def serve(self, poll: select.poll, ready: set[int]) -> None:
        """Take connections, and apply what has been loaded."""
        if self._control is not None and self._control.descriptor in ready:
            self._control.accept()
        if self._notice in ready:
            os.eventfd_read(self._notice)
            while self._requests:
                request = self._requests.pop(0)
                try:
                    request.changes = self._apply(poll, request.barn)
                except HakoError as error:
                    request.error = error
                except Exception as error:  # whatever a reload meets, the container goes on
                    request.error = HakoError(f"{type(error).__name__}: {error}")
                request.done.set()

    def begin(self) -> None:
        """Reload, and log what came of it: nobody waits for an answer."""
        import threading

        if self._notice == -1:
            return  # it is only just being started from the file as it is
        threading.Thread(target=self._tell, daemon=True).start()

    def _tell(self) -> None:
        answer = self._answer({"command": "reload"})
        for line in answer.get("error", "").splitlines():
            log.write(f"reload: {line}", "error")
        for what, outcome, failed in answer.get("changes", []):
            log.write(f"reload: {what}: {outcome}", "error" if failed else "info")

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Execute the file here, in this thread, and have the main one apply it."""
        if request["command"] != "reload":
            return {"error": f"unknown command {request['command']!r} (known: reload)"}
        from hakoniwa.loader import load

        try:
            self._must_be_guarded()
            with self._loading:
                loaded = _Request(load(self._supervisor.container.file, "reload"))
        except HakoError as error:
            return {"error": str(error)}
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}
        finally:
            log.flush_prints()
        self._requests.append(loaded)
        os.eventfd_write(self._notice, 1)
        if not loaded.done.wait(_LONGEST):
            return {"error": "the supervisor is busy"}
        if loaded.error is not None:
            return {"error": str(loaded.error)}
        return {"changes": [[change.what, change.outcome, change.failed] for change in loaded.changes]}

    def _must_be_guarded(self) -> None:
        """Raise HakoError where the container could have written the file.

        It is read-only inside by a mount on it. The kernel takes that away when the file is replaced outside, as many
        editors do: `man 2 rename`, and `man 7 mount_namespaces` on what is removed elsewhere.
        """
        file = self._supervisor.container.file
        if self._file is not None and not os.path.samestat(self._file, os.stat(file)):
            told = "the file was replaced by another one, which the container can write to"
            raise HakoError(told, where=file, hint="look at it and start anew; an edit in place can be reloaded")

    def _apply(self, poll: select.poll, barn: Barn) -> list[Change]:
        """Apply what differs. Raises HakoError where the file does not describe the container any more."""
        from hakoniwa.supervisor import reload

        supervisor = self._supervisor
        old, new = supervisor.container, reload.find_container(barn, supervisor.container.name)
        if "hooks" in new.reloadable:
            reload.check_hooks(new, supervisor.groups)
        changes = reload.needs_restart(old, new)
        if "cgroup" in new.reloadable:
            made = reload.apply_cgroup(old, new, supervisor.groups)
            if reload.all_applied(made):  # else the next reload tells, and tries, again
                supervisor.container = supervisor.container.replace(cgroup=new.cgroup)
            changes += made
        if "resource" in new.reloadable:
            has_own = supervisor.has_pid_namespace
            pids = reload.processes_of(supervisor.base.pid, supervisor.groups, has_pid_namespace=has_own)
            made = reload.apply_limits(old, new, pids)
            if reload.all_applied(made):
                supervisor.container = supervisor.container.replace(limits=new.limits)
            changes += made
        if "hooks" in new.reloadable and reload.hooks_differ(old, new):
            supervisor.container = supervisor.container.replace(hooks=new.hooks, background_hooks=new.background_hooks)
            supervisor.replace_hooks(poll)
            changes.append(reload.Change(what="hooks", outcome="applied"))
        supervisor.written.definition = Definition.of(supervisor.container)
        supervisor.written.write("running", supervisor.base, None)
        supervisor.run_hooks("after_reload")
        return changes
