"""The first process of a container, from the clone to the program: it applies the plan and reports what fails."""

from __future__ import annotations

import marshal
import os
import sys

from hakoniwa.errors import HakoError
from hakoniwa.kernel import prctl, process, signals
from hakoniwa.kernel.trampoline import STAGE, STAGES
from hakoniwa.steps.step import Context, apply_all, prepare_all, program_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from hakoniwa.steps.step import Step

# A message of Python begins so; the trampoline writes a negative errno, whose first byte is never this.
_FAILURE, _FACTS = b"!", b"+"


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


def become(make_steps: Callable[[], Sequence[Step]], context: Context, keep: set[int]) -> NoReturn:
    """Make and apply the steps, the last of which executes the program. Never returns, and never raises.

    The steps are made here, since what a supervisor allocates it keeps from being shared with the barn's process.

    `keep` are the descriptors that stay open besides the standard streams and those of `context`.
    """
    try:
        signals.reset_all()
        os.setsid()
        os.umask(0o022)
        process.close_all_but({context.supervisor, context.status, *keep})
        steps = make_steps()
        prctl.become_undumpable()  # nobody inside may trace this process, or open what it has open
        prepare_all(steps, context)
        context.report_facts = lambda: report_facts(context.status, context.facts)
        close_imports()
        apply_all(steps, context)
    except HakoError as error:
        report_failure(context.status, error)
    except OSError as error:
        report_failure(context.status, HakoError(f"cannot set the container up: {error.strerror}: {error.filename}"))
    except BaseException as error:
        report_failure(context.status, HakoError(f"{type(error).__name__}: {error}"))
    finally:
        os._exit(1)


def send_master(channel: int, master: int) -> None:
    """Hand the master of the pty to the front process, through the socket `channel`."""
    import socket

    with socket.socket(fileno=os.dup(channel)) as to_front:
        socket.send_fds(to_front, [b"m"], [master])


def report_failure(status: int, error: HakoError) -> None:
    """Tell the supervisor why the program was not executed."""
    parts = (error.message, error.where, error.hint, error.status)
    _write(status, _FAILURE + marshal.dumps(parts))


def report_facts(status: int, facts: dict[str, object]) -> None:
    """Tell the supervisor what only this process knows, just before the program is executed."""
    _write(status, _FACTS + marshal.dumps(facts))


def _write(status: int, message: bytes) -> None:
    os.write(status, len(message).to_bytes(4, "little") + message)


def _stage_hint(stage: int, errno: int) -> str:
    if stage == 1:
        return "is it loaded? aa-status lists the profiles"
    return "this kernel may have no seccomp filters: seccomp.profile = None" if errno == 22 else ""


def read_report(report: bytes, program: str) -> tuple[dict[str, object], HakoError | None]:
    """What arrived until the pipe closed: facts, and why the program was not executed, or None if it was."""
    facts: dict[str, object] = {}
    while len(report) > 4:
        length = int.from_bytes(report[:4], "little")
        kind = report[4:5]
        if kind not in (_FAILURE, _FACTS):
            break  # the trampoline's eight bytes
        message, report = report[5 : 4 + length], report[4 + length :]
        if kind == _FAILURE:
            text, where, hint, status = marshal.loads(message)
            return facts, HakoError(text, where=where, hint=hint, status=status)
        facts = marshal.loads(message)
    if len(report) == 8:
        stage, errno = divmod(-int.from_bytes(report, "little", signed=True), STAGE)
        if stage:
            return facts, HakoError(f"cannot {STAGES[stage]}: {os.strerror(errno)}", hint=_stage_hint(stage, errno))
        status = program_status(errno)
        hint = (
            "its interpreter or loader may be missing"
            if errno == 2
            else "not a program for this machine?"
            if errno == 8
            else ""
        )
        return facts, HakoError(f"cannot execute {program}: {os.strerror(errno)}", hint=hint, status=status)
    return facts, None
