"""A process that passes bytes between files of the host and the pipes that a container has in their place.

It belongs to nobody's session and hears no signal but KILL: it ends when there is nothing left to pass on. What a container
leaves running keeps its streams until it ends.
"""

from __future__ import annotations

import os
import select

from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes import process, signals
from hakoniwa.run.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import NoReturn

_CHUNK = 65536
_PATIENCE = 10.0  # seconds for what a container that was asked to end has written
_NAMES = ("read standard input", "write to standard output", "write to standard error")


class _Link:
    """One stream: bytes go from `source` to `target`, one of which is ours and the other the container's pipe."""

    def __init__(self, number: int, source: int, target: int) -> None:
        self.number = number
        self.source = source
        self.target = target
        self._held = b""  # read, and not taken yet
        self.error = 0

    def awaited(self) -> dict[int, int]:
        """The descriptors to poll, and for what; that nobody inside reads any more is told in any case."""
        if self.holds():
            return {self.target: select.POLLOUT}
        return {self.source: select.POLLIN, **({} if self.number else {self.target: 0})}

    def holds(self) -> bool:
        """Whether something was read that has not been taken yet."""
        return bool(self._held)

    def pass_on(self, ready: int) -> bool:
        """Read or write once, without waiting, a descriptor being ready. False when there will be nothing more to do."""
        if ready == self.target and not self._held:
            return False
        try:
            if self._held:
                self._held = self._held[os.write(self.target, self._held) :]
                return True
            self._held = os.read(self.source, _CHUNK)
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False  # nobody inside reads any more
        except OSError as error:
            self.error = error.errno or 5
            return False
        return bool(self._held)

    def close(self) -> None:
        """The container sees the end of its pipe."""
        os.close(self.source)
        os.close(self.target)


class Pump:
    """That process, as the one that started it sees it."""

    def __init__(self) -> None:
        self._links: list[_Link] = []
        self._hold = self._told = self._pid = -1

    def add(self, number: int, file: int) -> int:
        """Pass on between `file` and a new pipe, whose other end is returned: the container's, and the caller's to close."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        ours, theirs = (reader, writer) if number else (writer, reader)
        os.set_blocking(ours, False)
        own = os.dup(file)
        self._links.append(_Link(number, reader if number else own, own if number else writer))
        return theirs

    def start(self, theirs: Collection[int]) -> None:
        """Fork the process, which lets go of everything but its own; `theirs` are ends that are the container's."""
        hold_reader, self._hold = os.pipe2(os.O_CLOEXEC)
        self._told, told_writer = os.pipe2(os.O_CLOEXEC)
        self._pid, pidfd = process.clone(0)
        if self._pid == 0:
            kept = {link.source for link in self._links} | {link.target for link in self._links}
            _run(self._links, hold_reader, told_writer, kept)
        os.close(pidfd)
        os.close(hold_reader)
        os.close(told_writer)
        for link in self._links:
            link.close()

    def finish(self, wakeup: int, *, asked: bool) -> list[HakoError]:
        """Wait until all that has been written so far has arrived. Returns why something could not.

        Where a signal has asked us to end, or does so meanwhile, nobody who does not read keeps us from it.
        """
        os.close(self._hold)
        loop, told = Loop(), bytearray()

        def hear() -> None:
            more = os.read(self._told, 64)
            told.extend(more)
            if not more:
                loop.stop()

        def give_up() -> None:
            os.kill(self._pid, signals.SIGKILL)  # not reaped yet: the pid is still its own
            loop.stop()

        loop.add(self._told, hear)
        loop.hear(wakeup, lambda number: give_up() if number in signals.ENDING else None)
        if asked:
            loop.after(_PATIENCE, give_up)
        loop.run()
        os.close(self._told)
        os.waitpid(self._pid, os.WNOHANG)
        pairs = zip(told[::2], told[1::2], strict=False)
        return [HakoError(f"cannot {_NAMES[number]}: {os.strerror(errno)}") for number, errno in pairs]


def _run(links: list[_Link], hold: int, told: int, kept: set[int]) -> NoReturn:
    """Be that process. Never returns."""
    try:
        os.setsid()
        for number in (signals.SIGTERM, signals.SIGINT, signals.SIGHUP, signals.SIGQUIT):
            signals.signal(number, signals.SIG_IGN)
        null = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        process.close_all_but({hold, told, *kept})
        _pass_all(links, hold, told)
    finally:
        os._exit(0)


def _pass_all(links: list[_Link], hold: int, told: int) -> None:
    """Pass on until all links have ended. When `hold` ends, and nothing is left to do at once, `told` is closed."""
    ending = False  # somebody waits to hear that what was written has arrived
    while links:
        poll = select.poll()
        by_descriptor = {}
        for link in links:
            for descriptor, event in link.awaited().items():
                poll.register(descriptor, event)
                by_descriptor[descriptor] = link
        if not ending:
            poll.register(hold, select.POLLIN)
        asked = ending and told != -1 and not any(link.number and link.holds() for link in links)
        ready = [descriptor for descriptor, _ in poll.poll(0 if asked else None)]
        ending = ending or hold in ready
        moving = [by_descriptor[descriptor] for descriptor in ready if descriptor != hold]
        if asked and not any(link.number for link in moving):
            os.close(told)
            told = -1
        for descriptor, link in by_descriptor.items():
            if descriptor not in ready or link not in links or link.pass_on(descriptor):
                continue
            if link.error and told != -1:
                os.write(told, bytes((link.number, link.error)))
            link.close()
            links.remove(link)
