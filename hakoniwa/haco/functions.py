"""What a function takes, as far as hooks and steps must know."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PLAIN = type(lambda: None)
_VARIADIC, _COROUTINE = 0x04, 0x80  # inspect.CO_VARARGS, CO_COROUTINE


def takes(function: Callable[..., object], count: int) -> bool:
    """Whether a function can be called with so many arguments."""
    if type(function) is not _PLAIN:
        return _binds(function, count)
    code = function.__code__
    least = code.co_argcount - len(function.__defaults__ or ())
    most = 255 if code.co_flags & _VARIADIC else code.co_argcount
    return least <= count <= most and code.co_kwonlyargcount <= len(function.__kwdefaults__ or ())


def _binds(function: Callable[..., object], count: int) -> bool:
    """As `takes`, for methods, classes and whatever else can be called."""
    import inspect

    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        pass  # of the C language, without a signature
    return True


def parameters(function: Callable[..., object]) -> str:
    """What a function takes, in words."""
    import inspect

    return f"it takes {inspect.signature(function)}"


def is_coroutine(function: object) -> bool:
    """Whether a function is an `async def`."""
    return bool(getattr(getattr(function, "__code__", None), "co_flags", 0) & _COROUTINE)
