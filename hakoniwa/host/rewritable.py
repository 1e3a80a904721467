"""What of its own definition a container could change from inside, since it lies in a folder that it is given to write to.

It is kept read-only there, and in its place: the file, other container files and `bootstrap` beside it, what it has imported,
its seccomp profile, what is kept of both in the cache folder, and hakoniwa itself. A folder between the shared one and those
cannot be renamed, since it is a mount point in the container. `unguarded=True` of a mount point lifts all that.
"""

from __future__ import annotations

import os
import sys

from hakoniwa import trust
from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem import mount
from hakoniwa.places import descriptions_dir, ensure_private, global_file, programs_dir
from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hakoniwa.spec.records import Barn, Container

_RECIPES = "bootstrap"


class Exposed(Record):
    """Paths inside: those to keep in their place, from the outermost on, and those to make read-only."""

    kept: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()


NOTHING = Exposed()


class _Share(Record):
    """A folder or file of the host that can be written to inside, at `target` ("" is the root)."""

    source: str  # without symlinks
    target: str
    where: str


def find_exposed(barn: Barn, container: Container, layers: tuple[str, ...], *, make: bool) -> Exposed:
    """What is to be guarded in a container. With `make`, a folder of recipes that a container could make is made.

    Raises HakoError where it cannot be guarded.
    """
    shares = _writable(container, layers)
    if not shares:
        return NOTHING
    mounts = mount.every_mount()
    folder = os.path.dirname(container.file)
    if make and folder and any(one.build.bootstrap.strategy == "recipe" for one in barn.containers):
        recipes = os.path.join(folder, _RECIPES)
        if not os.path.lexists(recipes) and any(_places(folder, shares, mounts)):
            os.mkdir(recipes, 0o755)  # or the container could, and put one of the same name there
    for believed in (programs_dir(), descriptions_dir()) if make else ():
        if not os.path.lexists(believed) and any(_places(os.path.realpath(believed), shares, mounts)):
            ensure_private(believed)
    kept, fixed = set(), set()
    for path in _definition(barn, container, folder):
        way = trust.follow(path)
        for link in way.links:
            for share, _ in _places(link, shares, mounts):
                told = f"{link} is a symlink to what is executed, and the container could replace it"
                raise HakoError(told, where=share.where, hint="name the file itself, or share with readonly=True")
        for share, below in _places(way.real, shares, mounts):
            fixed.add(f"{share.target}/{below}".rstrip("/") or "/")
            parts = below.split("/")
            kept |= {f"{share.target}/{'/'.join(parts[:count])}" for count in range(1, len(parts))}
    missed = barn.missed if fixed else ()
    if missed:
        told = f"the file looks for the module {missed[0]!r}, which the container could make beside it"
        hint = "remove the import, make the module, or share with readonly=True or unguarded=True"
        raise HakoError(told, where=container.file, hint=hint)
    return Exposed(kept=tuple(sorted(kept)), fixed=tuple(sorted(fixed)))


def _writable(container: Container, layers: tuple[str, ...]) -> list[_Share]:
    """What is given to the container to write to, except file systems of its own."""
    rootfs = container.files.rootfs
    points = [
        point for point in container.files.mounts if point.fs is None and not point.readonly and not point.unguarded
    ]
    shares = [_Share(source=os.path.realpath(one.source), target=one.target, where=one.where) for one in points]
    root = rootfs.replacement
    if rootfs.readonly or (root is not None and (root.fs is not None or root.unguarded)):
        return shares
    if root is not None:
        shares.append(_Share(source=os.path.realpath(root.source), target="", where=root.where))
    elif not layers and not rootfs.layered:
        real = os.path.realpath(rootfs.path)
        if container.file.startswith(real + "/"):
            shares.append(_Share(source=real, target="", where=rootfs.where))
    return shares


def _definition(barn: Barn, container: Container, folder: str) -> Iterator[str]:
    """The paths of all that is executed, or believed, when the container is started again; those that are there."""
    yield from barn.executed
    try:
        beside = sorted(entry for entry in os.listdir(folder) if entry.endswith(".haco.py")) if folder else []
    except OSError:
        beside = []  # only its name is known to an ordinary user
    profile = container.security.seccomp.profile
    own = os.path.dirname(os.path.abspath(__file__))
    further = [
        *(os.path.join(folder, entry) for entry in (*beside, _RECIPES) if folder),
        *([profile] if profile is not None and profile.startswith("/") else []),
        *([barn.origin] if barn.origin else []),
        *(programs_dir(), descriptions_dir()),
        global_file(),
        own,
        *([sys.prefix] if sys.prefix != sys.base_prefix else []),
    ]
    for path in further:
        if os.path.exists(path):
            yield path


def _places(path: str, shares: list[_Share], mounts: list[mount.Seen]) -> Iterator[tuple[_Share, str]]:
    """Each share that shows `path`, with where below it; "" where the share lies below the path or is it."""
    names = _every_name(path, mounts)
    for share in shares:
        for name in names:
            if name == share.source or share.source.startswith(name.rstrip("/") + "/"):
                yield share, ""
            elif name.startswith(share.source.rstrip("/") + "/"):
                yield share, name[len(share.source.rstrip("/")) + 1 :]


def _every_name(path: str, mounts: list[mount.Seen]) -> list[str]:
    """The paths of the host that lead to what lies at `path`, a real path: bind mounts show it at others, too."""
    above = [one for one in mounts if path == one.point or path.startswith(one.point.rstrip("/") + "/")]
    lies_on = max(above, key=lambda one: len(one.point), default=None)
    if lies_on is None:
        return [path]
    inner = _joined(lies_on.root, path[len(lies_on.point.rstrip("/")) :])
    names = {path}
    for one in mounts:
        if one.device == lies_on.device and (inner + "/").startswith(one.root.rstrip("/") + "/"):
            names.add(_joined(one.point, inner[len(one.root.rstrip("/")) :]))
    return sorted(names)


def _joined(above: str, below: str) -> str:
    return above.rstrip("/") + below or "/"
