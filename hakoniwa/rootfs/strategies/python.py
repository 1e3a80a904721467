"""`python`: a function that gets `boot`, or a text that finds `boot` and `rootfs`."""

from __future__ import annotations

from hakoniwa.rootfs.tools.boot import TEXT, Boot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec.records import Bootstrap

SETTINGS = {"code": "code"}
HELP = {
    "code": "a function that gets boot, or a text that finds boot and rootfs",
}
EXAMPLE = """\
import shutil

def fill(boot):
    (boot.rootfs / "bin").mkdir()
    shutil.copy("/bin/busybox", boot.rootfs / "bin" / "sh")

b.strategy = "python"
b.code = fill
"""


def fill(boot: Boot, bootstrap: Bootstrap) -> None:
    """Call or execute the code."""
    code = bootstrap.settings["code"]

    def execute(boot: Boot) -> None:
        # With the file's name it finds the modules beside it.
        names = {"boot": boot, "rootfs": str(boot.rootfs), "__file__": boot.file}
        exec(compile(str(code), TEXT, "exec"), names)

    boot.call(code if callable(code) else execute, "bootstrap code", bootstrap.where)
