"""A process on its way to a program: it applies its steps, the last of which executes the program, and reports what fails."""

from __future__ import annotations

import _codecs
import os
import sys

from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes import prctl, process, signals
from hakoniwa.run.process.report import tell_executing, tell_failure, tell_held
from hakoniwa.steps.step import AwaitsMaps, Context, apply_all, prepare_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from hakoniwa.steps.step import Step


class _RefuseImports:
    """Imports that come after the root is entered would execute code of the rootfs, as root."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        raise ImportError(f"{name} is not loaded yet: import it at the top of the file")


def close_imports() -> None:
    """Nothing is loaded from here on: neither modules nor what the import system has listed."""
    sys.path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache = {}  # not cleared: taking the listings of all folders apart takes time
    sys.meta_path[:] = [_RefuseImports]
    _codecs.register(_refuse_codec)  # asked last: the search that loads codecs finds none from here on


def _refuse_codec(name: str) -> None:
    raise LookupError(f"encoding {name} is not loaded yet: write `import encodings.{name}` at the top of the file")


def become(make_steps: Callable[[], Sequence[Step]], context: Context, keep: set[int]) -> NoReturn:
    """Make, prepare and apply the steps. Never returns, and never raises.

    The steps are made here, since what a supervisor allocates it keeps from being shared with the barn's process.

    `keep` are the descriptors that stay open besides the standard streams.
    """

    def go() -> None:
        _be_nobody_s(context)
        process.close_all_but(keep)
        steps = make_steps()
        if not any(isinstance(step, AwaitsMaps) for step in steps):
            prctl.become_undumpable()  # nobody inside may trace this process, or open what it has open
        prepare_all(steps, context)
        close_imports()
        apply_all(steps, context)

    _report_what_fails(go, context.status)


def become_inside(steps: Sequence[Step], context: Context, keep: set[int]) -> NoReturn:
    """Apply steps that were prepared before this process was cloned, inside already. Never returns, and never raises.

    It is undumpable already. `keep` is as in `become`.
    """

    def go() -> None:
        process.close_all_but(keep)
        close_imports()
        _be_nobody_s(context)
        apply_all(steps, context)

    _report_what_fails(go, context.status)


def _be_nobody_s(context: Context) -> None:
    """Let go of what belongs to the process that cloned this one: its signals, session and umask."""
    os.setsid()  # first: what is typed at a terminal is for the other, who may be in the foreground there
    signals.reset_all()
    os.umask(0o022)
    context.tell_executing = lambda: tell_executing(context.status, context.devpts_device)
    context.tell_held = lambda: tell_held(context.status, context.devpts_device)


def _report_what_fails(go: Callable[[], None], status: int) -> NoReturn:
    try:
        go()
    except HakoError as error:
        tell_failure(status, error)
    except OSError as error:
        tell_failure(status, HakoError(f"cannot set the container up: {error.strerror}: {error.filename}"))
    except BaseException as error:
        tell_failure(status, HakoError(f"{type(error).__name__}: {error}"))
    finally:
        os._exit(1)


def send_master(channel: int, master: int) -> None:
    """Hand the master of the pty to the front process, through a socket that stays open."""
    import _socket

    from hakoniwa.kernel import descriptors

    to_front = _socket.socket(fileno=os.dup(channel))
    descriptors.send(to_front, b"", [master])
    to_front.close()
