"""The supervisors of a barn in the background: prepared in its process, and then forked in a row.

A fork shares all memory until either side writes to it. Whatever the barn's process writes between two forks stays, as it was,
with those that were forked before; and whatever a supervisor does by itself is done in pages of its own. So everything that
one needs is done before, for as many as there are descriptors for, and then nothing but forks.
"""

from __future__ import annotations

import gc
import os
import resource

from hakoniwa import log
from hakoniwa.errors import HakoError, explained
from hakoniwa.kernel.descriptors import opened
from hakoniwa.kernel.libc import fork_hooks
from hakoniwa.kernel.processes import prctl, signals
from hakoniwa.run.life import Life
from hakoniwa.run.supervisor import Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import NoReturn

    from hakoniwa.run.barn.member import Member
    from hakoniwa.run.barn.process import BarnProcess

    Runs = list[tuple[int, int]]

_LONGEST = 50  # supervisors in a row
_HIGHEST = (1 << 31) - 2  # what a descriptor can be
_EACH = 10  # descriptors that are open for one meanwhile, at most


class _Prepared:
    """A supervisor that is to be forked."""

    def __init__(self, member: Member, supervisor: Supervisor, reader: int, writer: int) -> None:
        self.member = member
        self.supervisor = supervisor
        self.reader = reader
        self.writer = writer
        self.descriptors = {writer, *supervisor.descriptors()}
        self.others: Runs = []  # of descriptors that are not its own

    def become(self) -> NoReturn:
        """Be that supervisor."""
        try:
            for first, last in self.others:
                os.closerange(first, last + 1)
            self.supervisor.live()
        finally:
            os._exit(0)


def start_in_rows(
    process: BarnProcess, members: Sequence[Member], others: Sequence[int], *, wait: bool, watch: bool
) -> None:
    """Start containers, unless we are asked to end before. `others` are descriptors that supervisors must not keep."""
    ahead = [*reversed(members)]
    if not process.is_warm:
        _warm_up(process.barn.name)
        own = {*others, *process.descriptors()}
        process.given = {number: _what(number) for number in opened() - own}
        process.is_warm = True
    while ahead and not process.is_asked_to_end():
        next_ones = [ahead.pop() for _ in range(min(len(ahead), _room()))]
        row = [ready for member in next_ones if (ready := _prepare(process, member, wait=wait, watch=watch))]
        _fork(process, row, [*others, *process.descriptors()])
        process.tell_failures()


def _what(descriptor: int) -> tuple[int, int] | None:
    """What tells an open file from one that has its number later."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _warm_up(name: str) -> None:
    """Have what each supervisor would make when it first needs it."""
    fork_hooks()
    prctl.set_name(f"hako:{name}")
    gc.collect()  # once: it writes to all that earlier supervisors share


def _room() -> int:
    """How many supervisors can be prepared at once."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return _LONGEST
    return max(1, min(_LONGEST, (limit - len(os.listdir("/proc/self/fd"))) // _EACH))


def _prepare(process: BarnProcess, member: Member, *, wait: bool, watch: bool) -> _Prepared | None:
    """The supervisor of a container, but for its process; None where that fails, which is noted."""
    pipe: list[int] = []
    supervisor: Supervisor | None = None
    try:
        pipe += os.pipe2(os.O_CLOEXEC)
        inherited = process.bequeath(pipe[1], background=True, wait=wait, watch=watch)
        supervisor = Supervisor(Life(*member.take_up(process.barn), inherited))
        supervisor.prepare()
        return _Prepared(member, supervisor, *pipe)
    except Exception as error:
        _note(member, error)
    if supervisor is not None:
        supervisor.give_up()
    for descriptor in pipe:
        os.close(descriptor)
    return None


def _note(member: Member, error: Exception) -> None:
    known = error if isinstance(error, HakoError) else HakoError(explained(error), where=member.name)
    member.error = known


def _fork(process: BarnProcess, row: list[_Prepared], ours: list[int]) -> None:
    """Fork them all, and nothing else between."""
    given = {number for number, what in process.given.items() if _what(number) == what}
    given.difference_update(ours, (ready.reader for ready in row))
    for ready in row:
        ready.others = _gaps(given | ready.descriptors)
    pids = [0] * len(row)
    failure: OSError | None = None
    log.flush_prints()
    gc.freeze()
    signals.block()  # until the supervisors listen by themselves
    for number, ready in enumerate(row):
        try:
            pids[number] = os.fork()
        except OSError as error:
            failure = error
            break
        if pids[number] == 0:
            ready.become()
    for pid, ready in zip(pids, row, strict=True):
        os.close(ready.writer)
        if pid:
            process.listen_to(ready.member, pid, ready.reader)
            process.kept.append(
                ready
            )  # what is freed leaves holes, which those that follow would fill all over the memory
            ready.supervisor.let_go()
        else:
            assert failure is not None
            _note(ready.member, failure)
            ready.supervisor.give_up()
            os.close(ready.reader)
    signals.unblock()


def _gaps(keep: Iterable[int]) -> Runs:
    """The runs of descriptors from 3 on that are not to be kept: (first, last)."""
    gaps, first = [], 3
    for number in sorted(keep):
        if number > first:
            gaps.append((first, number - 1))
        first = max(first, number + 1)
    return [*gaps, (first, _HIGHEST)]
