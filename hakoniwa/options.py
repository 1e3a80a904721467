"""Command lines: a table of options per command, and one function that reads them.

Ours because `argparse` costs as much to import as a whole interpreter start, and `getopt` hardly less (`gettext`).
"""

from __future__ import annotations

from hakoniwa.errors import USAGE, HakoError, nearest
from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Option(Record):
    """`flags` are the ways to write it; `value` names its argument, or is empty for a switch."""

    flags: tuple[str, ...]
    value: str = ""
    help: str
    repeated: bool = False  # its arguments are collected
    later: bool = False  # known, and not carried out yet: refused, and not shown

    @property
    def name(self) -> str:
        """How the command asks for it: the long flag without dashes."""
        return self.flags[-1].lstrip("-").replace("-", "_")


class Command(Record):
    """What a command takes. `file`: "needed", "optional" (a container file, found in the folder if left out) or ""."""

    name: str
    summary: str
    options: tuple[Option, ...] = ()
    file: str = "needed"
    takes_argv: bool = False
    by_name: bool = False  # whether `-n NAME`, or `-t PID`, serves in place of FILE
    instead: tuple[str, ...] = ()  # further options, by their names, each of which serves in place of FILE
    words: tuple[str, ...] = ()  # what comes after FILE
    many: bool = False  # the last of these words may come several times
    undone: bool = False  # whether it undoes what it has begun when a signal asks it to end


DEBUG = Option(flags=("--debug",), help="show tracebacks")
HELP = Option(flags=("-h", "--help"), help="show this text")
NAME = Option(flags=("-n", "--name"), value="NAME", help="the container by its name, or a barn by its own")
PID = Option(
    flags=("-t", "--target"),
    value="PID",
    help="the container by the host's pid of its first process, or of its supervisor",
)
ALL = Option(flags=("--all",), help="every container that FILE has made, where it gives them several names")
JSON = Option(flags=("--json",), help="print JSON")


class Given(Record):
    """A command line, read. `options` maps an option's name to True or to its argument."""

    options: dict[str, Any]
    file: str | None
    argv: tuple[str, ...] | None
    words: tuple[str, ...] = ()

    def flag(self, name: str) -> bool:
        """Whether a switch was given."""
        return name in self.options

    def value(self, name: str) -> str | None:
        """The argument of an option, or None."""
        return self.options.get(name)

    def values(self, name: str) -> list[str]:
        """The arguments of an option that may be repeated."""
        found: list[str] = self.options.get(name, [])
        return found


def usage_error(message: str, where: str, hint: str = "") -> HakoError:
    """A wrong command line: exit status 2."""
    return HakoError(message, where=where, hint=hint, status=USAGE)


def read(command: Command, words: list[str]) -> Given:
    """Read the words after the command's name. Raises HakoError with status 2."""
    known = {flag: option for option in (*command.options, DEBUG, HELP) for flag in option.flags}
    options: dict[str, Any] = {}
    files: list[str] = []
    argv = None
    words = list(words)
    while words:
        word = words.pop(0)
        if word == "--":
            argv, words = tuple(words), []
        elif word.startswith("-") and word != "-":
            _take_option(command, known, word, words, options)
        elif not word:
            raise usage_error("one of the arguments is empty", command.name, "an unset variable of a shell?")
        else:
            files.append(word)
    if argv is not None and not command.takes_argv:
        raise usage_error("takes no command after --", command.name)
    if argv and not argv[0]:
        raise usage_error("the command after -- is empty", command.name, "an unset variable of a shell?")
    if argv == ():
        raise usage_error("-- is followed by nothing", command.name, "give the command to run inside, or leave -- out")
    if "help" in options:
        return Given(options=options, file=None, argv=argv)
    if command.words:
        file, further = _split(command, files)
        return Given(options=options, file=file, argv=argv, words=further)
    if len(files) > (1 if command.file else 0):
        hint = f"put the command to run inside after --: -- {' '.join(files[1:])}" if command.takes_argv else ""
        raise usage_error(f"too many arguments: {' '.join(files)}", command.name, hint)
    return Given(options=options, file=files[0] if files else None, argv=argv)


def _take_option(
    command: Command, known: dict[str, Option], word: str, rest: list[str], options: dict[str, Any]
) -> None:
    """Take one option, and its argument: `--name X`, `--name=X`, `-n X`, `-nX`; switches may be joined: `-Db`."""
    long = word.startswith("--")
    flag, equals, value = word.partition("=") if long else (word[:2], "", word[2:])
    option = known.get(flag)
    if option is None:
        shown = [flag for flag, option in known.items() if not option.later]
        raise usage_error(f"unknown option {flag}", command.name, nearest(flag, shown))
    if option.later:
        raise usage_error(f"{flag} is not supported yet", command.name)
    if not option.value:
        if equals:
            raise usage_error(f"{flag} takes no argument", command.name)
        options[option.name] = True
        if value:
            rest.insert(0, f"-{value}")
        return
    if not equals and not value:
        if not rest:
            raise usage_error(f"{flag} needs an argument: {option.value}", command.name)
        value = rest.pop(0)
    if not value:
        raise usage_error(f"{flag} is empty", command.name, f"it takes {option.value}")
    if option.repeated:
        options.setdefault(option.name, []).append(value)
    elif options.setdefault(option.name, value) != value:
        raise usage_error(f"{flag} was given twice: {options[option.name]} and {value}", command.name)


def _split(command: Command, found: list[str]) -> tuple[str | None, tuple[str, ...]]:
    """FILE, which may be left out, and the words after it. The first is FILE where all are there, or where it is a file."""
    import os

    most = len(command.words) + (1 if command.file else 0)
    if len(found) > most and not command.many:
        raise usage_error(f"too many arguments: {' '.join(found)}", command.name)
    # Of several words after FILE each has a colon, and a name that stands for FILE has none.
    comes_first = ":" not in found[0] if command.many and found else len(found) == most
    if command.file and found and (comes_first or os.path.isfile(found[0])):
        return found[0], tuple(found[1:])
    return None, tuple(found)


def help_text(command: Command) -> str:
    """What `hako COMMAND --help` prints."""
    file = {"needed": " [FILE]", "optional": " [FILE]"}.get(command.file, "")
    file += "".join(f" {word}" for word in command.words)
    argv = " [-- ARGV...]" if command.takes_argv else ""
    lines = [f"usage: hako {command.name} [options]{file}{argv}", "", command.summary, ""]
    for option in (*command.options, DEBUG, HELP):
        if option.later:
            continue
        left = ", ".join(option.flags) + (f" {option.value}" if option.value else "")
        lines.append(f"  {left:<28} {option.help}")
    if command.file:
        lines += ["", "FILE may be left out when the folder holds exactly one *.haco.py."]
    return "\n".join(lines)
