"""What a process on its way to a program tells the one that waits for it, through a pipe that ends when the program runs.

The reader trusts nothing that comes through it: where a container shares the host's pid namespace, or has cap_sys_ptrace, it
may have got hold of the other end. So there are two kinds of message, of a few short texts each, and whatever is not one of
them, or is too much, is an error. Then there may be eight bytes of the trampoline (kernel/processes/trampoline.py).
"""

from __future__ import annotations

import errno
import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem.files import wait_readable
from hakoniwa.kernel.processes.trampoline import STAGE, STAGES
from hakoniwa.record import Record
from hakoniwa.run.loop import Loop
from hakoniwa.steps.step import program_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST = 32768  # bytes of a whole report: less than a pipe holds, so that nobody waits to be read
_LONGEST = 6000  # bytes of one text
_FAILURE, _EXECUTING, _HELD = (
    b"!",
    b"+",
    b"=",
)  # the first byte of a message; the trampoline's first is never one of these
_FIELDS = {_FAILURE: 4, _EXECUTING: 1, _HELD: 1}
PATIENCE = 60.0  # seconds until a program is executed in a container that runs


class Report(Record):
    """What was told."""

    held: bool = False  # all was set up, and the program waits for a release
    executing: bool = False  # all was set up, and the program about to be executed
    devpts: int | None = None  # the device number of the container's devpts
    failure: HakoError | None = None


def tell_failure(status: int, error: HakoError) -> None:
    """Tell why the program is not executed."""
    _tell(status, _FAILURE, (error.message, error.where, error.hint, str(error.status)))


def tell_executing(status: int, devpts: int | None) -> None:
    """Tell that the program is executed next, and what only this process knows."""
    _tell(status, _EXECUTING, ("" if devpts is None else str(devpts),))


def tell_held(status: int, devpts: int | None) -> None:
    """Tell that all is set up, and what only this process knows."""
    _tell(status, _HELD, ("" if devpts is None else str(devpts),))


def _tell(status: int, kind: bytes, fields: Sequence[str]) -> None:
    message = kind
    for field in fields:
        content = field.encode(errors="backslashreplace")[:_LONGEST]
        message += len(content).to_bytes(2, "little") + content
    os.write(status, message)


def read_to_end(pipe: int, process: int, patience: float | None = None) -> bytes:
    """All that comes through a report's pipe until its writers, or the process that reports, have ended.

    `process` is a pidfd, or the pipe when it has ended already.

    Raises HakoError for more than a report can be, and after `patience` seconds without its end.
    """
    loop, content = Loop(), bytearray()

    def read() -> None:
        more = os.read(pipe, LARGEST + 1)
        content.extend(more)
        if not more:
            loop.stop()
        if len(content) > LARGEST:
            raise _garbled()

    def end() -> None:
        if not wait_readable(pipe, seconds=0):
            loop.stop()  # whoever holds the other end still, it is none of ours

    def give_up() -> None:
        raise HakoError(f"nothing was executed in {patience:g} s", hint="is the container frozen, or its disk slow?")

    loop.add(process, end)
    loop.add(pipe, read)
    if patience is not None:
        loop.after(patience, give_up)
    loop.run()
    return bytes(content)


def read_report(content: bytes, program: str) -> Report:
    """What a whole report says; `program` is the one that was to be executed. Never raises."""
    held, executing, devpts = False, False, None
    while content[:1] in _FIELDS:
        kind = content[:1]
        fields, content = _split(content[1:], _FIELDS[kind])
        if fields is None:
            return Report(held=held, executing=executing, devpts=devpts, failure=_garbled())
        if kind == _FAILURE:
            return Report(held=held, executing=executing, devpts=devpts, failure=_failure(fields))
        held, executing, devpts = held or kind == _HELD, kind == _EXECUTING, _number(fields[0])
    failure = None
    if len(content) == 8:
        failure = _of_trampoline(-int.from_bytes(content, "little", signed=True), program)
    elif content:
        failure = _garbled()
    return Report(held=held, executing=executing, devpts=devpts, failure=failure)


def _split(content: bytes, count: int) -> tuple[list[str] | None, bytes]:
    """The first texts of a message and what follows; None for texts that are not there, or too long."""
    fields = []
    for _ in range(count):
        length = int.from_bytes(content[:2], "little")
        if length > _LONGEST or len(content) < 2 + length:
            return None, b""
        fields.append(content[2 : 2 + length].decode(errors="replace"))
        content = content[2 + length :]
    return fields, content


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None


def _failure(fields: list[str]) -> HakoError:
    message, where, hint, status = fields
    code = _number(status)
    return HakoError(message, where=where, hint=hint, status=code if code is not None and 0 < code < 256 else 125)


def _garbled() -> HakoError:
    return HakoError(
        "what the container's first process tells cannot be understood", hint="has something inside got hold of it?"
    )


def _of_trampoline(number: int, program: str) -> HakoError:
    """The error for the negative of what the trampoline has written: an errno, with the stage that it comes from."""
    stage, error = divmod(number, STAGE)
    if stage in STAGES:
        return HakoError(f"cannot {STAGES[stage]}: {os.strerror(error)}", hint=_stage_hint(stage, error))
    if stage or error == 0:
        return _garbled()
    hint = {
        errno.ENOENT: "its interpreter or loader may be missing",
        errno.ENOEXEC: "not a program for this machine?",
    }.get(error, "")
    return HakoError(f"cannot execute {program}: {os.strerror(error)}", hint=hint, status=program_status(error))


def _stage_hint(stage: int, error: int) -> str:
    if stage == 1:
        return "is it loaded? aa-status lists the profiles"
    return "this kernel may have no seccomp filters: seccomp.profile = None" if error == errno.EINVAL else ""
