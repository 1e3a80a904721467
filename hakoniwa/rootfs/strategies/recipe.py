"""`recipe`: an executable script, by name, that fills the folder which `$ROOTFS` names."""

from __future__ import annotations

import hashlib
import os
import sys

from hakoniwa import log, trust
from hakoniwa.errors import HakoError, nearest
from hakoniwa.rootfs.tools.boot import Boot
from hakoniwa.rootfs.tools.mirror import mirror_of
from hakoniwa.rootfs.tools.programs import run_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.spec.records import Bootstrap


SETTINGS = {"recipe": "name"}
HELP = {
    "recipe": "the name of an executable in bootstrap/",
}
EXAMPLE = """\
b.strategy = "recipe"
b.recipe = "busybox"                # a script of bootstrap/
"""
KEPT = True
_LARGEST = 4 << 20  # bytes of a recipe
PASSED_ON = ("MIRROR", "DEBIAN_RELEASE", "DEBIAN_PACKAGES")  # what the recipes that come with hakoniwa look at


def identify(boot: Boot, bootstrap: Bootstrap) -> Any:
    """The script by its text."""
    path = find(bootstrap, boot.beside)
    return [_digest(trust.read_trusted(path, _LARGEST)), *(os.environ.get(name, "") for name in PASSED_ON)]


def _digest(script: bytes) -> str:
    return hashlib.sha256(script).hexdigest()


def fill(boot: Boot, bootstrap: Bootstrap) -> None:
    """Find the script and run it."""
    name = bootstrap.settings["recipe"]
    path = find(bootstrap, boot.beside)
    script = trust.read_trusted(path, _LARGEST)
    environ = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environ |= {"ROOTFS": str(boot.rootfs), **({"MIRROR": _mirror()} if b"MIRROR" in script else {})}
    run_step(
        f"recipe {name}",
        [path],
        where=bootstrap.where,
        folder=boot.beside,
        progress=boot.progress,
        environ=environ,
    )
    # It was executed by its name, since recipes look for others beside them. Who can replace it is trusted (trust.py),
    # but may have done so meanwhile: then what was made is not to be kept as what the script of before has made.
    hashed = boot.identity[0] if boot.identity is not None else _digest(script)
    if not hashed == _digest(script) == _digest(trust.read_trusted(path, _LARGEST)):
        raise HakoError(f"the recipe {path} was changed while it was used", where=bootstrap.where, hint="try again")


def _mirror() -> str:
    """What `$MIRROR` is: the mirror of Debian that apt uses. To ask apt takes seconds."""
    return os.environ.get("MIRROR") or mirror_of("debian")


def check_outside(bootstrap: Bootstrap, beside: str) -> None:
    """Raise HakoError if the recipe may not be executed. In a user namespace all others' files have one owner, nobody."""
    find(bootstrap, beside)


def folders(beside: str) -> list[str]:
    """Where recipes lie: beside the container file, the user's own, the machine's, those that came with hakoniwa."""
    configured = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
    return [
        os.path.join(beside, "bootstrap"),
        os.path.join(configured, "hakoniwa", "bootstrap"),
        "/etc/hakoniwa/bootstrap",
        os.path.join(sys.prefix, "share", "hakoniwa", "bootstrap"),
        os.path.join(source, "bootstrap"),
    ]


def find(bootstrap: Bootstrap, beside: str) -> str:
    """The path of the recipe. Raises HakoError if there is none, or none that may be executed.

    What somebody else has put in the way is passed over: in a folder such as /tmp anybody can make a `bootstrap`.
    """
    name: str = bootstrap.settings["recipe"]
    known: list[str] = []
    refused: trust.Distrust | None = None
    for folder in folders(beside):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            try:
                trust.check(path)
            except trust.Distrust as error:
                if not error.foreign:
                    raise
                refused = refused or error
                continue
            if refused is not None:
                log.write(f"recipe {name!r} is {path}: {refused}", "warning")
            return path
        if os.path.isdir(folder):
            known += [entry for entry in sorted(os.listdir(folder)) if os.access(os.path.join(folder, entry), os.X_OK)]
    if refused is not None:
        raise refused
    raise HakoError(
        f"recipe {name!r} is unknown", where=bootstrap.where, hint=nearest(name, list(dict.fromkeys(known)))
    )
