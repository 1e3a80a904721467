"""The strategy of a container: one of ours, of another package, or an object of its file."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes import idmap
from hakoniwa.spec.strategies import SETTINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from hakoniwa.spec.records import Container


def load_strategy(container: Container) -> Any:
    """The module of one of our strategies, or the object of another. Raises HakoError."""
    strategy = container.build.bootstrap.strategy
    if not isinstance(strategy, str):
        return strategy
    from hakoniwa.haco.sections.bootstrap import load_installed

    if strategy in SETTINGS:
        return own_strategy(strategy)
    try:
        found = load_installed(strategy)
    except Exception as error:
        told = f"strategy {strategy!r} cannot be loaded: {type(error).__name__}: {error}"
        raise HakoError(told, where=container.build.bootstrap.where, hint="--debug shows the traceback") from error
    if not callable(getattr(found, "bootstrap", None)):
        raise HakoError(f"strategy {strategy!r} has no bootstrap(boot) method", where=container.build.bootstrap.where)
    return found


def own_strategy(name: str) -> ModuleType:
    """The module of one of our strategies."""
    from importlib import import_module

    return import_module(f"hakoniwa.rootfs.strategies.{name}")


def must_be_possible(container: Container, strategy: Any) -> None:
    """Raise HakoError if the caller is not the host's root, and the strategy takes that: to make device nodes, say."""
    if getattr(strategy, "TAKES_ROOT", False) and not idmap.is_host_root():
        others = [name for name in SETTINGS if not getattr(own_strategy(name), "TAKES_ROOT", False)]
        raise HakoError(
            f"strategy {described(container)} takes root",
            where=container.build.bootstrap.where,
            hint=f"without root: {', '.join(others[:-1])} and {others[-1]}",
        )


def described(container: Container) -> str:
    """The strategy as messages name it."""
    strategy = container.build.bootstrap.strategy
    return repr(strategy) if isinstance(strategy, str) else type(strategy).__name__


def summary(container: Container) -> str:
    """The strategy and its main setting, as a list of layers shows them: `debootstrap bookworm`."""
    strategy = container.build.bootstrap.strategy
    if not isinstance(strategy, str):
        return described(container)
    main = container.build.bootstrap.settings.get(next(iter(SETTINGS.get(strategy, {})), ""))
    return f"{strategy} {os.path.basename(main)}" if isinstance(main, str) and "\n" not in main else strategy
