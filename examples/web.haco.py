# haconiwa's sample of a network, in its words. The bridge is made if it is missing.
#
#   hako start -D examples/web.haco.py
#   wget -qO- http://10.254.254.10/
#   ip netns exec haconiwa-nw-test ip address

import os

from hakoniwa import Haconiwa

with Haconiwa.define() as config:
    config.name = f"haconiwa-nw-test{os.environ.get('SUFFIX', '')}"  # to be hostname
    config.init_command = ["httpd", "-f", "-h", "/etc"]
    config.daemonize()

    root = config.chroot_to("/var/lib/hakoniwa/8cfccb3d")
    config.bootstrap.strategy = "recipe"
    config.bootstrap.recipe = "busybox"
    config.mount_independent("procfs")
    config.mount_independent("sysfs")
    config.mount_independent("devtmpfs")
    config.mount_independent("devpts")

    config.namespace.unshare("mount")
    config.namespace.unshare("ipc")
    config.namespace.unshare("uts")
    config.namespace.unshare("pid")

    config.network.namespace = config.name
    config.network.container_ip = "10.254.254.10"
    config.network.bridge_name = "hogehoge0"

    config.capabilities.allow("cap_sys_chroot")
    config.capabilities.allow("cap_kill")
