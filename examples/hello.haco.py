# The smallest useful container: this system itself, read-only, below a private writable layer.
#
#   hako create examples/hello.haco.py
#   hako start examples/hello.haco.py

from hakoniwa import Haconiwa

with Haconiwa.define() as config:
    config.name = "hello"
    config.init_command = ["/bin/sh", "-c", 'echo "hello from $(hostname), pid $$"']

    config.bootstrap.strategy = "host"
    config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")
    config.add_mount_point("tmpfs", to="/tmp", fs="tmpfs", options="mode=1777")

    config.resource.set_limit("NOFILE", 256)
    config.resource.set_limit("CORE", 0)
