"""`hako forward`: ports of the host that lead to a running container, for as long as the command runs.

What listens is made on the host; then this process enters the container's network namespace, in which it connects, and, if it
was root, is nobody from then on. It moves bytes from one side to the other and looks at none.
"""

from __future__ import annotations

import os
import resource
import select
import socket
from errno import EADDRINUSE, EINPROGRESS

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes import process, signals
from hakoniwa.known import state
from hakoniwa.run.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hakoniwa.known.statefile import State
    from hakoniwa.spec.networks import Published

_MOST = 256  # connections at once; those beyond wait to be accepted
_CHUNK = 1 << 16  # bytes that are held of each direction at most
_NOBODY = 65534
_BACKLOG = 64
_READ, _WRITE = select.POLLIN, select.POLLOUT


class Forwarding:
    """Ports, and what goes through them."""

    def __init__(self, known: State, ports: Sequence[Published]) -> None:
        """Listen, and be in the container's network from then on. Raises HakoError."""
        self._name = known.name
        self._loop = Loop()
        self._listening: dict[socket.socket, int] = {}
        self._open: set[_Connection] = set()
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = max(1, min(_MOST, (limit - 64) // 2)) if limit != resource.RLIM_INFINITY else _MOST
        container = state.identity(known).open()
        if container is None:
            raise HakoError(f"container {known.name!r} has just ended")
        self._container = container
        for one in ports:
            for number in range(one.count):
                host = one.host or "127.0.0.1"
                self._listening[_listen(host, one.first + number)] = one.inside + number
        self._targets = ["127.0.0.1", "::1", *(known.network.addresses if known.network else ())]
        _enter(known, container)

    def run(self, tell: Callable[[str], None]) -> None:
        """Forward until a signal asks to end, or the container has ended. `tell` is given a line for each port."""
        wakeup = signals.listen(signals.ENDING)
        self._loop.hear(wakeup, lambda number: self._loop.stop())
        self._loop.add(self._container, self._lose_container)
        self._accept_more()
        for listening, inside in self._listening.items():
            host, port = listening.getsockname()[:2]
            tell(f"forwarding {f'[{host}]' if ':' in host else host}:{port} to {self._name}:{inside}")
        self._loop.run()

    def _lose_container(self) -> None:
        log.write(f"{self._name}: the container has ended, and the forwarding with it", "info")
        self._loop.stop()

    def _accept_more(self) -> None:
        for listening in self._listening:
            self._loop.add(listening.fileno(), lambda listening=listening: self._accept(listening))  # type: ignore[misc]

    def _accept(self, listening: socket.socket) -> None:
        try:
            client, _ = listening.accept()
        except (BlockingIOError, ConnectionError):
            return  # it has gone again
        self._open.add(_Connection(self._loop, client, self._targets, self._listening[listening], self._end))
        if len(self._open) >= self._most:
            for one in self._listening:
                self._loop.drop(one.fileno())

    def _end(self, connection: _Connection) -> None:
        self._open.discard(connection)
        if len(self._open) == self._most - 1:
            self._accept_more()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise _cannot_listen(error, host, port) from None
    return listening


def _cannot_listen(error: OSError, host: str, port: int) -> HakoError:
    told = f"cannot listen on port {port} of {host}: {error.strerror}"
    if error.errno == EADDRINUSE:
        from hakoniwa.kernel.sockets import owner_of_port

        owner = owner_of_port(port, "tcp")
        who = (
            f"process {owner.pid} has it: {owner.command}"
            if owner
            else "a process that cannot be seen from here has it"
        )
        return HakoError(f"cannot listen on port {port} of {host}: {who}", where="forward", hint="take another one")
    hint = "a port below 1024 takes root" if isinstance(error, PermissionError) else ""
    return HakoError(told, where="forward", hint=hint)


def _enter(known: State, container: int) -> None:
    """Be in the network namespace of a container, and nobody if we were root. Raises HakoError."""
    try:
        theirs, ours = (os.stat(f"/proc/{pid}/ns/net").st_ino for pid in (known.pid, "self"))
        if theirs != ours:
            spaces = process.NAMESPACES["net"]
            if os.geteuid() != 0 and known.user_namespace:
                spaces |= process.NAMESPACES["user"]  # over which this user has all capabilities
            process.join(container, spaces)
    except OSError as error:
        told = f"cannot enter the network namespace of {known.name!r}: {error.strerror}"
        raise HakoError(told, where="forward") from None
    if os.geteuid() == 0 and os.getuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)


class _End:
    """One side of a connection, and what is on its way there."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.waiting = b""  # to be sent to it
        self.is_read = False  # it has sent all that it will
        self.is_closing = False  # nothing more will be sent to it
        self.is_closed = False  # and it has been told


class _Connection:
    """A connection from outside, and the one inside that it leads to."""

    def __init__(
        self,
        loop: Loop,
        client: socket.socket,
        targets: Sequence[str],
        port: int,
        ended: Callable[[_Connection], None],
    ) -> None:
        self._loop = loop
        self._port = port
        self._ahead = [*targets]
        self._ended = ended
        client.setblocking(False)
        self._outer = _End(client)
        self._inner: _End | None = None
        self._connecting: socket.socket | None = None
        self._connect()

    def _connect(self) -> None:
        """Try the next address inside; without any left, the client is reset as a closed port would do."""
        while self._ahead:
            target = self._ahead.pop(0)
            family = socket.AF_INET6 if ":" in target else socket.AF_INET
            try:
                channel = socket.socket(family, socket.SOCK_STREAM)
            except OSError:
                continue  # no IPv6, or no descriptor is left
            channel.setblocking(False)
            code = channel.connect_ex((target, self._port))
            if code in (0, EINPROGRESS):
                self._connecting = channel
                self._loop.add(channel.fileno(), self._be_connected, mask=_WRITE)
                return
            channel.close()
        self._close(reset=True)

    def _be_connected(self) -> None:
        channel, self._connecting = self._connecting, None
        assert channel is not None
        self._loop.drop(channel.fileno())
        if channel.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            channel.close()
            self._connect()
            return
        self._inner = _End(channel)
        self._await()

    def _move(self, end: _End) -> None:
        """Do what a side is ready for."""
        assert self._inner is not None
        other = self._outer if end is self._inner else self._inner
        try:
            self._send(end)
            if not end.is_read and not other.waiting:
                other.waiting = end.channel.recv(_CHUNK)
                if not other.waiting:
                    end.is_read = other.is_closing = True
                self._send(other)
        except BlockingIOError:
            pass
        except OSError:
            self._close(reset=True)
            return
        if self._outer.is_closed and self._inner.is_closed:
            self._close()
            return
        self._await()

    @staticmethod
    def _send(end: _End) -> None:
        """Send what waits; when all is sent that will be, tell that."""
        if end.waiting:
            try:
                end.waiting = end.waiting[end.channel.send(end.waiting) :]
            except BlockingIOError:
                return
        if end.is_closing and not end.waiting and not end.is_closed:
            end.is_closed = True
            end.channel.shutdown(socket.SHUT_WR)

    def _await(self) -> None:
        """Wait on each side for what can go on: to read while there is room, to send while something waits."""
        assert self._inner is not None
        for end, other in ((self._outer, self._inner), (self._inner, self._outer)):
            mask = (0 if end.is_read or other.waiting else _READ) | (_WRITE if end.waiting else 0)
            if mask:
                self._loop.add(end.channel.fileno(), lambda end=end: self._move(end), mask=mask)  # type: ignore[misc]
            else:
                self._loop.drop(end.channel.fileno())

    def _close(self, *, reset: bool = False) -> None:
        for end in filter(None, (self._outer, self._inner)):
            self._loop.drop(end.channel.fileno())
            if reset:  # SO_LINGER of no seconds
                end.channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            end.channel.close()
        self._ended(self)
