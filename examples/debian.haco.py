# A Debian of its own with git in it, as a place to work in. It is built once; every further box of the same is there at once.
#
#   hako start -b examples/debian.haco.py            build it where it is missing (a minute), and a shell inside
#   hako snapshot examples/debian.haco.py clean      keep it as it is now,
#   hako rollback examples/debian.haco.py clean      and go back to that
#   hako archive examples/debian.haco.py -d debian.tar.zst

from hakoniwa import Haconiwa

with Haconiwa.define() as config:
    config.name = "debian"

    with config.bootstrap as b:
        b.strategy = "debootstrap"
        b.debian_release = "bookworm"
        b.variant = "minbase"

    with config.provision as p:
        p.run_shell("apt-get -q update && apt-get -qy --no-install-recommends install git", name="git")
        p.run_shell("useradd --create-home --shell /bin/bash dev", name="user")

    config.uid = "dev"
    config.workdir = "/home/dev"
    config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")
    config.add_mount_point("tmpfs", to="/tmp", fs="tmpfs", options="mode=1777")
    config.mount_network_etc()
