# General hooks, at each point of a container's life. Those that run in the container's own process before its program
# does cannot load modules once the root is entered: import at the top.
#
#   hako start -b examples/hooks.haco.py

import os

from hakoniwa import Haconiwa
from hakoniwa.types import Barn, Base

with Haconiwa.define() as config:
    config.name = "hooks"
    config.init_command = ["/bin/sh", "-c", "cat /etc/written-by-hook"]
    config.bootstrap.strategy = "recipe"
    config.bootstrap.recipe = "busybox"
    config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")

    @config.add_general_hook("setup")
    def check_host(barn: Barn) -> None:
        if os.getloadavg()[0] > 1000:
            raise Haconiwa.Abort("the machine is too busy")

    @config.add_general_hook("after_chroot")
    def write_file(base: Base) -> None:
        with open("/etc/written-by-hook", "w") as file:
            file.write(f"{base.name} was prepared in its own root\n")

    @config.add_general_hook("teardown_container")
    def tell(base: Base) -> None:
        if base.exit_status is not None:
            base.log(f"ended with {base.exit_status.code}")
