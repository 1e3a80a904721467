"""`hako attach`: a command, or a shell, inside a running container, with everything that the container is held to."""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.kernel.security import capabilities
from hakoniwa.known import joining
from hakoniwa.options import NAME, PID, Command, Given, Option, usage_error
from hakoniwa.run.exec import Wanted, most, run_to_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.known.joining import Target

COMMAND = Command(
    name="attach",
    summary="Run a command, or a shell, inside a running container.",
    options=(
        NAME,
        PID,
        Option(flags=("-A", "--allow"), value="CAPS", help="give these capabilities too (with commas between them)"),
        Option(flags=("-D", "--drop"), value="CAPS", help="take these capabilities away"),
        Option(flags=("-u", "--uid", "--user"), value="U", help="as this user of the container"),
        Option(flags=("-g", "--gid", "--group"), value="G", help="as this group of the container"),
    ),
    takes_argv=True,
    by_name=True,
)


def run(given: Given) -> int:
    """Run the command in the one container that is meant."""
    kept = _kept(given)
    found = kept or _the_running_one(given)
    wanted = Wanted(
        command=given.argv,
        user=_id(given, "user", "-u"),
        group=_id(given, "group", "-g"),
        allowed=_names("-A", given.value("allow"), found),
        dropped=_names("-D", given.value("drop"), found),
        terminals=tuple(number for number in (0, 1, 2) if os.isatty(number)),
        places={"user": "-u", "group": "-g", "allowed": "-A"},
    )
    status, lost = run_to_end(found, wanted)
    if kept is None:
        joining.keep(found.name)
    if lost and status == 0:
        raise lost[0]
    for error in lost:
        log.write_error(error)
    return status


def _kept(given: Given) -> Target | None:
    """What the command line means, if that is one container, and was kept as it is."""
    name, file = given.value("name"), given.file
    if given.value("target") is not None or (name is None) == (file is None):
        return None
    return joining.take_of_file(os.path.realpath(file)) if file is not None else joining.take(str(name))


def _the_running_one(given: Given) -> Target:
    from hakoniwa.commands.selection import alive

    running = alive(given, "attach")
    if len(running) > 1:
        names = " ".join(found.name for found in running)
        raise HakoError(f"several containers run: {names}", where=given.file or "", hint="choose one with -n NAME")
    return joining.Target.of(running[0])


def _id(given: Given, option: str, shown: str) -> int | str | None:
    """The user or group of an option, by number or by name; None where it was not given."""
    text = given.value(option)
    if text is None:
        return None
    from hakoniwa.haco.reading import short
    from hakoniwa.spec.rules import checks

    try:
        number = text.isascii() and text.lstrip("+-").isdecimal()
        return checks.user((int(text) if len(text) < 20 else -1) if number else text)
    except checks.Wrong as wrong:
        raise usage_error(f"must be {wrong}, not {short(text)}", shown) from None


def _names(option: str, text: str | None, found: Target) -> int:
    """Capabilities by their names as a mask; `all` are those that a process of the container can have."""
    if text is None:
        return 0
    bits = 0
    words = text.replace(",", " ").split()
    if not words:
        raise usage_error("names no capability", option)
    for word in words:
        try:
            bits |= most(found) if word == "all" else capabilities.mask([capabilities.normal(word)])
        except ValueError:
            hint = capabilities.suggest(word)
            raise usage_error(f"capability {word!r} is unknown", option, hint) from None
    return bits
