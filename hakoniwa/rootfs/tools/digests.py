"""What was asked for, as hashes: the keys of layers, and whether a rootfs is still the one that its file describes."""

from __future__ import annotations

import hashlib
import json
import marshal
import os
import stat

from hakoniwa.errors import HakoError
from hakoniwa.host.paths import open_outside
from hakoniwa.places import ensure_private
from hakoniwa.rootfs.tools.sources import read_tree, reopen
from hakoniwa.rootfs.tools.tmpfile import UnnamedFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType
    from typing import Any

    from hakoniwa.spec.records import Container, ProvisionStep

_VERSION = 1  # of how layers are made: another one finds none of the old
_CHUNK = 1 << 20


def digest(value: Any) -> str:
    """A short name for a value that JSON can say."""
    return hashlib.sha256(json.dumps([_VERSION, value], sort_keys=True).encode()).hexdigest()[:32]


def asked(container: Container) -> str:
    """What the file says of the bootstrap, as far as a text can tell: two files that agree ask for the same."""
    bootstrap = container.build.bootstrap
    strategy = bootstrap.strategy
    name = strategy if isinstance(strategy, str) else _object_text(strategy)
    settings = {
        key: function_text(value) if callable(value) else value for key, value in sorted(bootstrap.settings.items())
    }
    owner = (container.files.rootfs.owner_uid, container.files.rootfs.owner_gid)
    return digest([name, settings, owner, [function_text(hook.function) for hook in bootstrap.postprocess]])


def _object_text(strategy: object) -> list[object]:
    """What a strategy of the file's own is made of: its class, its method, its attributes."""
    method = getattr(strategy, "bootstrap", None)
    attributes = sorted((key, _plain(value)) for key, value in getattr(strategy, "__dict__", {}).items())
    return [type(strategy).__qualname__, function_text(method) if method is not None else "", attributes]


def step_digest(step: ProvisionStep) -> str:
    """What a step does. Raises HakoError if what it copies cannot be read."""
    if step.kind == "copy":
        return copy_digest(step, content_digest(step))
    return digest([step.kind, [step.text, step.shell, function_text(step.function) if step.function else ""]])


def copy_digest(step: ProvisionStep, content: str) -> str:
    """What a step does that copies this content."""
    return digest([step.kind, [step.target, step.uid, step.gid, step.mode, content]])


def step_id(step: ProvisionStep, hashed: str) -> str:
    """What a step is remembered by: its name, or what it does."""
    return f"name {step.name}" if step.name else f"step {hashed}"


def function_text(function: Callable[..., Any]) -> str:
    """The source of a function with its defaults and what it has closed over; without a source, its code."""
    import inspect

    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        text = hashlib.sha256(_code_bytes(code)).hexdigest() if code is not None else repr(type(function))
    cells = [_plain(cell.cell_contents) for cell in getattr(function, "__closure__", None) or ()]
    return f"{text}{_plain(getattr(function, '__defaults__', None))}{cells}"


def _code_bytes(code: CodeType) -> bytes:
    inner = b"".join(_code_bytes(item) for item in code.co_consts if hasattr(item, "co_code"))
    constants = tuple(item for item in code.co_consts if not hasattr(item, "co_code"))
    return code.co_code + marshal.dumps((constants, code.co_names, code.co_varnames)) + inner


def _plain(value: object) -> str:
    """A value as far as its text says what it is: no addresses."""
    if value is None or isinstance(value, str | bytes | int | float | tuple | list | dict):
        return repr(value)
    return type(value).__qualname__


class Content:
    """What is copied, as one hash: names, modes, texts and the targets of links."""

    def __init__(self) -> None:
        self._hashed = hashlib.sha256()

    def begin(self, name: str, entry: int) -> None:
        """The next entry; the text of a file follows."""
        status = os.fstat(entry)
        self._hashed.update(f"{name}\0{status.st_mode:o}\0".encode(errors="surrogateescape"))
        if stat.S_ISLNK(status.st_mode):
            self._hashed.update(os.fsencode(os.readlink("", dir_fd=entry)) + b"\0")
        elif stat.S_ISREG(status.st_mode):
            self._hashed.update(f"{status.st_size}\0".encode())

    def texts(self, entry: int) -> Iterator[bytes]:
        """The text of a file, part by part, each of which counts."""
        with open(reopen(entry), "rb") as file:
            while more := file.read(_CHUNK):
                self._hashed.update(more)
                yield more

    def digest(self) -> str:
        """The hash of all so far."""
        return self._hashed.hexdigest()


def content_digest(step: ProvisionStep) -> str:
    """That of what a step would copy now. Raises HakoError."""
    content = Content()
    try:
        for name, entry in read_tree(step.source):
            content.begin(name, entry)
            if stat.S_ISREG(os.fstat(entry).st_mode):
                for _ in content.texts(entry):
                    pass
    except OSError as error:
        raise HakoError(
            f"{step.label}: cannot copy {error.filename}: {error.strerror}", where=step.where, hint="is it there?"
        ) from None
    return content.digest()


def file_digest(path: str, cache: str) -> str:
    """The SHA-256 of a file, remembered in the folder `cache` for as long as the file stays as it is. Raises OSError."""
    with open(open_outside(os.path.abspath(path), os.O_RDONLY), "rb") as file:
        status = os.fstat(file.fileno())
        now = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        known = os.path.join(cache, hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32])
        try:
            with open(known, encoding="utf-8") as note:
                remembered = json.load(note)
            if remembered["file"] == now:
                return str(remembered["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        found = hashlib.file_digest(file, "sha256").hexdigest()
    ensure_private(os.path.dirname(cache))
    ensure_private(cache)
    try:
        with UnnamedFile(known) as note:
            os.write(note.descriptor, json.dumps({"file": now, "sha256": found}).encode())
            note.give_name()
    except (HakoError, OSError):
        pass  # another command remembers it, or there is no room
    return found
