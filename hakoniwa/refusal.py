"""What a process of ours that was asked for something has found wrong: a HakoError, on its way to who has asked."""

from __future__ import annotations

from hakoniwa.errors import HakoError, every_problem, joined
from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Refusal(Record):
    """One thing that is wrong."""

    message: str
    where: str = ""
    hint: str = ""
    status: int


def refusals_of(errors: Sequence[HakoError]) -> tuple[Refusal, ...]:
    """Everything that is wrong."""
    return tuple(
        Refusal(message=one.message, where=one.where, hint=one.hint, status=one.status)
        for error in errors
        for one in every_problem(error)
    )


def raise_refusals(refusals: Sequence[Refusal]) -> None:
    """Raise what was refused, if anything was: a HakoError, which is Problems if there are several."""
    if refusals:
        raise joined([HakoError(one.message, where=one.where, hint=one.hint, status=one.status) for one in refusals])
