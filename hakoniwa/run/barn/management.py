"""What is done with a barn in the background, by any front end: make it, and end it."""

from __future__ import annotations

from hakoniwa.errors import HakoError
from hakoniwa.run.barn.background import run_in_background
from hakoniwa.run.prepare import Wanted, prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec.records import Barn


def make_barn(barn: Barn, *, wait: bool = False) -> tuple[list[tuple[str, int]], list[HakoError]]:
    """Have a barn in the background, with its containers, if it has any. The caller must have no threads: it is forked.

    Returns what `run_in_background` does. Raises HakoError if it cannot be made at all.
    """
    prepared = prepare(barn, Wanted(background=True))
    return run_in_background(prepared.barn, prepared.launches, wait=wait, watch=False)
