# As little as possible: root inside is nobody outside, no network, few processes, no new folders.
#
#   hako start -b examples/isolated.haco.py

from hakoniwa import Haconiwa

with Haconiwa.define() as config:
    config.name = "isolated"
    config.init_command = ["/bin/sh", "-c", "id -u; cat /proc/self/uid_map; mkdir /tmp/x || echo not allowed"]
    config.bootstrap.strategy = "host"
    config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")
    config.add_mount_point("tmpfs", to="/tmp", fs="tmpfs", options="mode=1777")

    config.namespace.unshare("user", "net")
    config.capabilities.drop("all")
    config.resource.set_limit("NPROC", 100)
    config.resource.oom_score_adj = 500

    with config.seccomp.filter() as rule:
        rule.errno("mkdir", "mkdirat", "EPERM")
        rule.kill("ptrace")
