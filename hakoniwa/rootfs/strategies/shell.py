"""`shell`: a text for `/bin/sh -e`, with `$ROOTFS` naming the folder to fill."""

from __future__ import annotations

from hakoniwa.errors import HakoError
from hakoniwa.rootfs.tools.boot import Boot
from hakoniwa.rootfs.tools.programs import run_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec.records import Bootstrap

FOLDER = "$ROOTFS"
SETTINGS = {"code": "code"}
HELP = {
    "code": "a script for /bin/sh -e",
}
EXAMPLE = '''\
b.strategy = "shell"
b.code = """
    mkdir -p "$ROOTFS/bin" "$ROOTFS/tmp"
    cp /bin/busybox "$ROOTFS/bin/sh"
"""
'''


def fill(boot: Boot, bootstrap: Bootstrap) -> None:
    """Run the text, in the folder of the container file."""
    code = bootstrap.settings["code"]
    if not isinstance(code, str):
        raise HakoError(
            "strategy 'shell' needs its code as a text",
            where=bootstrap.where,
            hint='strategy "python" takes a function',
        )
    run_step(
        "bootstrap code",
        ["/bin/sh", "-e", "-c", code],
        where=bootstrap.where,
        folder=boot.beside,
        progress=boot.progress,
        environ={"ROOTFS": str(boot.rootfs)},
    )
