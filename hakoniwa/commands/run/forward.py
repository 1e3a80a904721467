"""`hako forward`: ports of the host that lead to a running container until Ctrl-C."""

from __future__ import annotations

from hakoniwa.commands.selection import alive
from hakoniwa.errors import HakoError
from hakoniwa.haco.reading import short
from hakoniwa.options import NAME, PID, Command, Given, usage_error
from hakoniwa.run.forwarding import Forwarding
from hakoniwa.spec.rules import addresses, checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec.networks import Published

COMMAND = Command(
    name="forward",
    summary="Have ports of the host lead to a running container until Ctrl-C: of 127.0.0.1, unless HOST says another address.",
    options=(NAME, PID),
    by_name=True,
    words=("[HOST:]PORT:PORT...",),
    many=True,
)


def run(given: Given) -> int:
    """Forward to the one container that is meant."""
    if not given.words:
        raise usage_error("which port?", "forward", "hako forward FILE 8080:80")
    ports = [_port(word) for word in given.words]
    running = alive(given, "forward")
    if len(running) > 1:
        names = " ".join(found.name for found in running)
        raise HakoError(f"several containers run: {names}", where=given.file or "", hint="choose one with -n NAME")
    Forwarding(running[0], ports).run(lambda line: print(line, flush=True))
    return 0


def _port(word: str) -> Published:
    try:
        found = addresses.published(word)
    except checks.Wrong as wrong:
        raise usage_error(f"a port must be {wrong}, not {short(word)}", "forward", wrong.hint) from None
    if found.protocol != "tcp":
        raise usage_error(f"connections are forwarded, and {found.protocol} has none", "forward", f"publish({word!r})")
    if found.first + found.count - 1 > 65535 or found.inside + found.count - 1 > 65535:
        raise usage_error(f"{word} goes beyond port 65535", "forward")
    return found
