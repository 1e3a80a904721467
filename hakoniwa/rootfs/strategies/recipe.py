"""`recipe`: an executable script, by name, that fills the folder which `$ROOTFS` names."""

from __future__ import annotations

import hashlib
import os
import sys

from hakoniwa.errors import HakoError, nearest
from hakoniwa.loader import read_trusted
from hakoniwa.rootfs.boot import Boot
from hakoniwa.rootfs.command import run_step
from hakoniwa.rootfs.mirror import mirror_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.spec import Bootstrap


KEPT = True
PASSED_ON = ("MIRROR", "DEBIAN_RELEASE", "DEBIAN_PACKAGES")  # what the recipes that come with hakoniwa look at


def identify(boot: Boot, bootstrap: Bootstrap) -> Any:
    """The script by its text."""
    path = _find(bootstrap.settings["recipe"], folders(boot.beside), bootstrap.where)
    return [hashlib.sha256(read_trusted(path)).hexdigest(), *(os.environ.get(name, "") for name in PASSED_ON)]


def fill(boot: Boot, bootstrap: Bootstrap) -> None:
    """Find the script and run it."""
    name = bootstrap.settings["recipe"]
    path = _find(name, folders(boot.beside), bootstrap.where)
    script = read_trusted(path)  # root runs no script that others can change
    environ = {"ROOTFS": str(boot.rootfs), **({"MIRROR": _mirror()} if b"MIRROR" in script else {})}
    run_step(
        f"recipe {name}",
        [path],
        where=bootstrap.where,
        folder=boot.beside,
        progress=boot.progress,
        environ=environ,
    )


def _mirror() -> str:
    """What `$MIRROR` is: the mirror of Debian that apt uses. To ask apt takes seconds."""
    return os.environ.get("MIRROR") or mirror_of("debian")


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


def _find(name: str, places: list[str], where: str) -> str:
    known = []
    for folder in places:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            return path
        if os.path.isdir(folder):
            known += [entry for entry in sorted(os.listdir(folder)) if os.access(os.path.join(folder, entry), os.X_OK)]
    raise HakoError(f"recipe {name!r} is unknown", where=where, hint=nearest(name, list(dict.fromkeys(known))))
