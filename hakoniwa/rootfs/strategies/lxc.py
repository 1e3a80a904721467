"""`lxc`: a template of lxc-create, into a folder. Its configuration is of no use here, and goes."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError, nearest
from hakoniwa.places import BUILDING, aside_of, lock_rootfs, make_parents
from hakoniwa.rootfs.store.discards import remove_tree
from hakoniwa.rootfs.tools.boot import Boot
from hakoniwa.rootfs.tools.devices import remove_devices
from hakoniwa.rootfs.tools.mirror import mirror_of
from hakoniwa.rootfs.tools.programs import must_be_executable, run_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.spec.records import Bootstrap

SETTINGS = {
    "os_type": "argument",
    "project_name": "name",
    "debian_release": "argument",
    "mirror_url": "argument",
    "arch": "argument",
    "lxc_options": "texts",
}
HELP = {
    "os_type": "a template of lxc-create",
    "project_name": "the name that the template is told; the container's unless set",
    "debian_release": "--release of the template",
    "mirror_url": "--mirror of the template",
    "arch": "--arch of the template",
    "lxc_options": "further options of the template",
}
EXAMPLE = """\
b.strategy = "lxc"
b.os_type = "busybox"               # a template of lxc-create
"""
TAKES_ROOT = True  # it makes device nodes
KEPT = True

_TEMPLATES = "/usr/share/lxc/templates"
_START = "lxc-"
# What templates call, and fail without late and with few words.
_CALLED = {"busybox": ("busybox",), "debian": ("debootstrap", "rsync"), "ubuntu": ("debootstrap", "rsync")}
_PACKAGES = {"busybox": "busybox-static"}


def identify(boot: Boot, bootstrap: Bootstrap) -> Any:
    """The settings, and the name, which templates write down as the host name."""
    return {**bootstrap.settings, "project_name": _project_name(boot, bootstrap)}


def _project_name(boot: Boot, bootstrap: Bootstrap) -> str:
    return str(bootstrap.settings.get("project_name", boot.name))


def fill(boot: Boot, bootstrap: Bootstrap) -> None:
    """Run the template in a folder of its own beside the rootfs."""
    settings, where = bootstrap.settings, bootstrap.where
    os_type = settings["os_type"]
    must_be_executable("strategy 'lxc'", "lxc-create", where)
    _must_be_template(os_type, where)
    for program in _CALLED.get(os_type, ()):
        must_be_executable(f"template {os_type!r}", program, where, package=_PACKAGES.get(program, program))
    options = [*settings.get("lxc_options", ())]
    for flag, name in (("--release", "debian_release"), ("--arch", "arch"), ("--mirror", "mirror_url")):
        options += [f"{flag}={settings[name]}"] if name in settings else []
    # Templates lock a file in it, and stop if it is missing, as it is on machines without systemd.
    make_parents(os.path.join(os.path.realpath("/var/lock"), "lxc"))
    # Beside the folder that is filled, and called so that `gc` knows it for what a killed build has left.
    folder = aside_of(str(boot.rootfs), f".lxc{BUILDING}")
    lock = lock_rootfs(folder)
    try:
        remove_tree(folder)
        os.mkdir(folder, 0o700)
        argv = ["lxc-create", f"--lxcpath={folder}", f"--name={_project_name(boot, bootstrap)}"]
        argv += [f"--template={os_type}", f"--dir={boot.rootfs}", *(["--", *options] if options else [])]
        run_step(
            f"lxc-create {os_type}",
            argv,
            where=where,
            folder=boot.beside,
            progress=boot.progress,
            environ={"LXC_CACHE_PATH": os.path.join(folder, "cache"), **_mirror(os_type)},
            told=f"building {os_type} with lxc-create",
            noise=True,
        )
    finally:
        remove_tree(folder)
        os.close(lock)
    remove_devices(boot.rootfs)


def _mirror(os_type: str) -> dict[str, str]:
    """The mirror that apt uses, for the template of Debian."""
    return {"MIRROR": mirror_of(os_type)} if os_type == "debian" else {}


def _must_be_template(os_type: str, where: str) -> None:
    """Raise HakoError for a template that is not installed. A path would be one, too, and run whatever it names."""
    known = sorted(name.removeprefix(_START) for name in os.listdir(_TEMPLATES) if name.startswith(_START))
    if os_type in known:
        return
    hint = nearest(os_type, known)
    if not hint.startswith("did"):
        hint += "; apt-get install lxc-templates brings more"
    raise HakoError(f"lxc-create has no template for the os_type {os_type!r}", where=where, hint=hint)
