"""`python`: a function that gets `boot`, or a text that finds `boot` and `rootfs`."""

from __future__ import annotations

from hakoniwa.errors import HakoError
from hakoniwa.rootfs.boot import Boot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec import Bootstrap


def fill(boot: Boot, bootstrap: Bootstrap) -> None:
    """Call or execute the code."""
    code = bootstrap.settings["code"]
    try:
        if callable(code):
            code(boot)
        else:
            exec(compile(str(code), "<bootstrap code>", "exec"), {"boot": boot, "rootfs": str(boot.rootfs)})
    except HakoError:
        raise
    except Exception as error:
        raise HakoError(
            f"bootstrap code failed: {type(error).__name__}: {error}",
            where=bootstrap.where,
            hint="--debug shows the traceback",
        ) from error
