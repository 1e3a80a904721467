"""The clone of a container's first process, and what the host's side does for it until it can go on by itself."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel import process
from hakoniwa.plan import clone_flags, environment, first_steps, later_steps, needs_help_outside
from hakoniwa.steps.join import JoinGroups
from hakoniwa.steps.step import Context, Outside, provide_all
from hakoniwa.supervisor import child

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from hakoniwa.plan import Launch
    from hakoniwa.spec import Container
    from hakoniwa.steps.step import Step
    from hakoniwa.supervisor.surroundings import Surroundings


class Cloning:
    """One clone. `joining` are files that join v1 cgroups, `unified` the folder of a v2 one or -1; both are closed."""

    def __init__(
        self, container: Container, launch: Launch, around: Surroundings, joining: list[int], unified: int
    ) -> None:
        self._container = container
        self._launch = launch
        self._around = around
        self._joining = joining
        self._unified = unified
        self.hierarchies: tuple[str, ...] = ()  # that the container has a cgroup in
        self.persisted: list[str] = []  # the paths of namespaces that are kept
        self.output = -1  # takes the place of standard output and error in the background
        self.run_hooks: Callable[[str], None] = lambda point: None

    def clone(self) -> tuple[int, int, int]:
        """(pid, pidfd, the read end of the pipe that tells how the set-up goes). Raises HakoError."""
        entered = self._open_entered()
        own = os.pidfd_open(os.getpid())
        reader, writer = os.pipe2(os.O_CLOEXEC)
        channel = self._open_channel()
        try:
            pid, pidfd = self._clone(entered)
        except OSError as error:
            raise self._refused(error) from None
        if pid == 0:
            if channel:
                channel[0].close()
            self._be_first_process(entered, channel[1] if channel else None, own, writer)
        for descriptor in (own, *self._joining, self._unified, *(descriptor for _, descriptor in entered)):
            if descriptor != -1:
                os.close(descriptor)
        if channel:
            channel[1].close()
            self._help(pid, channel[0], writer)
        os.close(writer)
        return pid, pidfd, reader

    def _open_entered(self) -> list[tuple[str, int]]:
        if not self._container.entered:
            return []
        from hakoniwa.steps.namespaces import open_entered

        return open_entered(self._container.entered)

    def _open_channel(self) -> tuple[_socket.socket, _socket.socket] | None:
        kept = self._container.persisted
        if not (kept or self._launch.maps.uids or needs_help_outside(self._container, self._launch)):
            return None
        from hakoniwa.kernel import descriptors

        return descriptors.open_pair()

    def _clone(self, entered: list[tuple[str, int]]) -> tuple[int, int]:
        flags = sum(process.NAMESPACES[name] for name in clone_flags(self._container))
        cgroup = None if self._unified == -1 else self._unified
        # A pid namespace takes children only; and what is made in a user namespace belongs to it.
        first = [(name, descriptor) for name, descriptor in entered if name in ("user", "pid")]
        if not first:
            return process.clone(flags, cgroup=cgroup)

        def enter() -> None:
            for name, descriptor in sorted(first):
                process.join(descriptor, process.NAMESPACES[name])

        return process.clone_from(enter, flags, cgroup=cgroup)

    def _refused(self, error: OSError) -> HakoError:
        names = " ".join((*self._container.namespaces, *(entered.name for entered in self._container.entered)))
        hint = ""
        if self._launch.maps.uids:
            from hakoniwa.ids import why_no_user_namespace

            hint = why_no_user_namespace()
        return HakoError(
            f"cannot make the namespaces {names}: {error.strerror}", where=self._container.where, hint=hint
        )

    def _be_first_process(
        self, entered: list[tuple[str, int]], channel: _socket.socket | None, own: int, writer: int
    ) -> None:
        container = self._container
        if self.output != -1:
            os.dup2(self.output, 1)
            os.dup2(self.output, 2)
        context = Context(supervisor=own, status=writer, environ=environment(container, self._around.term))
        context.run_hooks = self.run_hooks
        if self._around.front != -1:
            context.front = lambda master: child.send_master(self._around.front, master)
        later = tuple((name, descriptor) for name, descriptor in entered if name not in ("user", "pid"))
        keep = {self._around.front, *self._joining, *(descriptor for _, descriptor in later)}
        if channel is not None:
            keep.add(channel.fileno())

        def make_steps() -> list[Step]:
            steps: list[Step] = [JoinGroups(files=tuple(self._joining))] if self._joining else []
            steps += first_steps(container)
            if channel is not None or later:
                from hakoniwa.steps.namespaces import AwaitOutside, EnterNamespaces

                if channel is not None:
                    inner, announce = container.has_user_namespace(), bool(container.persisted)
                    steps.append(AwaitOutside(channel=channel, user_namespace=inner, announce=announce))
                if later:
                    steps.append(EnterNamespaces(entered=later, where=container.entered[0].where))
            return [*steps, *later_steps(container, self._launch, self.hierarchies)]

        child.become(make_steps, context, keep)

    def _help(self, pid: int, channel: _socket.socket, status: int) -> None:
        """Write the id maps, open what takes the host's root, and let the first process go on."""
        from hakoniwa.kernel import descriptors
        from hakoniwa.steps.namespaces import ALONE

        try:
            if self._launch.maps.uids:
                from hakoniwa.ids import establish

                establish(pid, self._launch.maps)
            if self._container.persisted:
                descriptors.receive(channel)
                self._persist(pid)
            if needs_help_outside(self._container, self._launch):
                self._open_outside(pid, channel, status)
            else:
                descriptors.send(channel, ALONE, [])
        except HakoError as error:
            child.report_failure(status, error)  # the first process ends when the channel does
        except OSError:
            pass  # it has ended, and tells why
        finally:
            channel.close()

    def _persist(self, pid: int) -> None:
        """Keep the namespaces that the file wants kept, while the process that is in them waits for us."""
        from hakoniwa.steps.namespaces import persist

        for kept in self._container.persisted:
            persist(pid, kept.name, kept.path, kept.where)
            self.persisted.append(kept.path)

    def release(self) -> None:
        """Let go of what was kept, where the container never ran."""
        for path in self.persisted:
            from hakoniwa.steps.namespaces import release

            release(path)

    def _open_outside(self, pid: int, channel: _socket.socket, status: int) -> None:
        """Open things in a process with a mount namespace of its own, where layers can be mounted unseen."""
        helper, held = process.clone(process.NAMESPACES["mount"])
        if helper:
            os.waitpid(helper, 0)
            os.close(held)
            return
        from hakoniwa.kernel import descriptors, mount
        from hakoniwa.steps.namespaces import ASSISTED

        try:
            mount.make_all_private()
            context = Context(supervisor=-1, status=-1, environ={})
            namespace = -1
            if self._container.has_user_namespace():
                namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            steps = later_steps(self._container, self._launch, self.hierarchies)
            opened = provide_all(steps, Outside(context, pid, namespace))
            descriptors.send(channel, ASSISTED, opened)
        except HakoError as error:
            child.report_failure(status, error)
        except BaseException as error:
            child.report_failure(status, HakoError(f"{type(error).__name__}: {error}"))
        finally:
            os._exit(0)
