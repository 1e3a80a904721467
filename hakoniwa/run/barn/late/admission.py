"""What a document adds to a barn. It is read in a process that is forked for that: the barn's own loads nothing for it."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError, every_problem
from hakoniwa.known import state
from hakoniwa.known.statefile import ALIVE
from hakoniwa.run.barn import messages
from hakoniwa.run.barn.late.packing import pack
from hakoniwa.run.prepare import prepare_one
from hakoniwa.spec.documents.document import parse
from hakoniwa.spec.documents.plain import from_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from hakoniwa.spec.records import Barn, Container

_CALLED = "the added container"


def read_member(document: str, barn: Barn) -> Container:
    """The container of a document, as one of this barn. Raises HakoError, with all that is wrong in it."""
    described = from_plain(parse(document.encode(), _CALLED), called=_CALLED)
    if len(described.containers) != 1:
        raise HakoError(f"a document adds one container, and this has {len(described.containers)}", where=_CALLED)
    if described.shared.namespaces:
        raise HakoError("what is shared is said by the barn, and not by a container", where=f"{_CALLED}: shared")
    return described.containers[0].replace(barn=barn.name, file=barn.file, origin=barn.origin, siblings="")


def tell_whether_admitted(document: str, barn: Barn, pipe: int) -> NoReturn:
    """Tell the name of the container of a document, or why the barn cannot have it. Never returns."""
    try:
        container = read_member(document, barn)
        prepare_one(container, barn)  # as it is started, later
        _must_be_free(container)
        messages.send(pipe, messages.ADMITTED, container.name, pack(container))
    except HakoError as error:
        messages.send(pipe, messages.REFUSED, *map(messages.parts_of, every_problem(error)))
    except BaseException as error:
        told = HakoError(f"{type(error).__name__}: {error}", where=_CALLED)
        messages.send(pipe, messages.REFUSED, messages.parts_of(told))
    finally:
        os._exit(0)


def _must_be_free(container: Container) -> None:
    """See that the name is neither another file's nor that of what runs. The start sees to that again. Raises HakoError."""
    state.must_belong(container)
    known = state.read(container.name)
    if known is not None and known.status in ALIVE:
        told = f"container {container.name!r} is already running: pid {known.init.pid}, from {known.file}"
        raise HakoError(told, hint=f"hako kill -n {container.name}")
