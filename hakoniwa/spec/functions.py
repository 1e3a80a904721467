"""Functions of a spec: those that can be named by file and line, and a spec without any."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

    from hakoniwa.spec.records import Barn, Build, Container

_FUNCTION = type(lambda: None)
_LARGEST = 4 << 20  # bytes of a file that is looked into


def name_function(function: object, where: str = "") -> dict[str, str | int]:
    """The file, line and name of a function. Raises HakoError where these do not tell it from every other."""
    name = str(getattr(function, "__qualname__", type(function).__qualname__))
    if type(function) is not _FUNCTION:
        kind = type(function).__name__
        raise _cannot(name, f"it is a {kind}, and not a function that was defined in a file", where, "wrap it in a def")
    code = function.__code__
    if code.co_freevars:
        variables = " ".join(code.co_freevars)
        raise _cannot(name, f"it uses variables of the function around it: {variables}", where, "define it outside")
    if not code.co_filename.startswith("/") or not os.path.isfile(code.co_filename):
        raise _cannot(name, f"it is in no file, but in {code.co_filename}", where, "define it in a file")
    if (function.__defaults__ or function.__kwdefaults__) and function.__globals__.get(name) is not function:
        raise _cannot(name, "it has default values, and is not what its module has by that name", where)
    if _alike(code) != 1:
        told = f"{code.co_filename}:{code.co_firstlineno} does not tell which function it is"
        raise _cannot(name, told, where, "write it on a line of its own")
    return {"file": code.co_filename, "line": code.co_firstlineno, "name": name}


def _cannot(name: str, why: str, where: str, hint: str = "") -> HakoError:
    return HakoError(f"the function {name!r} cannot be passed on: {why}", where=where, hint=hint)


def _alike(wanted: CodeType) -> int:
    """How many functions of that name begin on that line of the file, as it is now."""
    try:
        with open(wanted.co_filename, "rb") as file:
            code = compile(file.read(_LARGEST), wanted.co_filename, "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError):
        return 0
    every = [code]
    for outer in every:
        every += [constant for constant in outer.co_consts if isinstance(constant, type(code))]
    place = (wanted.co_firstlineno, wanted.co_qualname)
    return sum((one.co_firstlineno, one.co_qualname) == place for one in every)


def without_functions(barn: Barn) -> tuple[Barn, list[str]]:
    """A barn without its functions, and what was left out, in words."""
    left = [f"the hook {hook.point!r}{_at(hook.where)}" for hook in barn.hooks]
    if barn.real_id_check is not None:
        left.append(f"validate_real_id{_at(barn.real_id_check.where)}")
    containers = []
    for container in barn.containers:
        left += [text for text in _left_of(container) if text not in left]
        containers.append(container.replace(hooks=type(container.hooks)(), build=_without(container.build)))
    return barn.replace(hooks=(), real_id_check=None, containers=tuple(containers)), left


def _at(where: str) -> str:
    return f" ({where})" if where else ""


def _left_of(container: Container) -> Iterator[str]:
    for hook in container.hooks.general:
        yield f"the hook {hook.point!r}{_at(hook.where)}"
    for background in container.hooks.background:
        yield f"the {background.kind} hook{_at(background.where)}"
    build = container.build
    if not _can_be_said(build):
        yield f"how the rootfs is made{_at(build.bootstrap.where)}"
    for hook in build.bootstrap.postprocess:
        yield f"the postprocess function{_at(hook.where)}"
    for step in build.provision.steps:
        if step.function is not None:
            yield f"the step of provisioning {step.label!r}{_at(step.where)}"


def _can_be_said(build: Build) -> bool:
    bootstrap = build.bootstrap
    return not any(callable(value) for value in bootstrap.settings.values()) and (
        bootstrap.strategy is None or isinstance(bootstrap.strategy, str)
    )


def _without(build: Build) -> Build:
    """What is said of a build, without functions; a rootfs that only functions can make has to be there."""
    bootstrap, provision = build.bootstrap.replace(postprocess=()), build.provision
    if not _can_be_said(build):
        bootstrap = type(bootstrap)(skip=True, where=bootstrap.where)
    steps = tuple(step for step in provision.steps if step.function is None)
    if len(steps) < len(provision.steps):  # they are known by their numbers among all
        steps = tuple(step.replace(name=step.label) for step in steps)
    return build.replace(bootstrap=bootstrap, provision=provision.replace(steps=steps))
