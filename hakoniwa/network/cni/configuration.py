"""Networks of CNI as files describe them. https://www.cni.dev/docs/spec/, section 1."""

from __future__ import annotations

import json
import os

from hakoniwa import trust
from hakoniwa.errors import HakoError, nearest
from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

FOLDERS = ("/etc/hakoniwa/net.d", "/etc/cni/net.d")
FOLDERS_WORD = "HAKONIWA_CNI_CONF_DIRS"  # of the environment: others in their place, with colons between
_ENDINGS = (".conf", ".conflist", ".json")
_LARGEST = 1 << 20  # bytes of a file
_WANTED = "a network is a file NAME.conf or NAME.conflist"


class Configuration(Record):
    """A network: its plugins, in the order in which they add to it."""

    name: str
    version: str  # of the specification that the file is written to
    plugins: tuple[Mapping[str, Any], ...]
    path: str


def find(name: str) -> Configuration:
    """The network of a name: in the first folder that has it, and there in the first file. Raises HakoError, and OSError."""
    known: list[str] = []
    broken: list[HakoError] = []
    for path in _paths():
        try:
            found = read(path)
        except HakoError as error:
            broken.append(error)
            continue
        if found.name == name:
            return found
        known.append(found.name)
    told = f"there is no network {name!r} in {' or '.join(folders())}"
    if broken:
        told += f"; {broken[0].where} cannot be used: {broken[0].message}"
    raise HakoError(told, hint=nearest(name, known) or (f"there are {', '.join(known)}" if known else _WANTED))


def folders() -> list[str]:
    """Where the files lie."""
    return [word for word in os.environ.get(FOLDERS_WORD, "").split(":") if word] or [*FOLDERS]


def _paths() -> Iterator[str]:
    for folder in folders():
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            continue
        yield from (os.path.join(folder, name) for name in names if name.endswith(_ENDINGS))


def read(path: str) -> Configuration:
    """The network of a file, which must be nobody's but root's, since it says what root executes. Raises HakoError."""
    try:
        content = trust.read_trusted(path, _LARGEST, wanted=_WANTED)
    except OSError as error:
        raise HakoError(error.strerror or str(error), where=path) from None
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise HakoError(f"this is no JSON: {error}", where=path) from None
    if not isinstance(found, dict):
        raise HakoError("a network is an object", where=path)
    name, version = found.get("name"), found.get("cniVersion", "0.2.0")
    if not isinstance(name, str) or not name or not isinstance(version, str):
        raise HakoError("a network has a name, and cniVersion is a string", where=path)
    plugins = found.get("plugins", [found])
    if not isinstance(plugins, list) or not plugins or not all(map(_is_plugin, plugins)):
        raise HakoError("each plugin of a network has a type, the name of a program", where=path)
    return Configuration(name=name, version=version, plugins=tuple(plugins), path=path)


def _is_plugin(value: object) -> bool:
    kind = value.get("type") if isinstance(value, dict) else None
    return isinstance(kind, str) and kind not in ("", ".", "..") and "/" not in kind and "\0" not in kind
