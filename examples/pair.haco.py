# Two containers of one barn. They share the rootfs: the first builds it, the second leaves that to the first.
#
#   hako start -b examples/pair.haco.py          both in the foreground, each line with its container's name
#   hako start -D examples/pair.haco.py          both in the background

from hakoniwa import Haconiwa

with Haconiwa.define() as config:
    root = config.chroot_to("/var/lib/hakoniwa/pair")
    config.bootstrap.strategy = "recipe"
    config.bootstrap.recipe = "busybox"
    config.rootfs.readonly = True
    config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")

    with config.define() as c:
        c.name = "pair-first"
        c.init_command = ["/bin/sh", "-c", "echo I am $(hostname)"]

    with config.define() as c:
        c.name = "pair-second"
        c.skip_bootstrap()
        c.init_command = ["/bin/sh", "-c", "echo I am $(hostname)"]
