"""What a supervisor is given by the barn's process."""

from __future__ import annotations

from hakoniwa.record import Record
from hakoniwa.spec.held import NOTHING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from hakoniwa.known.statefile import ProcessRecord


class Inheritance(Record):
    """What the barn's process hands to a supervisor. What is an `int` is a descriptor."""

    tell: Callable[..., None]  # takes the kind of a message and its parts
    barn: ProcessRecord  # the barn's process, which may be the supervisor itself
    ending: tuple[int, ...]  # the signals that ask it to end
    lifeline: int  # readable once the front process has ended, or the program that the container is bound to; or -1
    files: set[int] | None  # that the container file has open for hooks in the first process; None without such hooks
    front: int  # a socket that takes the master of the pty; -1 without a terminal
    terminal: int  # the user's terminal, to restore it when the front was killed; -1 without
    saved: list[Any] | None  # its settings
    notes: int  # a pipe to the front process, which writes there what we have to say; -1 without a terminal
    term: str  # the TERM of the payload
    background: bool
    watch: bool  # reload when the file changes
    wait: bool  # the caller waits until the container is ready
    beside: tuple[str, ...] = ()  # the containers of the barn, by their names
    shared: Mapping[str, int] = NOTHING  # the namespaces that the barn shares, open
