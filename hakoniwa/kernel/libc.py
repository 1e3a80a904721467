"""The one door to system calls that Python 3.11 does not offer.

Uses the core of `ctypes` without its Python face, which defines some forty types and costs a third of an interpreter
start. Calls keep the GIL (FUNCFLAG_PYTHONAPI, as `ctypes.PyDLL` does): a child cloned while another thread holds the GIL
would wait for it for ever.
"""

from __future__ import annotations

import os
from _ctypes import (
    FUNCFLAG_CDECL,
    FUNCFLAG_PYTHONAPI,
    FUNCFLAG_USE_ERRNO,
    CFuncPtr,
    _SimpleCData,
    dlopen,
    dlsym,
    get_errno,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

    _Simple = _SimpleCData[int]
else:
    _Simple = _SimpleCData

# Numbers of system calls from 424 on are the same on every architecture (include/uapi/asm-generic/unistd.h).
OPEN_TREE = 428
MOVE_MOUNT = 429
FSOPEN = 430
FSCONFIG = 431
FSMOUNT = 432
CLONE3 = 435
CLOSE_RANGE = 436
OPENAT2 = 437
MOUNT_SETATTR = 442

_PY_FILE_INPUT = 257  # Include/compile.h

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000


class _Long(_Simple):
    _type_ = "l"


class _Pointer(_Simple):
    """Takes an integer, bytes or None, which is what system calls are made of."""

    _type_ = "P"


class _Text(_Simple):
    """Holds the address of the bytes that it is made from."""

    _type_ = "z"


class _Object(_Simple):
    """A Python object, which a function of the interpreter returns."""

    _type_ = "O"


class _Function(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_PYTHONAPI | FUNCFLAG_USE_ERRNO
    _restype_ = _Long


_program = dlopen(None, 0)  # type: ignore[arg-type]  # None is this program, with the C library


def _find(name: str, arguments: int) -> Callable[..., int]:
    function = _Function(dlsym(_program, name))
    function.argtypes = (_Pointer,) * arguments
    return function


_syscall = _find("syscall", 7)
_functions: dict[str, Callable[..., int]] = {}
_fork_hooks: list[Callable[[], int]] = []


def _raise(path: str | bytes | None) -> None:
    number = get_errno()
    name = path.decode(errors="surrogateescape") if isinstance(path, bytes) else path
    raise OSError(number, os.strerror(number), name)


def syscall(number: int, *arguments: int | bytes | None, path: str | bytes | None = None) -> int:
    """A system call by number. Raises OSError, naming `path` when it is given. `man 2 syscall`."""
    result = _syscall(number, *arguments, *(0,) * (6 - len(arguments)))
    if result == -1:
        _raise(path)
    return result


def call(name: str, *arguments: int | bytes | None, path: str | bytes | None = None) -> int:
    """A function of the C library that returns an `int` and sets `errno`. Raises OSError, naming `path`."""
    function = _functions.get(name)
    if function is None:
        function = _functions[name] = _find(name, len(arguments))
    result = function(*arguments)
    if result & 0xFFFFFFFF == 0xFFFFFFFF:
        _raise(path)
    return result


def address_of(content: bytes) -> int:
    """Where bytes lie in memory, for records that point to others; they must be kept for as long as it is used."""
    return _Pointer.from_buffer(_Text(content)).value or 0  # type: ignore[arg-type]


def compile_file(source: bytes, file: str) -> CodeType:
    """The code of a Python file, as `compile(source, file, "exec")` makes it.

    `compile()` first builds the classes of `ast`, some two hundred, to see whether it was given a tree; that takes more
    than ten times as long as compiling a container file. `Py_CompileString` (Stable ABI) does not. Raises SyntaxError.
    """
    function = _Function(dlsym(_program, "Py_CompileString"))
    function.argtypes = (_Pointer, _Pointer, _Long)
    function.restype = _Object
    code: CodeType = function(source, os.fsencode(file), _PY_FILE_INPUT)
    return code


def raise_in_thread(ident: int, kind: type[BaseException]) -> None:
    """Have an exception raised in a thread as soon as it executes Python code. `PyThreadState_SetAsyncExc`, Stable ABI."""
    function = _Function(dlsym(_program, "PyThreadState_SetAsyncExc"))
    function.argtypes = (_Pointer, _Object)
    function(ident, _Object(kind))  # type: ignore[arg-type]  # it holds any object


def fork_hooks() -> tuple[Callable[[], int], Callable[[], int], Callable[[], int]]:
    """CPython's own work around a fork: before it, after it in the parent, after it in the child."""
    if not _fork_hooks:
        _fork_hooks.extend(_find(f"PyOS_{name}", 0) for name in ("BeforeFork", "AfterFork_Parent", "AfterFork_Child"))
    before, in_parent, in_child = _fork_hooks
    return before, in_parent, in_child
