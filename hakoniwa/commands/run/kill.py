"""`hako kill`: end a container, or send it a signal."""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.errors import FAILED, nearest
from hakoniwa.kernel.processes import signals
from hakoniwa.known import glance
from hakoniwa.options import ALL, NAME, PID, Command, Given, Option, usage_error
from hakoniwa.places import barn_folder_of
from hakoniwa.run.end import GRACE, Ending, clear, end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hakoniwa.known.glance import Running
    from hakoniwa.known.statefile import Made, State

COMMAND = Command(
    name="kill",
    summary="End a container: TERM, wait, then KILL; at once KILL when TERM would be ignored.",
    options=(
        NAME,
        PID,
        ALL,
        Option(flags=("-s", "--signal"), value="SIG", help="only send this signal (then wait and KILL only with -T)"),
        Option(flags=("-T", "--timeout"), value="SECONDS", help="how long to wait before KILL (10); -1 never waits"),
        Option(flags=("--supervisor",), help="address the supervisor"),
    ),
    by_name=True,
)


def run(given: Given) -> int:
    """End what runs, and clear what was lost."""
    ending = _ending(given)
    ended = [] if ending.grace is None else _end_kept_barns(given, ending.grace)
    seen = None if ended else _seen(given)
    running: Sequence[State | Running] = [] if ended else [seen] if seen else _running(given)
    failures = end(running, ending)
    for failure in failures:
        log.write_error(failure)
    return FAILED if failures else 0


def _seen(given: Given) -> Running | None:
    """What the command line means, if that is one container, and a glance tells all that has to be known of it."""
    name, file = given.value("name"), given.file
    if given.value("target") is not None or given.flag("all") or (name is None) == (file is None):
        return None
    return glance.running_of_file(os.path.realpath(file)) if file is not None else glance.running_of_name(str(name))


def _running(given: Given) -> list[State]:
    """What the command line means and runs, or is held. If nothing does that is told, and what was lost is cleared."""
    from hakoniwa.known.statefile import ALIVE, State

    found = _known(given)
    cleared = [what for known in found if known.status == "dead" for what in clear(known.name)]
    running = [known for known in found if isinstance(known, State) and known.status in ALIVE]
    if not running:
        log.write("nothing is running")
        for what in cleared:
            log.write(f"cleared what a killed supervisor had left: {what}")
    return running


def _end_kept_barns(given: Given, grace: float) -> list[str]:
    """End the barns that are meant as a whole, and would go on without containers. Returns their names."""
    if given.value("target") is not None or given.value("signal") is not None or given.flag("supervisor"):
        return []
    if not os.path.isdir(os.path.dirname(barn_folder_of("any"))):
        return []
    from hakoniwa.run.barn.late import management

    names = management.kept_barns(given.value("name"), given.file and os.path.realpath(given.file))
    for name in names:
        management.end_barn(name, grace)
    return names


def _known(given: Given) -> list[State | Made]:
    """What the command line means; that its file has made nothing is no failure here."""
    from hakoniwa.commands.selection import NothingKnown, selected

    try:
        return selected(given, "kill")
    except NothingKnown:
        return []


def _ending(given: Given) -> Ending:
    """What the options ask for: a signal alone is only sent."""
    seconds, number = _timeout(given), _signal(given)
    waits = seconds != -1 if seconds is not None else number is None
    grace = GRACE if seconds is None else seconds
    return Ending(signal=number, grace=grace if waits else None, supervisor=given.flag("supervisor"))


def _timeout(given: Given) -> float | None:
    text = given.value("timeout")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        raise usage_error(f"-T takes seconds, not {text!r}", "kill") from None
    if not (seconds == -1 or 0 <= seconds < 1e6):
        raise usage_error(f"-T takes seconds from 0 on, or -1, not {text!r}", "kill")
    return seconds


def _signal(given: Given) -> int | None:
    text = given.value("signal")
    if text is None:
        return None
    try:
        return signals.by_name(text)
    except ValueError:
        raise usage_error(f"signal {text!r} is unknown", "kill", nearest(text, signals.names())) from None
