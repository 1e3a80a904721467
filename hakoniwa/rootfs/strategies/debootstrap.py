"""`debootstrap`: a Debian, or what is made like one, by debootstrap or mmdebstrap."""

from __future__ import annotations

import glob
import os

from hakoniwa.errors import HakoError, nearest
from hakoniwa.rootfs.tools.boot import Boot
from hakoniwa.rootfs.tools.devices import remove_devices
from hakoniwa.rootfs.tools.mirror import mirror_of
from hakoniwa.rootfs.tools.programs import must_be_executable, run_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.spec.records import Bootstrap

SETTINGS = {
    "debian_release": "argument",
    "variant": "argument",
    "components": "arguments",
    "mirror_url": "argument",
    "arch": "argument",
    "tool": ("debootstrap", "mmdebstrap"),
}
HELP = {
    "debian_release": 'the release, such as "bookworm"',
    "variant": 'such as "minbase"',
    "components": 'of the mirror, such as "main"',
    "mirror_url": "the mirror; the one that apt uses unless set",
    "arch": "the architecture",
    "tool": "the program that builds it",
}
EXAMPLE = """\
b.strategy = "debootstrap"
b.debian_release = "bookworm"
b.variant = "minbase"
"""
TAKES_ROOT = True  # it makes device nodes
KEPT = True  # by what is asked; the mirror that happens to be used makes no difference

_SCRIPTS = "/usr/share/debootstrap/scripts"
_KEYRINGS = {"debian": "debian-archive-keyring", "ubuntu": "ubuntu-keyring"}
_PACKAGES = "var/cache/apt/archives/*.deb"  # all installed
# Of the machine that it was built on, and not of the box: the same file is to give the same box everywhere.
_OF_THIS_MACHINE = ("etc/hostname", "etc/resolv.conf")


def fill(boot: Boot, bootstrap: Bootstrap) -> None:
    """Run it. Signatures are checked, whatever the mirror."""
    settings, where = bootstrap.settings, bootstrap.where
    tool, release = settings.get("tool", "debootstrap"), settings["debian_release"]
    must_be_executable(f"strategy {tool!r}", tool, where)
    distribution = _distribution(release, where)
    words = _mmdebstrap_words(settings) if tool == "mmdebstrap" else _debootstrap_words(settings)
    # No `--`, which debootstrap does not know: none of these begins with a dash (haco/sections/bootstrap.py).
    argv = [tool, *words, release, str(boot.rootfs), settings.get("mirror_url") or mirror_of(distribution)]
    run_step(
        tool,
        argv,
        where=where,
        folder=boot.beside,
        progress=boot.progress,
        told=f"building {release} with {tool}",
        noise=True,
    )
    packages = sorted(glob.glob(_PACKAGES, root_dir=boot.rootfs))
    for path in (*_OF_THIS_MACHINE, *packages):
        try:
            os.unlink(os.path.join(boot.rootfs, path))
        except FileNotFoundError:
            pass
    remove_devices(boot.rootfs)


def _debootstrap_words(settings: Any) -> list[str]:
    words = ["--force-check-gpg"]
    words += [f"--variant={settings['variant']}"] if "variant" in settings else []
    words += [f"--components={','.join(settings['components'])}"] if settings.get("components") else []
    return [*words, *([f"--arch={settings['arch']}"] if "arch" in settings else [])]


def _mmdebstrap_words(settings: Any) -> list[str]:
    words = ["--mode=root"]
    words += [f"--variant={settings['variant']}"] if "variant" in settings else []
    words += [f"--components={','.join(settings['components'])}"] if settings.get("components") else []
    return [*words, *([f"--architectures={settings['arch']}"] if "arch" in settings else [])]


def _distribution(release: str, where: str) -> str:
    """Whose release it is, which the name of its script tells: all Debian ones are links to `sid`."""
    script = os.path.join(_SCRIPTS, release)
    if "/" in release or not os.path.isfile(script):
        if not os.path.isdir(_SCRIPTS):
            must_be_executable("strategy 'debootstrap'", "debootstrap", where)
        known = sorted(name for name in os.listdir(_SCRIPTS) if os.path.islink(os.path.join(_SCRIPTS, name)))
        raise HakoError(f"the release {release!r} is unknown", where=where, hint=nearest(release, known))
    origin = os.path.basename(os.path.realpath(script))
    found = "ubuntu" if origin in ("gutsy", "jammy", "noble") else "debian"
    keyring = f"/usr/share/keyrings/{found}-archive-keyring.gpg"
    if not os.path.exists(keyring):
        hint = f"apt-get install {_KEYRINGS[found]}"
        raise HakoError(f"the keys that sign {release!r} are not installed: {keyring}", where=where, hint=hint)
    return found
