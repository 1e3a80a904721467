# Two services that find each other by name; one of them is published.
#
#   hako start -D examples/network.haco.py
#   wget -qO- http://127.0.0.1:8080/             from the host; from another machine by the host's address
#   hako ps                                      shows addresses and ports

from hakoniwa import Haconiwa

with Haconiwa.define() as config:
    config.chroot_to("/var/lib/hakoniwa/network")
    config.bootstrap.strategy = "recipe"
    config.bootstrap.recipe = "busybox"
    config.rootfs.readonly = True
    config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")
    config.uid = "nobody"
    config.network.container_ip = "auto"

    with config.define() as c:
        c.name = "store"
        c.init_command = ["nc", "-ll", "-p", "8000", "-e", "/bin/echo", "42 apples"]

    with config.define() as c:
        c.name = "shop"
        c.skip_bootstrap()
        c.network.publish("8080:8080")
        answer = "printf 'HTTP/1.0 200 OK\\r\\n\\r\\n'; nc store 8000"
        c.init_command = ["nc", "-ll", "-p", "8080", "-e", "/bin/sh", "-c", answer]
