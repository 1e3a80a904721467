"""Which check is for which field of a record: those of values.py, and for networks those that are loaded when there is one."""

from __future__ import annotations

from hakoniwa.spec.rules.values import VALUES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hakoniwa.record import Record


def checks_of(kind: type[Record]) -> dict[str, Callable[[Any], Any]]:
    """The checks of a record's fields, by their names."""
    if kind.__module__ == "hakoniwa.spec.networks":
        from hakoniwa.spec.rules.networkvalues import VALUES as of_networks

        return of_networks.get(kind, {})
    return VALUES.get(kind, {})
