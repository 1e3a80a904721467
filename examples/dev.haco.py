# A shell for development: the folder of this file is /work inside, writable but for this file; everything else stays inside.
# Without root, too.
#
#   hako start -b examples/dev.haco.py

from hakoniwa import Haconiwa

with Haconiwa.define() as config:
    config.name = "dev-shell"
    config.bootstrap.strategy = "host"
    config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")
    config.mount_network_etc()
    config.add_mount_point("tmpfs", to="/tmp", fs="tmpfs", options="mode=1777")
    config.add_mount_point(".", to="/work", idmap=True)  # what is made there belongs to the folder's owner
    config.workdir = "/work"
    config.environ["LANG"] = "C.UTF-8"
