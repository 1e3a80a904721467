"""/etc/hosts of containers: each has a file of its own, in which its neighbours are as long as they run.

Who shares a bridge or a barn finds each other. All that run are on one list, under one lock; whoever comes or goes rewrites the
files of its neighbours, in place, since they are mounted (a bind mount follows the inode). Inside they are read-only.
`man 5 hosts`.
"""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.kernel.filesystem.files import read_file, replace_file
from hakoniwa.kernel.processes.pidfd import boot_id, start_time
from hakoniwa.places import run_dir, wait_for_lock
from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAMES = (
    "hosts",
    "resolv.conf",
)  # of the files that are mounted below /etc; in the folder of the container's state, too
GATEWAY = "host.hakoniwa.internal"
_NOBODY_ELSE_S = "127.0.1.1"  # of the own name where there is no other address, as Debian has it
LOCALHOST = ("127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback")
# Names that mean the same to everybody: no neighbour has one of them.
_EVERYBODY_S = {"localhost", "ip6-localhost", "ip6-loopback", GATEWAY}
_FOLDER, _LIST = ".names", "list"
_MODE = 0o644  # it is root's, and whoever runs inside reads it


class Neighbour(Record):
    """A container that runs, as others are to find it."""

    name: str
    hostname: str = ""
    barn: str = ""  # a mark of its barn, "" if it is alone in it
    bridges: Mapping[str, Sequence[str]]  # its addresses, by the bridges that they are on
    own: str = ""  # what its own file begins with
    file: str = ""  # its own file; "" if it has none of ours
    pid: int  # who is there as long as it runs, with what tells it from a later process of this pid
    started: int
    boot: str

    def lives(self) -> bool:
        """Whether it still runs."""
        try:
            return self.boot == boot_id() and start_time(self.pid) == self.started
        except ProcessLookupError:
            return False

    def words(self) -> set[str]:
        """All names that its own file gives a meaning, as names are compared."""
        own = {word.lower() for line in self.own.splitlines() for word in line.split()[1:]}
        return own | {self.name.lower(), self.hostname.lower()} - {""}

    def is_beside(self, other: Neighbour) -> bool:
        """Whether they find each other."""
        return self.name != other.name and bool(self.addresses_for(other))

    def addresses_for(self, other: Neighbour) -> Sequence[str]:
        """Where another one finds it: on a bridge that both are on, or else, in one barn, wherever it is."""
        for bridge in other.bridges:
            if bridge in self.bridges:
                return self.bridges[bridge]
        if self.barn and self.barn == other.barn:
            return next(iter(self.bridges.values()), ())
        return ()

    def names_for(self, other: Neighbour) -> list[str]:
        """What another one knows it by. A host name may be anything, that of another one or of a host of the world; so only the
        barn, whose file has given it, goes by it."""
        alike = self.barn and self.barn == other.barn
        return [self.name, *([self.hostname] if alike and self.hostname not in ("", self.name) else [])]


def beginning(
    addresses: Sequence[str], names: Sequence[str], extra: Mapping[str, Sequence[str]], gateways: Sequence[str]
) -> str:
    """What a container's own file begins with: loopback, what the file says, itself, and the host.

    What the file says comes first, since the first line counts.
    """
    lines = list(LOCALHOST)
    lines += [f"{address} {name}" for name, found in extra.items() for address in found]
    own = " ".join(name for name in dict.fromkeys(names) if name.lower() not in _EVERYBODY_S)
    lines += [f"{address} {own}" for address in addresses or [_NOBODY_ELSE_S] if own]
    lines += [f"{address} {GATEWAY}" for address in gateways]
    return "".join(f"{line}\n" for line in lines)


def make(path: str, text: str = "") -> int:
    """Make a file that is to be mounted, in the place of any that is there. Returns a descriptor, to be kept for as long as it is
    used: while somebody has it open for writing, nobody inside can take a lease on it, for which each writer would have to
    wait (`man 2 fcntl`, F_SETLEASE).
    """
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    os.fchmod(file, _MODE)  # whatever the umask is
    _write(file, text.encode())
    return file


def rewrite(path: str, text: str, *, more: bool = False) -> None:
    """Write another text to a file that is mounted, or `more` behind the one that it has.

    Raises OSError; BlockingIOError if somebody inside has a lease on it.
    """
    flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_APPEND if more else 0)
    file = os.open(path, flags)
    try:
        if more:
            os.write(file, text.encode())
        else:
            _write(file, text.encode())
    finally:
        os.close(file)


def _write(file: int, content: bytes) -> None:
    """Whoever reads meanwhile finds whole lines: what is shorter is written with empty ones behind it, and then cut."""
    longer = os.fstat(file).st_size - len(content)
    padded = content + b"\n" * max(longer, 0)
    written = 0
    while written < len(padded):
        written += os.pwrite(file, padded[written:], written)
    if longer > 0:
        os.ftruncate(file, len(content))


def join(newcomer: Neighbour) -> None:
    """Have a container be found by its neighbours, and find them. If it is on the list already, it is now as is said.

    Raises OSError.
    """
    with _Neighbours() as every:
        every.put(newcomer)


def folder() -> str:
    """Where the list is."""
    return os.path.join(run_dir(), _FOLDER)


def leave(name: str = "") -> None:
    """Have a container be found no more, and those that run no more. Raises OSError."""
    if not os.path.exists(os.path.join(folder(), _LIST)):
        return
    with _Neighbours() as every:
        every.remove(name)


class _Neighbours:
    """The list of those that run, while it is locked.

    A killed one is found by whoever comes or goes next. The list is written before the files when one comes, and after them
    when one goes: so whoever is killed in between is on it, and taken for what it is.
    """

    def __enter__(self) -> _Neighbours:
        self._lock = wait_for_lock(run_dir(), folder())
        self._path = os.path.join(folder(), _LIST)
        try:
            self._every = self._read()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, *_about: object) -> None:
        os.close(self._lock)

    def put(self, newcomer: Neighbour) -> None:
        """Add one, or change what is known of it."""
        gone = self._take_gone(newcomer.name)
        is_plain = not gone and not self._has_names_of(newcomer)
        self._every[newcomer.name] = newcomer
        self._write()
        self._tell_one(newcomer, self._text(newcomer))
        if is_plain:
            for one in self._every.values():
                if one.file and newcomer.is_beside(one):
                    self._append_to(one, newcomer)
        else:
            self._tell_all([*gone, newcomer])

    def remove(self, name: str) -> None:
        """Take one away."""
        self._tell_all(self._take_gone(name))
        self._write()

    def _take_gone(self, name: str) -> list[Neighbour]:
        """Take from the list those that run no more, and the one of a name."""
        gone = [one for one in self._every.values() if one.name == name or not one.lives()]
        for one in gone:
            del self._every[one.name]
        return gone

    def _has_names_of(self, newcomer: Neighbour) -> bool:
        """Whether one that is there goes by a name of the newcomer's: who finds whom under it has to be looked at then."""
        names = {newcomer.name.lower(), newcomer.hostname.lower()}
        return not names.isdisjoint(_EVERYBODY_S) or any(
            not names.isdisjoint(one.words()) for one in self._every.values()
        )

    def _tell_all(self, changed: Sequence[Neighbour]) -> None:
        """Rewrite the files of all to whom something has changed."""
        for one in self._every.values():
            if one.file and any(one.is_beside(other) for other in changed):
                self._tell_one(one, self._text(one))

    def _tell_one(self, one: Neighbour, text: str, *, more: bool = False) -> None:
        """Rewrite the file of one, or write more to it. What cannot be written stays as it is, and is told."""
        try:
            if one.file:
                rewrite(one.file, text, more=more)
        except FileNotFoundError:
            pass  # it ends at this moment
        except OSError as error:
            log.write(f"{one.name}: its hosts file cannot be written: {error.strerror}", "warning")

    def _append_to(self, one: Neighbour, newcomer: Neighbour) -> None:
        self._tell_one(one, "".join(_lines(newcomer, newcomer.names_for(one), one)), more=True)

    def _text(self, one: Neighbour) -> str:
        """The file of one container. A name that was given to it, or to an earlier neighbour, is nobody else's."""
        lines = [one.own]
        taken = one.words() | _EVERYBODY_S
        beside = [other for other in self._every.values() if other.is_beside(one)]
        of_containers = {other.name.lower() for other in beside}
        for other in beside:
            names = [
                name
                for name in other.names_for(one)
                if name.lower() not in taken and (name == other.name or name.lower() not in of_containers)
            ]
            taken.update(name.lower() for name in names)
            lines += _lines(other, names, one)
        return "".join(lines)

    def _read(self) -> dict[str, Neighbour]:
        """Those on the list, in the order in which they came. One that cannot be read is of another version, and begun anew."""
        try:
            words = read_file(self._path).decode().split("\0")
            width = len(Neighbour._fields)
            if len(words) % width != 1 or words[-1]:
                raise ValueError("it ends early")
            every = [_read_one(words[at : at + width]) for at in range(0, len(words) - 1, width)]
            return {one.name: one for one in every}
        except FileNotFoundError:
            return {}
        except ValueError:
            log.write(f"{self._path} cannot be read, and is begun anew", "warning")
            return {}

    def _write(self) -> None:
        """Field by field, each with a NUL behind it: to read JSON, a start would have to load a scanner."""
        words = [word for one in self._every.values() for word in _words_of(one)]
        replace_file(self._path, "".join(f"{word}\0" for word in words).encode())


def _words_of(one: Neighbour) -> list[str]:
    """The fields, in their order."""
    bridges = "\n".join("\t".join((bridge, *found)) for bridge, found in one.bridges.items())
    return [one.name, one.hostname, one.barn, bridges, one.own, one.file, str(one.pid), str(one.started), one.boot]


def _read_one(words: list[str]) -> Neighbour:
    """What `_words_of` has written. Raises ValueError."""
    name, hostname, barn, bridges, own, file, pid, started, boot = words
    parts = [line.split("\t") for line in bridges.split("\n") if line]
    return Neighbour(
        name=name,
        hostname=hostname,
        barn=barn,
        bridges={bridge: found for bridge, *found in parts},
        own=own,
        file=file,
        pid=int(pid),
        started=int(started),
        boot=boot,
    )


def _lines(other: Neighbour, names: Sequence[str], one: Neighbour) -> list[str]:
    """What the file of `one` has of a neighbour, under these of its names."""
    return [f"{address} {' '.join(names)}\n" for address in other.addresses_for(one)] if names else []
