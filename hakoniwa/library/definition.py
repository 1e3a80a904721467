"""From a definition inside a program to the document that another process starts."""

from __future__ import annotations

import os
import threading

from hakoniwa.errors import HakoError, Problems, nearest
from hakoniwa.haco.build import build_barn, name_parts
from hakoniwa.haco.container import ContainerBuilder
from hakoniwa.haco.sections.cgroup import LIMITED
from hakoniwa.library.request import Limits
from hakoniwa.spec.rules import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from hakoniwa.spec.records import Barn


_UNNAMED = "box"  # what is called so, and a token
_building = threading.Lock()  # a definition may be used from several threads at once


def has_a_name(builder: ContainerBuilder) -> bool:
    """Whether the definition says what its container, or each of them, is called."""
    with _building:  # which gives it one for a while
        return builder.name is not None or bool(builder._children)


def describe(builder: ContainerBuilder, name: str | None, token: str) -> dict[str, Any]:
    """The document of a definition, its functions as references; `token` sets one without a name apart from others.

    Raises HakoError when the definition is not complete, or has a function that cannot be called in another process, and
    Problems with all that is wrong in it.
    """
    reading = builder._reading
    if reading.open:
        raise HakoError("this definition is not complete", where=reading.shown, hint="use it after its with block")
    reading.file = os.path.realpath(reading.file)
    if name is not None and builder._children:
        told = f"the containers have names: {' '.join(str(one.name) for one in builder._children)}"
        raise HakoError(told, where=reading.shown, hint="name= is for a single one")
    with _building:
        barn = _build(builder, name, token)
    if reading.problems:
        raise Problems(reading.problems)
    from hakoniwa.spec.documents.plain import to_plain

    # A program is no container file: nobody but itself may execute it, and names are no file's.
    containers = tuple(one.replace(file="", origin=reading.file) for one in barn.containers)
    return to_plain(barn.replace(file="", origin=reading.file, containers=containers), functions=True)


def _build(builder: ContainerBuilder, name: str | None, token: str) -> Barn:
    """The barn, as if the definition had this name, or its own with the token; the default place of a rootfs follows from that."""
    if not token:
        return build_barn(builder) if name is None else _built_as(builder, name)
    barn = build_barn(builder) if _names(builder._reading.file) else _built_as(builder, _UNNAMED)
    if builder._reading.problems:
        return barn
    return _built_as(builder, f"{barn.name[: checks.LONGEST_NAME - 1 - len(token)]}-{token}")


def _names(file: str) -> bool:
    """Whether a file can name a container: what a program has read from standard input, or got by `-c`, cannot."""
    try:
        checks.name(name_parts(file)[1])
    except checks.Wrong:
        return False
    return True


def _built_as(builder: ContainerBuilder, name: str) -> Barn:
    before = builder._values.get("name")
    builder._values["name"] = name
    try:
        return build_barn(builder)
    finally:
        builder._values["name"] = before


def read_limits(limit: Mapping[str, int | float | str | None] | None) -> Limits:
    """The `limit` of a call, checked as `config.limit()` does. Raises HakoError."""
    if not limit:
        return Limits()
    unknown = [word for word in limit if word not in LIMITED]
    if unknown:
        raise HakoError(f"limit {unknown[0]!r} is unknown", hint=nearest(str(unknown[0]), [*LIMITED]))
    from hakoniwa.haco.reading import Reading
    from hakoniwa.haco.sections.cgroup import CgroupSection

    reading = Reading("", "limit")
    section = CgroupSection(reading)
    section._limit(limit.get("memory"), limit.get("cpus"), limit.get("pids"))
    if reading.problems:
        raise Problems(reading.problems)
    built = section._build()
    return Limits(memory=built.memory, cpus=built.cpus, pids=built.pids)
