"""A reload from the request to its answer: the file is executed in a thread, what it says is applied by the main one.

Requests come through the control socket, by SIGHUP in the background, and with `--watch` when the file changes.
"""

from __future__ import annotations

import os
from _thread import allocate_lock

from hakoniwa import log
from hakoniwa.errors import HakoError, explained
from hakoniwa.log import flush_prints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.run.control import Control
    from hakoniwa.run.hooks.watch import Watcher
    from hakoniwa.run.life import Life
    from hakoniwa.run.loop import Loop
    from hakoniwa.run.reload.changes import Change
    from hakoniwa.run.reload.loader import Loader
    from hakoniwa.spec.records import Barn

_QUEUED = 60.0  # seconds that a reload waits for those before it
_BUSY = 60.0  # seconds that it waits for the main thread, which may be at a hook


class _Request:
    """A file that was loaded, on its way to the main thread; and the answer, on its way back."""

    def __init__(self, barn: Barn) -> None:
        import threading

        self.barn = barn
        self.done = threading.Event()
        self.changes: list[Change] = []
        self.error: HakoError | None = None


class Reloader:
    """All that a supervisor has to do with reloads."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._control: Control | None = None
        self._listens = False
        self._notice = -1  # an eventfd: there are requests
        self._requests: list[_Request] = []
        self._watcher: Watcher | None = None
        self._loader: Loader | None = None
        file, guarded = life.container.file, bool(life.launch.exposed.fixed)
        self._file = os.stat(file) if guarded and file else None
        self._one_at_a_time = allocate_lock()
        self._beginning = allocate_lock()  # over the two that follow
        self._begun = False  # a thread reloads without anybody who waits for its answer
        self._again = False  # and is to do so once more

    def open(self) -> None:
        """Open the control socket. Who connects waits until we `listen`. Raises HakoError."""
        from hakoniwa.run.control import Control

        name = self._life.container.name
        try:
            self._notice = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._control = Control(name, self._answer)
        except OSError as error:
            raise HakoError(f"cannot make the control socket of {name!r}: {error.strerror}") from None
        self._life.undo.add("remove the control socket", self._end)

    def listen(self, loop: Loop, watch: bool) -> None:
        """Take requests, and with `watch` begin to look at the file. Raises HakoError."""
        if self._control is None:
            self.open()
        assert self._control is not None
        loop.add(self._notice, self._serve, "reload")
        loop.add(self._control.descriptor, self._control.accept, "take a request")
        self._listens = True
        if watch:
            from hakoniwa.run.hooks.watch import Watcher, escape

            self._watcher = Watcher((escape(self._life.container.file),), 0.2, lambda _: self.begin())

    def descriptors(self) -> list[int]:
        """Those that `open` has opened."""
        opened = [] if self._control is None else [self._control.descriptor]
        return opened if self._notice == -1 else [self._notice, *opened]

    def let_go(self) -> None:
        """Close them, in a process that is not the supervisor."""
        if self._notice != -1:
            os.close(self._notice)
        if self._control is not None:
            self._control.close()

    def _end(self) -> None:
        assert self._control is not None
        self._control.close()  # and not removed alone: the last that is written may need its descriptor
        self._control.remove(self._life.container.name)

    def _serve(self) -> None:
        """Apply what has been loaded."""
        os.eventfd_read(self._notice)
        while self._requests:
            request = self._requests.pop(0)
            try:
                request.changes = self._apply(request.barn)
            except HakoError as error:
                request.error = error
            except Exception as error:  # whatever a reload meets, the container goes on
                request.error = HakoError(explained(error))
            request.done.set()

    def begin(self) -> None:
        """Reload, and log what came of it: nobody waits for an answer. What comes while one is at it is done after it."""
        if not self._listens:
            return  # it is only just being started from the file as it is
        with self._beginning:
            self._again = self._begun
            if self._begun:
                return
            self._begun = True
        import threading

        try:
            threading.Thread(target=self._tell, daemon=True).start()
        except RuntimeError as error:
            self._begun = False
            log.write(f"{self._life.container.name}: cannot reload: {error}", "error")

    def _tell(self) -> None:
        while True:
            answer = self._answer({"command": "reload"})
            for line in answer.get("error", "").splitlines():
                log.write(f"reload: {line}", "error")
            for what, outcome, failed in answer.get("changes", []):
                log.write(f"reload: {what}: {outcome}", "error" if failed else "info")
            with self._beginning:
                if not self._again:
                    self._begun = False
                    return
                self._again = False

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Execute the file, and have the main thread apply what it says; called in the thread of a connection."""
        if request["command"] != "reload":
            return {"error": f"unknown command {request['command']!r} (known: reload)"}
        try:
            if not self._life.container.file:
                told = f"container {self._life.container.name!r} was started from standard input"
                raise HakoError(f"{told}, and there is no file to read again", hint="start it with --spec FILE")
            self._must_be_guarded()
            loaded = _Request(self._load())
            changes = self._await(loaded)
        except HakoError as error:
            return {"error": str(error)}
        except Exception as error:
            return {"error": explained(error)}
        finally:
            flush_prints()
        return {"changes": [[change.what, change.outcome, change.failed] for change in changes]}

    def _load(self) -> Barn:
        if not self._one_at_a_time.acquire(timeout=_QUEUED):
            raise HakoError("other reloads are being made", hint="try again")
        try:
            if self._loader is None:
                from hakoniwa.run.reload.loader import Loader

                self._loader = Loader(self._life.container.file)
            return self._loader.load()
        finally:
            self._one_at_a_time.release()

    def _must_be_guarded(self) -> None:
        """Raise HakoError where the container could have written the file.

        It is read-only inside by a mount on it. The kernel takes that away when the file is replaced outside, as many
        editors do: `man 2 rename`, and `man 7 mount_namespaces` on what is removed elsewhere.
        """
        file = self._life.container.file
        if self._file is not None and not os.path.samestat(self._file, os.stat(file)):
            told = "the file was replaced by another one, which the container can write to"
            raise HakoError(told, where=file, hint="look at it and start anew; an edit in place can be reloaded")

    def _await(self, loaded: _Request) -> list[Change]:
        """Have it applied. Raises HakoError."""
        self._requests.append(loaded)
        os.eventfd_write(self._notice, 1)
        if not loaded.done.wait(_BUSY):
            try:
                self._requests.remove(loaded)
            except ValueError:
                loaded.done.wait()  # it is being applied
            else:
                raise HakoError("the supervisor is busy, and nothing has changed", hint="is a hook at work? try again")
        if loaded.error is not None:
            raise loaded.error
        return loaded.changes

    def _apply(self, barn: Barn) -> list[Change]:
        """Apply what differs. Raises HakoError where the file does not describe the container any more."""
        from hakoniwa.run.reload import changes as reload

        life = self._life
        old, new = life.container, reload.find_container(barn, life.container.name)
        if "hooks" in new.reloadable:
            reload.check_hooks(new, life.groups)
        other_hooks = "hooks" in new.reloadable and reload.hooks_differ(old, new)
        if other_hooks:  # first, as they may be refused: then nothing has changed
            life.hooks_beside().replace(new.hooks.background)
            life.container = life.container.replace(hooks=new.hooks)
        changes = reload.needs_restart(old, new)
        if "cgroup" in new.reloadable:
            made = reload.apply_cgroup(old, new, life.groups)
            if reload.all_applied(made):  # else the next reload tells, and tries, again
                life.container = life.container.replace(
                    resources=life.container.resources.replace(cgroup=new.resources.cgroup)
                )
            changes += made
        if "resource" in new.reloadable:
            has_own = life.container.has_pid_namespace()
            pids = reload.processes_of(life.base.pid, life.groups, has_pid_namespace=has_own)
            made = reload.apply_limits(old, new, pids)
            if reload.all_applied(made):
                life.container = life.container.replace(
                    resources=life.container.resources.replace(limits=new.resources.limits)
                )
            changes += made
        if other_hooks:
            changes.append(reload.Change(what="hooks", outcome="applied"))
        life.statewriter.define(life.container)
        life.statewriter.write("running", life.base, None)
        life.run_hooks("after_reload")
        return changes
