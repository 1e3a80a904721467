"""Execute a container file and return what it defines."""

from __future__ import annotations

import os
import sys

from hakoniwa.errors import HakoError, Problems, closest
from hakoniwa.haco import facade
from hakoniwa.haco.beside import find_beside
from hakoniwa.haco.build import build_barn
from hakoniwa.haco.reading import Reading
from hakoniwa.host.paths import distrust
from hakoniwa.kernel.libc import compile_file
from hakoniwa.known.kept import read_defaults, read_file
from hakoniwa.known.statefile import known_names
from hakoniwa.places import global_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

    from hakoniwa.known.kept import Sought
    from hakoniwa.known.statefile import Head
    from hakoniwa.options import Given
    from hakoniwa.spec.records import Barn


def load(path: str, command: str, sought: Sought | None = None) -> Barn:
    """Execute the global file, if there is one, and the container file `path`; return its barn.

    What was `sought` in vain has read both, and is told what was found. Raises HakoError or Problems with the place of
    everything that is wrong.
    """
    source = read_file(path) if sought is None else sought.source
    if is_document(source):
        return load_document(path, source)
    session = facade.session
    session.__init__()  # type: ignore[misc]  # a fresh one: `reload` reads a file a second time
    session.command = command
    facade.Session.first_command = facade.Session.first_command or command
    codes = []
    defaults = read_defaults() if sought is None else sought.defaults
    if defaults is not None:
        session.in_global_file = True
        codes.append(_execute(global_file(), defaults).code)
        session.in_global_file = False
    reading = _execute(path, source)
    if not session.barns:
        raise HakoError("no barn is defined", where=path, hint="write `with Haconiwa.define() as config:`")
    barn = build_barn(session.barns[0])
    if reading.problems:
        raise Problems(reading.problems)
    distrust(barn)
    if sought is not None:
        sought.found(barn, (*codes, reading.code), tuple(reading.asked))
    beside = find_beside(os.path.dirname(barn.file))
    return barn.replace(executed=(os.path.join(os.getcwd(), path), *beside.found), missed=tuple(beside.missed()))


def is_document(source: bytes) -> bool:
    """Whether the text of a file is a spec as JSON: no container file begins so."""
    return source.lstrip().startswith(b"{")


def load_document(path: str, source: bytes | None = None) -> Barn:
    """The barn of a spec as JSON, in a file whose content may be known, or with "-" of standard input. Raises HakoError."""
    from hakoniwa.spec.documents import document

    barn = document.read_document(path) if source is None else document.from_text(source, path)
    distrust(barn)
    return barn


def load_given(given: Given, command: str) -> Barn:
    """The barn of the file that a command line names; or of the one that made the container which it names."""
    assert given.file is not None
    if os.path.exists(given.file):
        return load(given.file, command)
    return load_named(given.file, command)


def load_named(name: str, command: str) -> Barn:
    """The barn of the file that made the container, or the barn, of a name. Raises HakoError when it gives that no more."""
    barn = load(_file_of(name), command)
    _must_define(barn, name)
    return barn


def _file_of(name: str) -> str:
    """The file that made the container, or the barn, of a name. Raises HakoError."""
    from hakoniwa.known import listing

    known = list(listing.heads())
    files = {one.file for one in known if name in (one.name, one.barn)}
    if not files:
        raise unknown(name, known)
    if len(files) > 1:
        raise HakoError(f"several files have it: {' '.join(sorted(files))}", where=name, hint="name one of them")
    return files.pop()


def unknown(word: str, known: list[Head]) -> HakoError:
    """A word that is neither a file nor a name, and what it may have been meant for."""
    beside = os.path.dirname(word)
    try:
        files = [os.path.join(beside, entry) for entry in os.listdir(beside or ".") if entry.endswith(".haco.py")]
    except OSError:
        files = []
    hint = (
        f"did you mean {word}.haco.py?" if f"{word}.haco.py" in files else closest(word, [*known_names(known), *files])
    )
    if not hint and word.endswith(".haco.py"):
        hint = f"hako new {word} writes one"
    told = "it is a folder" if os.path.isdir(word) else "there is no such file"
    return HakoError(f"{told}, and no container has that name", where=word, hint=hint or "hako ps --all lists them")


def _must_define(barn: Barn, name: str) -> None:
    """See that a file, which was found by a name, gives that name still, and no other. Raises HakoError."""
    names = [container.name for container in barn.containers]
    if name == barn.name or names == [name]:
        return
    if name in names:
        told, hint = f"it is one of several containers of {barn.file}", f"name the file for all: {' '.join(names)}"
    else:
        told, hint = f"it was made by {barn.file}, which defines {' '.join(names)} now", "name the file for that"
    raise HakoError(told, where=name, hint=hint)


def _execute(path: str, source: bytes) -> Reading:
    """Run the text of a file, which finds modules beside it, in a reading of its own."""
    real = os.path.realpath(path)
    reading = Reading(real, path)
    facade.session.reading = reading
    code = reading.code = _compile(source, real, path)
    find_beside(os.path.dirname(real))
    sys.dont_write_bytecode = True  # `check` changes nothing
    try:
        exec(code, {"__name__": "__main__", "__file__": real, "__builtins__": __builtins__})
    except Problems:
        raise Problems(reading.problems) from None
    except HakoError as error:
        raise (
            error if error.where else HakoError(error.message, where=_line_of(error, reading), hint=error.hint)
        ) from None
    except Exception as error:
        reading.problems.append(_explain(error, reading, source))
        raise Problems(reading.problems) from error
    except SystemExit as error:
        raise HakoError(
            f"the file called exit({error.code!r})", where=path, hint="raise an exception instead"
        ) from None
    if reading.problems and not facade.session.barns:
        raise Problems(reading.problems)
    return reading


def _compile(source: bytes, real: str, shown: str) -> CodeType:
    if b"\0" in source:
        raise HakoError("not a text file: it holds NUL bytes", where=shown, hint="name a NAME.haco.py file")
    try:
        return compile_file(source, real)
    except SyntaxError as error:
        line = f":{error.lineno}" if error.lineno else ""
        raise HakoError(f"syntax error: {error.msg}", where=f"{shown}{line}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise HakoError(f"not a Python file: {error}", where=shown) from None


def _line_of(error: Exception, reading: Reading) -> str:
    """The line of the file that led to an exception."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == reading.file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{reading.shown}:{line}" if line else reading.shown


def _explain(error: Exception, reading: Reading, source: bytes) -> HakoError:
    """An exception of the file as an error at the line of the file that led to it."""
    where = _line_of(error, reading)
    line = int(where.removeprefix(f"{reading.shown}:")) if where != reading.shown else 0
    if isinstance(error, TypeError):
        from hakoniwa.haco.explain import explain_type_error

        told = explain_type_error(str(error), source.splitlines()[line - 1 : line])
        if told:
            return HakoError(told[0], where=where, hint=told[1])
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return HakoError(text, where=where, hint="--debug shows the traceback")
