"""From a definition inside a program to the document that another process starts."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError, Problems, nearest
from hakoniwa.haco.build import build_barn
from hakoniwa.haco.cgroup import LIMITED
from hakoniwa.haco.container import ContainerBuilder
from hakoniwa.library.request import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def describe(builder: ContainerBuilder, name: str | None, token: str) -> dict[str, Any]:
    """The document of a definition, its functions as references; `token` sets one without a name apart from others.

    Raises HakoError when the definition is not complete, or has a function that cannot be called in another process, and
    Problems with all that is wrong in it.
    """
    reading = builder._reading
    if reading.open:
        raise HakoError("this definition is not complete", where=reading.shown, hint="use it after its with block")
    reading.file = os.path.realpath(reading.file)
    barn = build_barn(builder)
    if reading.problems:
        raise Problems(reading.problems)
    if name is not None or token:
        (container, *others) = barn.containers
        if others:
            told = f"the containers have names: {' '.join(one.name for one in barn.containers)}"
            raise HakoError(told, where=reading.shown, hint="name= is for a single one")
        new = name or f"{container.name[: _LONGEST - len(token)]}-{token}"
        hostname = new if container.hostname == container.name else container.hostname
        barn = barn.replace(name=new, containers=(container.replace(name=new, barn=new, hostname=hostname),))
    from hakoniwa.spec.plain import to_plain

    # A program is no container file: nobody but itself may execute it, and names are no file's.
    containers = tuple(one.replace(file="", origin=reading.file) for one in barn.containers)
    return to_plain(barn.replace(file="", origin=reading.file, containers=containers), functions=True)


_LONGEST = 62


def read_limits(limit: Mapping[str, int | float | str | None] | None) -> Limits:
    """The `limit` of a call, checked as `config.limit()` does. Raises HakoError."""
    if not limit:
        return Limits()
    unknown = [word for word in limit if word not in LIMITED]
    if unknown:
        raise HakoError(f"limit {unknown[0]!r} is unknown", hint=nearest(str(unknown[0]), [*LIMITED]))
    from hakoniwa.haco.cgroup import CgroupSection
    from hakoniwa.haco.reading import Reading

    reading = Reading("", "limit")
    section = CgroupSection(reading)
    section._limit(limit.get("memory"), limit.get("cpus"), limit.get("pids"))
    if reading.problems:
        raise Problems(reading.problems)
    built = section._build()
    return Limits(memory=built.memory, cpus=built.cpus, pids=built.pids)
