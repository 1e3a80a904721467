"""`hako release`: have held containers execute their programs."""

from __future__ import annotations

from hakoniwa import log
from hakoniwa.commands.selection import how_it_fares, selected
from hakoniwa.errors import HakoError
from hakoniwa.known.statefile import Made, State
from hakoniwa.options import ALL, NAME, PID, Command, Given
from hakoniwa.run.control.asking import ask

COMMAND = Command(
    name="release",
    summary="Have the containers that `start --hold` has set up execute their programs.",
    options=(NAME, PID, ALL),
    by_name=True,
)


def run(given: Given) -> int:
    """Release each held container that is meant, and wait until its program runs. The status of the first failure."""
    failures = [failure for known in _held(given) if (failure := _release(known))]
    for failure in failures:
        log.write_error(failure)
    return failures[0].status if failures else 0


def _held(given: Given) -> list[State]:
    found = selected(given, "release")
    held = [one for one in found if isinstance(one, State) and one.status == "created"]
    if not held:
        raise HakoError(f"no container is held: {how_it_fares(found)}", where=given.file or "", hint=_hint(found))
    return held


def _hint(found: list[State | Made]) -> str:
    if any(one.status == "running" for one in found):
        return "it was released already, or started without --hold"
    return f"hako start -D --hold {found[0].file} holds one"


def _release(known: State) -> HakoError | None:
    """Release a container. Returns why it was not, or why its program does not run."""
    try:
        ask(known, "release")
    except HakoError as error:
        return error
    return None
