"""What the functions of a container file are given, for annotations: `def tick(base: Base) -> None`.

`Base` is the running container, as most hooks see it; `Barn` what `setup`, `teardown` and `system_failure` see; `Boot` a
build under way, for `bootstrap` and `postprocess`; `Inside` the rootfs, for steps of provisioning.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.rootfs.provision.stepprocess import Inside
    from hakoniwa.rootfs.tools.boot import Boot
    from hakoniwa.run.hooks.view import BarnView as Barn
    from hakoniwa.run.hooks.view import ContainerView as Base

__all__ = ["Barn", "Base", "Boot", "Inside"]


def __getattr__(name: str) -> Any:
    """A type on its first use: a file loads no more than it names."""
    if name == "Base":
        from hakoniwa.run.hooks.view import ContainerView

        return ContainerView
    if name == "Barn":
        from hakoniwa.run.hooks.view import BarnView

        return BarnView
    if name == "Boot":
        from hakoniwa.rootfs.tools.boot import Boot

        return Boot
    if name == "Inside":
        from hakoniwa.rootfs.provision.stepprocess import Inside

        return Inside
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
