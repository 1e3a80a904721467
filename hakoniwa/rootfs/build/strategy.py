"""The strategy of a container: one of ours, of another package, or an object of its file."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError

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
    from hakoniwa.haco.bootstrap import load_installed
    from hakoniwa.spec.buildchecks import SETTINGS

    if strategy in SETTINGS:
        return _own_strategy(strategy)
    try:
        found = load_installed(strategy)
    except Exception as error:
        told = f"strategy {strategy!r} cannot be loaded: {type(error).__name__}: {error}"
        raise HakoError(told, where=container.build.bootstrap.where, hint="--debug shows the traceback") from error
    if not callable(getattr(found, "bootstrap", None)):
        raise HakoError(f"strategy {strategy!r} has no bootstrap(boot) method", where=container.build.bootstrap.where)
    return found


def _own_strategy(name: str) -> ModuleType:
    from importlib import import_module

    return import_module(f"hakoniwa.rootfs.strategies.{name}")


def described(container: Container) -> str:
    """The strategy as messages name it."""
    strategy = container.build.bootstrap.strategy
    return repr(strategy) if isinstance(strategy, str) else type(strategy).__name__


def summary(container: Container) -> str:
    """The strategy and its main setting, as a list of layers shows them: `debootstrap bookworm`."""
    strategy = container.build.bootstrap.strategy
    if not isinstance(strategy, str):
        return described(container)
    from hakoniwa.spec.buildchecks import SETTINGS

    main = container.build.bootstrap.settings.get(*SETTINGS.get(strategy, ("",))[:1])
    return f"{strategy} {os.path.basename(main)}" if isinstance(main, str) and "\n" not in main else strategy
