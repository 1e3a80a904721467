"""The headers of a tar archive, checked as it passes by. POSIX.1-2017 `pax`, "ustar Interchange Format"; GNU tar manual.

Unpacking is GNU tar's, in a root of its own (extraction.py). What it would do as it is told, and must not, is stopped here:
members with names that lead out, devices, and archives that would fill the disk or never end.
"""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK = 512
_CHUNK = 1 << 20
_ZEROS = bytes(_BLOCK)
_LARGEST_NAME = 1 << 16  # bytes of a long name
_LARGEST_EXTENDED = 1 << 20  # bytes of extended headers
MOST_MEMBERS = 1_000_000

# Type flags.
_HARD_LINK, _SYMLINK, _CHARACTER, _BLOCK_DEVICE, _FOLDER, _FIFO = b"1", b"2", b"3", b"4", b"5", b"6"
_EXTENDED, _GLOBAL, _LONG_NAME, _LONG_LINK, _SPARSE = b"x", b"g", b"L", b"K", b"S"
_WITHOUT_DATA = (_HARD_LINK, _SYMLINK, _CHARACTER, _BLOCK_DEVICE, _FOLDER, _FIFO)
_DEVICES = (_CHARACTER, _BLOCK_DEVICE)


class BadArchive(HakoError):
    """The file is no archive, is cut off, or asks for what is not allowed."""


class MemberFilter:
    """Passes an archive from one descriptor to another, member by member. Raises BadArchive; then part of it has passed."""

    def __init__(self, source: int, sink: int, *, most_bytes: int, most_members: int = MOST_MEMBERS) -> None:
        self._source = source
        self._sink = sink
        self._most_bytes = most_bytes
        self._most_members = most_members
        self._buffer = b""
        self._at = 0  # of the next header in the buffer
        self._kept = 0  # the buffer has passed up to here
        self._extended: dict[str, bytes] = {}  # what extended headers say of the next member
        self._pending = 0  # where the first of the headers of the next member begins
        self.members = 0
        self.size = 0  # of all files as they will appear
        self.devices = 0  # members that were left out
        self.on_member: Callable[[], None] = lambda: None

    def run(self) -> None:
        """Pass everything up to the end of the archive."""
        zeros = 0
        while zeros < 2:
            self._pending = self._at
            header = self._next_header()
            if header is None:
                break
            if header == _ZEROS:
                zeros += 1
                continue
            zeros = 0
            self._pass_member(header)
            self.on_member()
        self._flush(self._at)

    def _pass_member(self, header: bytes) -> None:
        """Judge a member, with the headers that come before it, and pass it on."""
        while header[156:157] in (_EXTENDED, _GLOBAL, _LONG_NAME, _LONG_LINK):
            self._read_extension(header)
            following = self._next_header()
            if following is None or following == _ZEROS:
                raise BadArchive("the archive is cut off after an extended header")
            header = following
        kind, stored = header[156:157], self._stored_size(header)
        name = _text(self._extended.get("path") or _name(header))
        if kind in _WITHOUT_DATA and stored:
            raise BadArchive(f"member {name!r} of the archive has data that its kind cannot have")
        if kind == _SPARSE:
            self._pass_sparse_map(header)
        self._judge(kind, name, header, stored)
        self._extended = {}
        data = stored + -stored % _BLOCK
        if kind in _DEVICES:
            self.devices += 1
            self._flush(self._pending)
            self._kept = self._at
        self._pass_data(data, name)

    def _judge(self, kind: bytes, name: str, header: bytes, stored: int) -> None:
        self.members += 1
        if self.members > self._most_members:
            raise BadArchive(f"the archive has more than {self._most_members} members")
        _must_stay_inside(name, "member")
        if kind == _HARD_LINK:
            _must_stay_inside(_text(self._extended.get("linkpath") or _field(header, 157, 100)), "hard link to")
        self.size += max(stored, self._apparent_size(kind, header))
        if self.size > self._most_bytes:
            raise BadArchive(
                f"the archive unpacks to more than the {self._most_bytes} bytes that are free",
                hint=f"at member {name!r}",
            )

    def _apparent_size(self, kind: bytes, header: bytes) -> int:
        """How large a sparse file looks."""
        if kind == _SPARSE:
            return _number(header[483:495])
        for key in ("GNU.sparse.realsize", "GNU.sparse.size"):
            if key in self._extended:
                return _decimal(self._extended[key])
        return 0

    def _stored_size(self, header: bytes) -> int:
        return _decimal(self._extended["size"]) if "size" in self._extended else _number(header[124:136])

    def _read_extension(self, header: bytes) -> None:
        """Take in a long name, or extended headers; they stay in the buffer until their member is judged."""
        kind, size = header[156:157], _number(header[124:136])
        if size > (_LARGEST_NAME if kind in (_LONG_NAME, _LONG_LINK) else _LARGEST_EXTENDED):
            raise BadArchive(f"the archive has an extended header of {size} bytes")
        padded = size + -size % _BLOCK
        self._fill(padded)
        content = self._buffer[self._at : self._at + size]
        if len(content) < size:
            raise BadArchive("the archive is cut off in an extended header")
        self._at += padded
        if kind == _LONG_NAME:
            self._extended["path"] = content.rstrip(b"\0")
        elif kind == _LONG_LINK:
            self._extended["linkpath"] = content.rstrip(b"\0")
        else:
            self._extended |= _records(content)

    def _pass_sparse_map(self, header: bytes) -> None:
        """Further blocks of the map of a sparse file of the old GNU format."""
        more = header[482]
        while more:
            self._fill(_BLOCK)
            block = self._buffer[self._at : self._at + _BLOCK]
            if len(block) < _BLOCK:
                raise BadArchive("the archive is cut off in a sparse file")
            self._at += _BLOCK
            more = block[504]

    def _next_header(self) -> bytes | None:
        """The next block, None at the end."""
        self._fill(_BLOCK)
        header = self._buffer[self._at : self._at + _BLOCK]
        if not header:
            return None
        if len(header) < _BLOCK:
            raise BadArchive("the archive is cut off in a header")
        if header != _ZEROS and not _is_header(header):
            raise BadArchive(
                "not a tar archive" if not self.members else f"the archive is corrupt after member {self.members}"
            )
        self._at += _BLOCK
        return header

    def _pass_data(self, count: int, name: str) -> None:
        """Pass the data of a member: what is in the buffer, and the rest from pipe to pipe."""
        if self._at + count <= len(self._buffer):
            self._at += count
            return
        rest = count - (len(self._buffer) - self._at)
        self._flush(len(self._buffer))
        self._buffer, self._at, self._kept = b"", 0, 0
        while rest:
            moved = os.splice(self._source, self._sink, min(rest, _CHUNK))
            if not moved:
                raise BadArchive(f"the archive is cut off in member {name!r}")
            rest -= moved

    def _fill(self, count: int) -> None:
        """Read until `count` bytes follow the position in the buffer, unless the end comes first."""
        if self._at + count <= len(self._buffer):
            return
        self._flush(self._pending)
        rest = self._buffer[self._kept :]
        self._at, self._pending, self._kept = self._at - self._kept, self._pending - self._kept, 0
        parts, have = [rest], len(rest)
        while have < self._at + count:
            part = os.read(self._source, _CHUNK)
            if not part:
                break
            parts.append(part)
            have += len(part)
        self._buffer = b"".join(parts)

    def _flush(self, upto: int) -> None:
        """Pass the buffer on, up to a position; what lies before `_kept` has passed, or was left out."""
        view = memoryview(self._buffer)[self._kept : upto]
        while view:
            view = view[os.write(self._sink, view) :]
        self._kept = max(self._kept, upto)


def _must_stay_inside(name: str, what: str) -> None:
    if name.startswith("/"):
        raise BadArchive(f"{what} {name!r} of the archive has an absolute name")
    if ".." in name.split("/"):
        raise BadArchive(f"{what} {name!r} of the archive leads out of the rootfs")


def _field(header: bytes, start: int, length: int) -> bytes:
    return header[start : start + length].partition(b"\0")[0]


def _name(header: bytes) -> bytes:
    prefix = _field(header, 345, 155) if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + _field(header, 0, 100) if prefix else _field(header, 0, 100)


def _text(name: bytes) -> str:
    return name.decode(errors="surrogateescape")


def _is_header(header: bytes) -> bool:
    """Whether the checksum is right: of the bytes, with its own field as spaces."""
    try:
        told = int(header[148:156].strip(b" \0") or b"x", 8)
    except ValueError:
        return False
    return told == sum(header) - sum(header[148:156]) + 8 * 32


def _number(field: bytes) -> int:
    """A number: octal, or (GNU) 256-based behind a byte of 0x80."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        raise BadArchive("the archive has a header with a number that is none") from None


def _decimal(value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise BadArchive("the archive has an extended header with a number that is none")
    return int(value)


def _records(content: bytes) -> dict[str, bytes]:
    """The records of an extended header: `LENGTH KEY=VALUE` with a newline."""
    found = {}
    while content:
        length, space, _ = content.partition(b" ")
        if not space or not length.isdigit() or not len(length) + 3 < int(length) <= len(content):
            raise BadArchive("the archive has an extended header that cannot be understood")
        key, _, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
        found[_text(key)] = value
        content = content[int(length) :]
    return found
