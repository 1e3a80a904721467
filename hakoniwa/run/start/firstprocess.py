"""The clone of a container's first process."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes.process import NAMESPACES, clone, clone_from, join
from hakoniwa.places import folder_of
from hakoniwa.plan.container import Handed, process_plan
from hakoniwa.plan.flavours import flavour_of, plan
from hakoniwa.run.process import child
from hakoniwa.run.process.newprocess import NewProcess
from hakoniwa.run.process.streams import Streams, choose_streams
from hakoniwa.steps.process.program import open_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import NoReturn

    from hakoniwa.plan.container import Launch
    from hakoniwa.run.inheritance import Inheritance
    from hakoniwa.spec.records import Container
    from hakoniwa.steps.step import Step


class FirstProcess:
    """One clone. `joining` are files that join v1 cgroups, `unified` the folder of a v2 one or -1; both are closed."""

    def __init__(
        self, container: Container, launch: Launch, inherited: Inheritance, joining: list[int], unified: int
    ) -> None:
        self._container = container
        self._flavour = flavour_of(container)
        self._launch = launch
        self._inherited = inherited
        self._joining = joining
        self._unified = unified
        self.hierarchies: tuple[str, ...] = ()  # that the container has a cgroup in
        self._is_sibling = False  # it is to be a child of our own parent
        self.entered: dict[str, int] = {}  # namespaces that it is cloned into besides those that its definition names
        self.output = -1  # a pipe that takes the place of standard output and error in the background
        self.streams = Streams()
        self.run_hooks: Callable[[str], None] = lambda point: None
        self.keep_namespaces: Callable[[int], None] = lambda pid: None  # while the process of this pid waits
        self._gate = (-1, -1)  # a pipe: the first process waits at it
        self.release_end = self._hold = -1  # a pair of sockets: a byte through it releases a held process

    def make_gate(self) -> None:
        """Have the first process wait, before anything that users' hooks see, until `open_gate`."""
        self._gate = os.pipe2(os.O_CLOEXEC)

    def make_hold(self) -> None:
        """Have the first process wait before its program, until a byte is written to `release_end`."""
        from hakoniwa.kernel import descriptors

        ours, theirs = descriptors.open_pair()
        self.release_end, self._hold = ours.detach(), theirs.detach()

    def open_gate(self) -> None:
        """Let it go on, where it waits."""
        gate = self._gate[1]
        if gate != -1:
            try:
                os.write(gate, b".")
            except BrokenPipeError:
                pass  # it has failed by itself
            os.close(gate)

    def clone(self, parent: int = -1) -> tuple[int, int, int]:
        """(pid, pidfd, the read end of the pipe that tells how the set-up goes). Raises HakoError.

        `parent` is a pidfd of our own parent, where that is to have it as a child.
        """
        self._is_sibling = parent != -1
        self.streams = self._choose_streams()
        entered = self._open_entered()
        new = NewProcess(self.streams, self._inherited.front, parent)
        channel = self._open_channel()
        handed = Handed(
            hierarchies=self.hierarchies,
            folder=folder_of(self._container.name) if self._container.network is not None else "",
            joining=tuple(self._joining),
            channel=channel[1] if channel else None,
            mounts=next((descriptor for name, descriptor in entered if name == "mount"), -1),
            gate=self._gate[0],
            hold=self._hold,
        )
        steps = self._shared_steps(handed)
        try:
            pid, pidfd = new.clone(lambda: self._clone(entered), lambda: self._be_first_process(new, handed, steps))
        except OSError as error:
            raise self._refused(error) from None
        namespaces = {*(number for _, number in entered), *self._inherited.shared.values()}
        for descriptor in (self._gate[0], self._hold, *self._joining, self._unified, *namespaces):
            if descriptor != -1:
                os.close(descriptor)
        if channel:
            channel[1].close()
            self._help(pid, channel[0], handed, steps, new.writer)
        os.close(new.writer)
        return pid, pidfd, new.reader

    def _choose_streams(self) -> Streams:
        container = self._container
        redirected = [(stream, open_stream(stream)) for stream in container.process.streams if not stream.inside]
        replaced = {*self._launch.terminals, *(stream.number for stream in container.process.streams if stream.inside)}
        try:
            return choose_streams(replaced, redirected, output=self.output)
        except HakoError as error:
            error.where = error.where or container.where
            raise

    def _open_entered(self) -> list[tuple[str, int]]:
        if not self._container.namespaces.entered:
            return [*self.entered.items()]
        from hakoniwa.steps.namespaces import open_entered

        return [*open_entered(self._container.namespaces.entered, self._inherited.shared), *self.entered.items()]

    def _open_channel(self) -> tuple[_socket.socket, _socket.socket] | None:
        if not self._flavour.waits_for_host(self._container, self._launch):
            return None
        from hakoniwa.kernel import descriptors

        return descriptors.open_pair()

    def _clone(self, entered: list[tuple[str, int]]) -> tuple[int, int]:
        flags = sum(NAMESPACES[name] for name in self._flavour.clone_flags(self._container))
        cgroup = None if self._unified == -1 else self._unified
        first = [(name, descriptor) for name, descriptor in entered if name != "mount"]
        if not first:
            return clone(flags, cgroup=cgroup, sibling=self._is_sibling)
        # Who has joined a user namespace cannot join what belongs to the host any more; who is not root, only from then on.
        first.sort(key=lambda entry: (entry[0] == "user") == (os.geteuid() == 0))

        def enter() -> None:
            for name, descriptor in first:
                join(descriptor, NAMESPACES[name])

        return clone_from(enter, flags, cgroup=cgroup)

    def _refused(self, error: OSError) -> HakoError:
        names = " ".join(
            (*self._container.namespaces.own, *(entered.name for entered in self._container.namespaces.entered))
        )
        hint = "entering one takes cap_sys_admin in its user namespace" if self._container.namespaces.entered else ""
        if self._launch.maps.uids and not hint:
            from hakoniwa.known.idmaps.callerids import why_no_user_namespace

            hint = why_no_user_namespace()
        return HakoError(
            f"cannot make or enter the namespaces {names}: {error.strerror}", where=self._container.where, hint=hint
        )

    def _shared_steps(self, handed: Handed) -> list[Step] | None:
        """The plan, made once for both sides of the clone. None: each makes it for itself, as far as it needs it.

        Made before the clone, it is in pages that are copied nowhere. But in the background it would stay in memory for as
        long as the container runs.
        """
        if self._inherited.background:
            return None
        return plan(self._container, self._launch, handed)

    def _be_first_process(self, new: NewProcess, handed: Handed, steps: list[Step] | None) -> NoReturn:
        process = process_plan(self._container, self._launch)
        context = new.make_context(process.environment(self._inherited.term))
        context.run_hooks = self.run_hooks
        files = self._inherited.files or set()
        for number in files:
            os.set_inheritable(number, False)  # for the hooks, and not for the program
        keep = new.kept() | files | handed.descriptors()
        child.become(
            lambda: steps or self._flavour.steps_of(self._container, self._launch, handed, process), context, keep
        )

    def _help(self, pid: int, channel: _socket.socket, handed: Handed, steps: list[Step] | None, status: int) -> None:
        from hakoniwa.run.start.helper import OutsideHelper

        helper = OutsideHelper(self._container, self._launch, status, lambda: self.keep_namespaces(pid))
        helper.help(pid, channel, steps, lambda: plan(self._container, self._launch, handed))
