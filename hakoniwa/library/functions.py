"""Functions of a program in the process beside a container: found by the file, the line and the name that define them.

What a program defines for a container of its own runs in another process, beside that container. There the file is executed
as a module, as `multiprocessing` does with the main module of its children, and the function is made of the code that is found
at the line. So a file must define its functions whatever its `__name__` is, and keep what it does itself below
`if __name__ == "__main__":`.
"""

from __future__ import annotations

import sys
from types import CodeType, FunctionType, ModuleType

from hakoniwa import recordreader
from hakoniwa.errors import HakoError
from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MODULE = "__hako_main__"  # what `__name__` is while a file is executed for its functions

_modules: dict[str, tuple[ModuleType, CodeType]] = {}


class Reference(Record):
    """Where a function is defined, as `spec.functions.name_function` tells it. `name` is its `__qualname__`."""

    file: str
    line: int
    name: str


def find_function(told: dict[str, Any]) -> FunctionType:
    """The function that is told of, in the module of its file.

    Raises record.Unreadable for what tells of none, and HakoError when the file cannot be executed or has changed.
    """
    reference = recordreader.read(Reference, told)
    module, code = _module_of(reference.file)
    found = [
        inner
        for inner in _codes_in(code)
        if (inner.co_firstlineno, inner.co_qualname) == (reference.line, reference.name)
    ]
    if len(found) != 1:
        what = "there is no such function" if not found else "there are several functions"
        raise HakoError(
            f"{what} at line {reference.line}: {reference.name}",
            where=reference.file,
            hint="has the file changed since it was loaded?" if not found else "write one to a line",
        )
    named: object = module
    for word in reference.name.split("."):
        named = getattr(named, word, None)
    if isinstance(named, FunctionType) and named.__code__ == found[0]:
        return named  # with the defaults of its arguments
    return FunctionType(found[0], module.__dict__, found[0].co_name)


def _module_of(file: str) -> tuple[ModuleType, CodeType]:
    """A file, executed as a module once in this process."""
    if file not in _modules:
        with open(file, "rb") as stream:
            source = stream.read()
        module = ModuleType(MODULE)
        module.__file__ = file
        sys.modules.setdefault(MODULE, module)
        code = compile(source, file, "exec", dont_inherit=True)
        _modules[file] = (module, code)
        try:
            exec(code, module.__dict__)
        except HakoError:
            raise
        except BaseException as error:
            told = f"cannot be executed for its hooks: {type(error).__name__}: {error}"
            raise HakoError(told, where=file, hint='keep what it does below `if __name__ == "__main__":`') from error
    return _modules[file]


def _codes_in(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes_in(constant)
