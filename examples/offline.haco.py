# It is reached through a published port, and reaches nobody: what it has begun itself does not leave.
#
#   hako start -b examples/offline.haco.py

from hakoniwa import Haconiwa

with Haconiwa.define() as config:
    config.name = "offline"
    config.init_command = ["/bin/sh", "-c", "nc -w 2 10.0.0.1 22 </dev/null || echo nobody can be reached"]
    config.bootstrap.strategy = "recipe"
    config.bootstrap.recipe = "busybox"
    config.rootfs.readonly = True
    config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")

    config.network.publish("127.0.0.1:8081:80")
    # Or what it may reach: ["192.0.2.7:443/tcp", "10.0.0.0/24", "dns"]. `hako reload` changes both while it runs.
    config.network.policy = "none"
