"""What is done with the containers of a barn while it runs, as it is asked for (requests.py)."""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.errors import HakoError, closest, joined
from hakoniwa.kernel.processes import process, signals
from hakoniwa.kernel.processes.pidfd import has_ended
from hakoniwa.run.barn import messages
from hakoniwa.run.barn.late import requests
from hakoniwa.run.barn.late.requests import Answer
from hakoniwa.run.barn.member import Member
from hakoniwa.run.barn.row import start_in_rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hakoniwa.run.barn.late.door import Visitor
    from hakoniwa.run.barn.late.requests import Request
    from hakoniwa.run.barn.process import BarnProcess


class Members:
    """The containers of a barn, and who waits for something of them."""

    def __init__(self, process: BarnProcess) -> None:
        self._process = process
        self._checks: dict[int, messages.Inbox] = {}  # of documents, by their pipes
        self._waiting: list[tuple[Callable[[], bool], Callable[[], None]]] = []
        self._do: dict[type[Request], Callable[[Any, Visitor], None]] = {
            requests.List: self._list,
            requests.Add: self._add,
            requests.Start: self._start,
            requests.Stop: self._stop,
            requests.Remove: self._remove,
            requests.End: self._end,
        }
        self.descriptors: Callable[[], list[int]] = list  # of who asks: what supervisors must not keep

    def serve(self, request: Request, visitor: Visitor) -> None:
        """Do what is asked, and answer, now or later. Raises HakoError if it cannot be done."""
        for member in self._process.members:
            self._catch_up(member)
        self._do[type(request)](request, visitor)

    def tell_who_waits(self) -> None:
        """Answer those for whom something has come to pass."""
        for entry in [*self._waiting]:
            has_come, answer = entry
            if has_come():
                self._waiting.remove(entry)
                answer()

    def _catch_up(self, member: Member) -> None:
        """Hear what its supervisor has told by now: who asks may know that it has ended."""
        from hakoniwa.kernel.filesystem.files import wait_readable

        while member.inbox is not None and wait_readable(member.inbox.pipe, seconds=0):
            self._process.hear(member)

    def _find(self, name: str) -> Member:
        for member in self._process.members:
            if member.name == name:
                return member
        names = [member.name for member in self._process.members]
        hint = closest(name, names) or (f"it has {' '.join(names)}" if names else "it has none")
        raise HakoError(f"barn {self._process.barn.name!r} has no container {name!r}", hint=hint)

    def _must_go_on(self) -> None:
        if self._process.ended_by is not None:
            raise HakoError(f"barn {self._process.barn.name!r} is ending")

    def _must_be_mutable(self) -> None:
        self._must_go_on()
        if self._process.barn.immutable:
            told = f"barn {self._process.barn.name!r} is immutable: its containers are those that it was made with"
            raise HakoError(told)

    def _list(self, _: requests.List, visitor: Visitor) -> None:
        visitor.answer(Answer(members=tuple(member.fare() for member in self._process.members)))

    def _add(self, request: requests.Add, visitor: Visitor) -> None:
        self._must_be_mutable()
        reader, writer = os.pipe2(os.O_CLOEXEC)
        log.flush_prints()
        signals.block()
        try:
            child = os.fork()
        except OSError as error:
            signals.unblock()
            os.close(reader)
            os.close(writer)
            raise HakoError(f"no process can be had to look at the document: {error.strerror}") from None
        if child == 0:
            self._be_check(request.document, writer)
        signals.unblock()
        os.close(writer)
        self._checks[reader] = messages.Inbox(reader)
        hear = lambda: self._hear_check(child, reader, visitor)  # noqa: E731
        self._process.loop.add(reader, hear, "hear of a document")

    def _be_check(self, document: str, writer: int) -> None:
        signals.reset_all()
        process.close_all_but({writer})
        from hakoniwa.run.barn.late.admission import tell_whether_admitted

        tell_whether_admitted(document, self._process.barn, writer)

    def _hear_check(self, child: int, pipe: int, visitor: Visitor) -> None:
        heard = self._checks[pipe].receive()
        for kind, parts in heard or ():
            try:
                if kind == messages.REFUSED:
                    raise joined([messages.error_of(problem) for problem in parts])  # type: ignore[arg-type]
                name, packed = parts
                self._take_in(name, packed)
                visitor.answer(Answer(members=(self._process.members[-1].fare(),)))
            except HakoError as error:
                visitor.refuse(error)
        if heard is None:
            self._process.loop.drop(pipe)
            del self._checks[pipe]
            os.close(pipe)
            os.waitpid(child, 0)
            visitor.refuse_unanswered(HakoError("the process that looked at the document was killed"))

    def _take_in(self, name: Any, packed: Any) -> None:
        self._must_be_mutable()  # it may be ending by now
        if any(member.name == name for member in self._process.members):
            told = f"barn {self._process.barn.name!r} has a container {name!r} already"
            raise HakoError(told, hint="give another name, or remove that one")
        self._process.members.append(Member(name, packed=packed))

    def _start(self, request: requests.Start, visitor: Visitor) -> None:
        self._must_go_on()
        member, shared = self._find(request.name), self._process.shared
        if member.inbox is not None:
            raise HakoError(f"container {member.name!r} is already {member.fare().status}")
        if shared is not None and shared.first != -1 and has_ended(shared.first):
            told = "the first process of the pid namespace that the barn shares was killed, and nothing can be started in it"
            raise HakoError(told, hint="end the barn, and make it anew")
        if request.wait and request.hold:
            raise HakoError("a container that is held is not ready before it is released", hint="ask for one of both")
        member.begin_anew(hold=request.hold)
        others = [*self._checks, *self.descriptors()]
        start_in_rows(self._process, [member], others, wait=request.wait, watch=False)
        self._must_go_on()  # a signal may have come just before

        def answer() -> None:
            if member.error is not None:
                visitor.refuse(member.error)
            elif request.wait and not member.ready:
                told = f"container {member.name!r} has ended, with status {member.code}, before it was ready"
                visitor.refuse(HakoError(told))
            else:
                visitor.answer(Answer(members=(member.fare(),)))

        self._waiting.append((lambda: member.is_settled(wait=request.wait), answer))
        self.tell_who_waits()  # it may have failed before there was a supervisor to tell of it

    def _stop(self, request: requests.Stop, visitor: Visitor) -> None:
        member = self._find(request.name)
        if member.inbox is None:
            visitor.answer(Answer(members=(member.fare(),)))
            return
        os.kill(member.supervisor, signals.SIGTERM)  # not reaped yet: the pid is still its own
        answer = lambda: visitor.answer(Answer(members=(member.fare(),)))  # noqa: E731
        self._waiting.append((lambda: member.inbox is None, answer))

    def _remove(self, request: requests.Remove, visitor: Visitor) -> None:
        self._must_be_mutable()
        member = self._find(request.name)
        if member.inbox is not None:
            raise HakoError(f"container {member.name!r} is {member.fare().status}", hint="stop it first")
        self._process.members.remove(member)
        visitor.answer(Answer(members=(member.fare(),)))

    def _end(self, _: requests.End, visitor: Visitor) -> None:
        log.write(f"{self._process.barn.name}: was asked to end", "info")
        visitor.answer(Answer())
        self._process.end(signals.SIGTERM)
