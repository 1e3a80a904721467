"""`Haconiwa`: what a container file imports."""

from __future__ import annotations

import os
import sys
from _thread import _local

from hakoniwa.errors import HakoError, nearest
from hakoniwa.haco.abort import Abort
from hakoniwa.haco.container import ContainerBuilder
from hakoniwa.haco.reading import Reading, short
from hakoniwa.spec.rules.checks import deep_copy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

__all__ = ["Abort", "Definition", "Haconiwa", "Session", "session"]


class Session(_local):
    """What the loader and the file share: the reading, the barns that were defined, and the defaults.

    Each thread has its own: a file that a reload has given up disturbs no later one.
    """

    first_command = ""  # that this process was begun for, which hooks are told in whatever thread they run

    def __init__(self) -> None:
        self.reading: Reading | None = None
        self.barns: list[ContainerBuilder] = []
        self.defaults: dict[str, tuple[Any, str]] = {}  # values, and their lines in the global file
        self.command = self.first_command
        self.in_global_file = False


session = Session()


class Definition:
    """The `with Haconiwa.define()` block. An exception inside discards the barn."""

    def __init__(self) -> None:
        reading = session.reading
        if reading is None:  # the file is run by Python itself: describe, and do nothing
            file = sys._getframe(2).f_code.co_filename
            reading = Reading(os.path.realpath(file), file)
        self.builder = ContainerBuilder(reading)
        # A second barn is one too many, which is told when its block ends.
        for name, (value, place) in session.defaults.items() if reading.open else ():
            setattr(self.builder, name, deep_copy(value))
            self.builder._places[name] = place

    def __enter__(self) -> ContainerBuilder:
        return self.builder

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        reading = self.builder._reading
        if reading is not session.reading:
            reading.open = False  # a program has as many definitions as it likes, and does with them what it likes
        elif error is None:
            if session.barns:
                reading.problem(
                    "a file defines one barn, and this is the second", "use config.define() for a further container"
                )
            session.barns.append(self.builder)
            reading.open = False


class _NoSuchWord(HakoError, AttributeError):
    """For `hasattr` it is what any attribute is that is not there."""


class _Command(type):
    @property
    def command(cls) -> str:
        """The command being run, such as `start`."""
        return session.command

    def __setattr__(cls, name: str, value: object) -> None:
        where = session.reading.here() if session.reading else ""
        raise _NoSuchWord(f"Haconiwa.{name} cannot be assigned", where=where, hint="set the values on config")

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            from hakoniwa.haco.haconiwa import of_the_module

            hint = of_the_module(name)
        except ImportError:  # in a container's first process, which loads nothing any more
            hint = ""
        told = f"Haconiwa.{name} is {'a word of haconiwa only' if hint else 'unknown'}"
        known = [word for word in ("command", *vars(Haconiwa)) if not word.startswith("_")]
        where = session.reading.here() if session.reading else ""
        raise _NoSuchWord(told, where=where, hint=hint or nearest(name, known))


class Haconiwa(metaclass=_Command):
    """The entrance of a container file."""

    Abort = Abort

    @staticmethod
    def define() -> Definition:
        """Begin the description of a barn: `with Haconiwa.define() as config:`."""
        if session.in_global_file and session.reading:
            session.reading.stop("the global file defines no containers", "use Haconiwa.configure()")
        return Definition()

    @staticmethod
    def configure(**defaults: Any) -> None:
        """In the global file: values that each container file begins with, named as the settings of `config`."""
        reading = session.reading
        if reading is None:
            return
        if not session.in_global_file:
            reading.stop("Haconiwa.configure() belongs in the global file", "set the values on config")
        probe = ContainerBuilder(reading)
        known = [
            *(name for name in ContainerBuilder._checks if name not in ("name", "hostname")),
            "environ",
            "metadata",
        ]
        for name, value in defaults.items():
            if name not in known:
                reading.problem(f"default {name!r} is unknown", nearest(name, known))
                continue
            setattr(probe, name, value)
            session.defaults[name] = (value, reading.here())

    @staticmethod
    def log(text: str, level: str = "info") -> None:
        """Write to the log of the container, or to standard error where there is none yet, line by line."""
        from hakoniwa import log

        if level not in log.LEVELS:
            raise HakoError(f"log level {short(level)} is unknown", hint=nearest(str(level), list(log.LEVELS)))
        log.write_text(text, level)
