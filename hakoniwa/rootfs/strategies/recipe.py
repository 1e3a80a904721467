"""`recipe`: an executable script, by name, that fills the folder which `$ROOTFS` names."""

from __future__ import annotations

import os
import sys

from hakoniwa.errors import HakoError, nearest
from hakoniwa.loader import read_trusted
from hakoniwa.places import global_file
from hakoniwa.rootfs.boot import Boot
from hakoniwa.rootfs.command import run_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec import Bootstrap


def fill(boot: Boot, bootstrap: Bootstrap) -> None:
    """Find the script and run it."""
    name = str(bootstrap.recipe)
    path = _find(name, folders(boot.beside), bootstrap.where)
    read_trusted(path)  # root runs no script that others can change
    run_step(f"recipe {name}", [path], where=bootstrap.where, folder=boot.beside, environ={"ROOTFS": str(boot.rootfs)})


def folders(beside: str) -> list[str]:
    """Where recipes lie: beside the container file, the user's or the machine's own, those that came with hakoniwa."""
    configured = os.path.dirname(global_file())
    own = os.path.join(configured, "bootstrap") if configured != "/etc" else "/etc/hakoniwa/bootstrap"
    source = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__)))), "bootstrap")
    return [
        os.path.join(beside, "bootstrap"),
        own,
        os.path.join(sys.prefix, "share", "hakoniwa", "bootstrap"),
        source,
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
