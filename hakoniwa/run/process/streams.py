"""The standard streams of a process inside. None of them leads to a file of the host that could be opened once more.

What a process has open it can open again through /proc/self/fd, for writing too, and it can change the mode and the owner
of what it has open (`man 5 proc_pid_fd`). So a container gets its own null device in place of the host's, and for files of
the host pipes, which a process of ours fills and empties (pump.py). Pipes and sockets have nothing else behind them, and
pass as they are.
"""

from __future__ import annotations

import os
import stat

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem.paths import NULL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from hakoniwa.run.process.pump import Pump
    from hakoniwa.spec.held import Stream

_NAMES = ("standard input", "standard output", "standard error")


class Streams:
    """What takes the place of the standard streams. The descriptors are ours, and closed by `close`."""

    def __init__(self) -> None:
        self.inherited: dict[int, int] = {}  # by number: what a process inside has instead of ours, from its beginning
        self.files: dict[int, int] = {}  # by number: what it has once its streams are redirected
        # The numbers of those that are to be its own null device (steps/files/devices.py).
        self.null: tuple[int, ...] = ()
        self._pump: Pump | None = None

    def close(self) -> None:
        """Let go of the ends that are the process's, once it has been cloned."""
        for descriptor in {*self.inherited.values(), *self.files.values()}:
            os.close(descriptor)
        self.inherited, self.files = {}, {}

    def finish(self, wakeup: int, *, asked: bool) -> list[HakoError]:
        """Wait until all that was written has arrived; `asked`: we were to end. Returns why something could not."""
        return self._pump.finish(wakeup, asked=asked) if self._pump is not None else []

    def pass_through(self, links: Iterable[tuple[int, int, bool]]) -> None:
        """Put pipes in the place of files: each link is a number, the open file, and whether the file is inherited."""
        from hakoniwa.run.process.pump import Pump

        pump = Pump()
        shared: dict[tuple[int, int], int] = {}  # standard output and error may lead to one file
        for number, file, inherited in links:
            status = os.fstat(file)
            known = (status.st_dev, status.st_ino)
            place = self.inherited if inherited else self.files
            if number and known in shared:
                place[number] = os.dup(shared[known])
                continue
            place[number] = pump.add(number, file)
            if number:
                shared[known] = place[number]
        pump.start({*self.inherited.values(), *self.files.values()})
        self._pump = pump


def choose_streams(
    replaced: Collection[int] = (), redirected: Iterable[tuple[Stream, int]] = (), *, output: int = -1
) -> Streams:
    """The streams of a process that is to be inside, made of ours and of files of the host that were opened for it.

    `replaced` are the numbers of those that it replaces itself, by a terminal or by files inside. `redirected` files are
    closed. `output` is a pipe for standard output and error, or -1. Raises HakoError for a stream that cannot be given to
    a container.
    """
    streams = Streams()
    if output != -1:
        streams.inherited = {1: os.dup(output), 2: os.dup(output)}
    files = {stream.number: file for stream, file in redirected}
    links: list[tuple[int, int, bool]] = []
    for number in (0, 1, 2):
        if number in replaced or (number in streams.inherited and number not in files):
            continue
        kind = _kind(files.get(number, number), number)
        if kind == "null":
            streams.null += (number,)
        if kind == "file":
            links.append((number, files.get(number, number), number not in files))
        elif number in files:
            streams.files[number] = os.dup(files[number])
    if links:
        streams.pass_through(links)
    for file in files.values():
        os.close(file)
    return streams


def _kind(file: int, number: int) -> str:
    """What an open file is for a container: "null", a "file" that it must not have itself, or what may "pass"."""
    try:
        status = os.fstat(file)
    except OSError:
        return "null"  # it is closed
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        told = f"{_NAMES[number]} is a folder, from which the whole host could be reached"
        raise HakoError(told, hint=f"{number}</dev/null")
    if stat.S_ISCHR(mode) and status.st_rdev == NULL:
        return "null"
    if stat.S_ISSOCK(mode):
        return "pass"
    return "pass" if stat.S_ISFIFO(mode) and _is_anonymous(file) else "file"


def _is_anonymous(pipe: int) -> bool:
    """Whether a pipe has no name in any file system. `man 7 pipe`."""
    return os.readlink(f"/proc/self/fd/{pipe}").startswith("pipe:")
