"""What the host's side does for a first process that is not the host's root, until it can go on by itself."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel import descriptors
from hakoniwa.kernel.filesystem import mount
from hakoniwa.kernel.processes import process
from hakoniwa.known.ids import establish
from hakoniwa.plan.container import needs_help_outside
from hakoniwa.plan.flavours import plan
from hakoniwa.run.process.report import tell_failure
from hakoniwa.steps.namespaces import ALONE, ASSISTED
from hakoniwa.steps.step import Context, Outside, provide_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from hakoniwa.plan.container import Handed, Launch
    from hakoniwa.spec.records import Container


class OutsideHelper:
    """The help for one first process, `pid`, which waits at the other end of `channel`.

    What fails is told through `status`, the pipe that the first process reports through as well.
    """

    def __init__(
        self, container: Container, launch: Launch, handed: Handed, status: int, keep: Callable[[], None]
    ) -> None:
        self._container = container
        self._launch = launch
        self._handed = handed
        self._status = status
        self._keep = keep  # the namespaces, once they are complete

    def help(self, pid: int, channel: _socket.socket) -> None:
        """Write the id maps, keep namespaces, open what takes the host's root, and let the process go on."""
        try:
            if self._launch.maps.uids:
                establish(pid, self._launch.maps)
            if self._container.namespaces.persisted:
                descriptors.receive(channel)  # its namespaces are complete
                self._keep()
            if needs_help_outside(self._container, self._launch):
                self._open_outside(pid, channel)
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

    def _open_outside(self, pid: int, channel: _socket.socket) -> None:
        """Open things in a process with a mount namespace of its own, where layers can be mounted unseen."""
        helper, held = process.clone(process.NAMESPACES["mount"])
        if helper:
            os.waitpid(helper, 0)
            os.close(held)
            return
        try:
            mount.make_all_private()
            context = Context(supervisor=-1, status=-1, environ={})
            namespace = -1
            if self._container.has_user_namespace():
                namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            steps = plan(self._container, self._launch, self._handed)
            numbers, opened = provide_all(steps, Outside(context, pid, namespace))
            descriptors.send(channel, ASSISTED + numbers, opened)
        except HakoError as error:
            tell_failure(self._status, error)
        except BaseException as error:
            tell_failure(self._status, HakoError(f"{type(error).__name__}: {error}"))
        finally:
            os._exit(0)
