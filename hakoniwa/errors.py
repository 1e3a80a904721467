"""The one kind of error that users see, and how it is written."""

from __future__ import annotations

# What the command exits with; docs/guide.md, as `docker run` and `env` have it.
FAILED = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127
USAGE = 2


class HakoError(Exception):
    """Something that the user can act on.

    `where` is a place (`dev.haco.py:12`, a command, a container), `message` says what is wrong and names the value,
    `hint` names the way out, `status` is what the command exits with.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "", status: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        self.status = status

    def lines(self) -> list[str]:
        """The lines to print, without the leading `hako: `."""
        where = f"{self.where}: " if self.where else ""
        hint = f" ({self.hint})" if self.hint else ""
        return [printable(f"{where}{self.message}{hint}")]

    def __str__(self) -> str:
        return "\n".join(self.lines())


class Problems(HakoError):
    """Several errors of one container file, told together."""

    def __init__(self, problems: list[HakoError]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = problems

    def lines(self) -> list[str]:
        return [line for problem in self.problems for line in problem.lines()]


def joined(problems: list[HakoError]) -> HakoError:
    """One error for all of them, of which there is one at least."""
    return problems[0] if len(problems) == 1 else Problems(problems)


def every_problem(error: HakoError) -> list[HakoError]:
    """What `joined` was given."""
    return error.problems if isinstance(error, Problems) else [error]


def explained(error: Exception) -> str:
    """An exception in the words of a log."""
    if isinstance(error, HakoError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def printable(text: str) -> str:
    """`text` without anything that a terminal would act on: control characters become escapes.

    Bidirectional overrides and other format characters (Unicode Cf) are escaped as well.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else _escape(character)
        for character in text.encode("utf-8", "backslashreplace").decode("utf-8")
    )


_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def _escape(character: str) -> str:
    """A character as Python writes it in a string. The codec `unicode_escape` may not be loaded, and not be there to load."""
    number = ord(character)
    long = f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
    return _SHORT.get(character, long)


_MOST_KNOWN = 30  # words that one line can list


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str:
    """`did you mean 'net'?` when one of `known` is close to `word`, else the list of what is known, if it is short."""
    listed = "known: " + " ".join(known) if 0 < len(known) <= _MOST_KNOWN else ""
    return closest(word, known) or listed


def closest(word: str, known: list[str] | tuple[str, ...]) -> str:
    """`did you mean 'net'?` when one of `known` is close to `word`, else nothing."""
    try:
        import difflib
    except ImportError:  # in a container's first process, which loads nothing any more
        close = []
    else:
        close = difflib.get_close_matches(word.lower(), [name.lower() for name in known], n=1, cutoff=0.6)
    if not close:
        return ""
    original = next(name for name in known if name.lower() == close[0])
    return f"did you mean {original!r}?"
