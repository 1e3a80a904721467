# A rootfs of one static program, read-only, for an unprivileged user without a network.
#
#   hako start -b examples/busybox.haco.py -- id

from hakoniwa import Haconiwa

with Haconiwa.define() as config:
    config.name = "busybox"
    config.init_command = ["/bin/sh"]
    config.uid = "nobody"
    config.rootfs.readonly = True

    with config.bootstrap as b:
        b.strategy = "recipe"
        b.recipe = "busybox"

    config.namespace.unshare("net")
    config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")
    config.add_mount_point("tmpfs", to="/tmp", fs="tmpfs", options="mode=1777,size=16m")
    config.capabilities.drop("all")
