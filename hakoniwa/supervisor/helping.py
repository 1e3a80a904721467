"""What the host's side does for a first process that is not the host's root, until it can go on by itself."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.ids import establish
from hakoniwa.kernel import descriptors, mount, process
from hakoniwa.plan import later_steps, needs_help_outside
from hakoniwa.steps.namespaces import ALONE, ASSISTED, persist
from hakoniwa.steps.step import Context, Outside, provide_all
from hakoniwa.supervisor import child

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from hakoniwa.plan import Launch
    from hakoniwa.spec import Container


def help_first_process(
    container: Container,
    launch: Launch,
    hierarchies: tuple[str, ...],
    pid: int,
    channel: _socket.socket,
    status: int,
    persisted: list[str],
) -> None:
    """Write the id maps, keep namespaces (noted in `persisted`), open what takes the host's root, and let it go on.

    What fails is told through `status`, the pipe that the first process reports through as well.
    """
    try:
        if launch.maps.uids:
            establish(pid, launch.maps)
        if container.persisted:
            descriptors.receive(channel)  # its namespaces are complete
            for kept in container.persisted:
                persist(pid, kept.name, kept.path, kept.where)
                persisted.append(kept.path)
        if needs_help_outside(container, launch):
            _open_outside(container, launch, hierarchies, pid, channel, status)
        else:
            descriptors.send(channel, ALONE, [])
    except HakoError as error:
        child.report_failure(status, error)  # the first process ends when the channel does
    except OSError:
        pass  # it has ended, and tells why
    finally:
        channel.close()


def _open_outside(
    container: Container,
    launch: Launch,
    hierarchies: tuple[str, ...],
    pid: int,
    channel: _socket.socket,
    status: int,
) -> None:
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
        if container.has_user_namespace():
            namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        opened = provide_all(later_steps(container, launch, hierarchies), Outside(context, pid, namespace))
        descriptors.send(channel, ASSISTED, opened)
    except HakoError as error:
        child.report_failure(status, error)
    except BaseException as error:
        child.report_failure(status, HakoError(f"{type(error).__name__}: {error}"))
    finally:
        os._exit(0)
