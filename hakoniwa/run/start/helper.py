"""What the host's side does for a first process that is not the host's root, until it can go on by itself."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel import descriptors
from hakoniwa.kernel.filesystem import mount
from hakoniwa.kernel.filesystem.files import read_file
from hakoniwa.kernel.processes import process
from hakoniwa.known.idmaps.ids import establish
from hakoniwa.plan.container import needs_help_outside
from hakoniwa.run.process.report import tell_failure
from hakoniwa.steps.outside import ALONE, ASSISTED
from hakoniwa.steps.step import Context, Outside, provide_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Sequence

    from hakoniwa.plan.container import Launch
    from hakoniwa.spec.records import Container
    from hakoniwa.steps.step import Step


def close(opened: Sequence[int]) -> None:
    """Let go of what the first process has by now."""
    for descriptor in opened:
        os.close(descriptor)


class OutsideHelper:
    """The help for one first process, `pid`, which waits at the other end of `channel`.

    What fails is told through `status`, the pipe that the first process reports through as well.
    """

    def __init__(self, container: Container, launch: Launch, status: int, keep: Callable[[], None]) -> None:
        self._container = container
        self._launch = launch
        self._status = status
        self._keep = keep  # the namespaces, once they are complete, or serve them while they can be opened

    def help(
        self, pid: int, channel: _socket.socket, steps: list[Step] | None, make_steps: Callable[[], list[Step]]
    ) -> None:
        """Write the id maps, keep namespaces, open what takes the host's root, and let the process go on.

        `steps` is the plan if it was made, else it is made in a process that ends.
        """
        try:
            if self._launch.maps.uids:
                establish(pid, self._launch.maps)
            if self._container.namespaces.persisted:
                descriptors.receive(channel)  # its namespaces are complete
            if self._container.namespaces.persisted or self._container.network is not None:
                self._keep()
            if needs_help_outside(self._container, self._launch):
                self._open_outside(pid, channel, steps, make_steps)
            else:
                descriptors.send(channel, ALONE, [])
        except HakoError as error:
            tell_failure(self._status, error)  # the first process ends when the channel does
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has ended, and tells why
        except OSError as error:
            told = f"cannot open what the container needs outside: {error.strerror}: {error.filename}"
            tell_failure(self._status, HakoError(told, where=self._container.where))
        finally:
            channel.close()

    def _open_outside(
        self, pid: int, channel: _socket.socket, steps: list[Step] | None, make_steps: Callable[[], list[Step]]
    ) -> None:
        """Open things: here if nothing has to be mounted for that, else in a process that mounts unseen."""
        if steps is not None and self._can_open_here():
            close(self._provide(pid, channel, steps))
            return
        helper, held = process.clone(process.NAMESPACES["mount"])
        if helper:
            os.waitpid(helper, 0)
            os.close(held)
            return
        try:
            mount.make_all_private()
            self._provide(pid, channel, steps or make_steps())
        except HakoError as error:
            tell_failure(self._status, error)
        except BaseException as error:
            tell_failure(self._status, HakoError(f"{type(error).__name__}: {error}"))
        finally:
            os._exit(0)

    def _can_open_here(self) -> bool:
        """Whether all is a copy of what is mounted: layers have to be mounted, and what is unbindable to be made bindable."""
        if self._container.files.rootfs.layered or self._launch.layers:
            return False
        return b" unbindable" not in read_file("/proc/self/mountinfo")

    def _provide(self, pid: int, channel: _socket.socket, steps: list[Step]) -> list[int]:
        """Open things, and send them. Returns what was opened."""
        opened: list[int] = []
        namespace = -1
        if self._container.has_user_namespace():
            namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            opened.append(namespace)
        outside = Outside(Context(supervisor=-1, status=-1, environ={}), pid, namespace)
        numbers, provided = provide_all(steps, outside)
        descriptors.send(channel, ASSISTED + numbers, provided)
        return opened + provided
