"""Several containers in the foreground: nobody has stdin, and each line of output begins with the container's name."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hakoniwa.run.barn.process import BarnProcess

_CHUNK = 65536
_LONGEST = 1 << 20  # bytes of a line, which is kept until it is whole


class _Prefixed:
    """One stream of a container, on its way to ours with a name before each line; a terminal gets what it cannot act on."""

    def __init__(self, pipe: int, name: str, target: int) -> None:
        self.pipe = pipe
        self._prefix = f"{name} | ".encode()
        self._target = target
        self._line = b""
        self._shown = None
        if os.isatty(target):
            from hakoniwa.run.terminal.harmless import Harmless

            self._shown = Harmless()

    def pass_on(self) -> bool:
        """Read once and write the lines that are complete. False at the end."""
        more = os.read(self.pipe, _CHUNK)
        output = more
        if self._shown is not None:
            output = self._shown.feed(more) if more else self._shown.end()
        *lines, self._line = (self._line + output).split(b"\n")
        if self._line and (not more or len(self._line) > _LONGEST):
            lines.append(self._line)
            self._line = b""
        for line in lines:
            written = self._prefix + line + b"\n"
            while written:
                written = written[os.write(self._target, written) :]
        if not more:
            os.close(self.pipe)
        return bool(more)


def run_several(process: BarnProcess, watch: bool) -> None:
    """Start all members of the barn, and pass on what they print until all have ended."""
    streams: dict[int, _Prefixed] = {}

    def pass_on(reader: int) -> None:
        if not streams[reader].pass_on():
            process.loop.drop(reader)
            del streams[reader]

    for member in process.members:
        out, err = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        process.spawn(member, watch=watch, before=_redirect(out[1], err[1], [*streams, out[0], err[0]]))
        for (reader, writer), target in ((out, 1), (err, 2)):
            os.close(writer)
            streams[reader] = _Prefixed(reader, member.name, target)
            process.loop.add(reader, lambda reader=reader: pass_on(reader))  # type: ignore[misc]
    process.loop.run(lambda: not streams and process.have_all_ended())


def _redirect(out: int, err: int, others: list[int]) -> Callable[[], None]:
    """What a supervisor does first: no stdin, its output into our pipes, and nothing of its siblings'."""

    def redirect() -> None:
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(null, 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        for descriptor in (null, out, err, *others):
            os.close(descriptor)

    return redirect
