"""A reload from the request to its answer: the file is executed in a thread, what it says is applied by the main one.

Requests come through the control socket, by SIGHUP in the background, and with `--watch` when the file changes.
"""

from __future__ import annotations

import os
from _thread import allocate_lock

from hakoniwa import log
from hakoniwa.errors import HakoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.run.control.messages import Answer, Change
    from hakoniwa.run.control.requests import Requests
    from hakoniwa.run.hooks.watch import Watcher
    from hakoniwa.run.life import Life
    from hakoniwa.run.reload.loader import Loader
    from hakoniwa.spec.records import Barn

_QUEUED = 60.0  # seconds that a reload waits for those before it


class Reloader:
    """All that a supervisor has to do with reloads."""

    def __init__(self, life: Life, requests: Requests, guarded: os.stat_result | None) -> None:
        """`guarded` is the file as it was at the start, if the container could write to it otherwise."""
        self._life = life
        self._requests = requests
        requests.answer("reload", self._answer)
        self._listens = False
        self._watcher: Watcher | None = None
        self._loader: Loader | None = None
        self._guarded = guarded
        self._one_at_a_time = allocate_lock()
        self._beginning = allocate_lock()  # over the two that follow
        self._begun = False  # a thread reloads without anybody who waits for its answer
        self._again = False  # and is to do so once more

    def listen(self, *, watch: bool) -> None:
        """Reload when `begin` is called, and with `watch` when the file changes."""
        self._listens = True
        if watch:
            from hakoniwa.run.hooks.watch import Watcher, escape

            self._watcher = Watcher((escape(self._life.container.file),), 0.2, lambda _: self.begin())

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
            try:
                for change in self._requests.ask("reload").changes:
                    log.write(f"reload: {change.what}: {change.outcome}", "error" if change.failed else "info")
            except HakoError as error:
                for line in error.lines():
                    log.write(f"reload: {line}", "error")
            with self._beginning:
                if not self._again:
                    self._begun = False
                    return
                self._again = False

    def _answer(self) -> Answer:
        """Execute the file, and have the main thread apply what it says; called in the thread of a connection."""
        name = self._life.container.name
        if not self._life.container.file:
            told = f"container {name!r} was started from standard input, and there is no file to read again"
            raise HakoError(told, hint="start it with --spec FILE")
        if self._life.status != "running":
            raise HakoError(f"container {name!r} is held: its program does not run yet", hint=f"hako release -n {name}")
        self._must_be_guarded()
        barn = self._load()
        from hakoniwa.run.control.messages import Answer

        return Answer(changes=tuple(self._requests.call(lambda: self._apply(barn))))

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
        if self._guarded is not None and not os.path.samestat(self._guarded, os.stat(file)):
            told = "the file was replaced by another one, which the container can write to"
            raise HakoError(told, where=file, hint="look at it and start anew; an edit in place can be reloaded")

    def _apply(self, barn: Barn) -> list[Change]:
        """Apply what differs. Raises HakoError where the file does not describe the container any more."""
        from hakoniwa.run.control.messages import Change
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
        if life.container.network is not None:
            from hakoniwa.run.reload.networks import apply_network

            changes += apply_network(life, new)
        if other_hooks:
            changes.append(Change(what="hooks", outcome="applied"))
        life.statewriter.define(life.container)
        life.statewriter.write(life.status, life.base, None)
        life.run_hooks("after_reload")
        return changes
