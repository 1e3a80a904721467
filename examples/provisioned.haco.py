# A small rootfs with steps of provisioning: each is taken once, unless its text changes.
#
#   hako create examples/provisioned.haco.py
#   hako provision examples/provisioned.haco.py                     what is new or has changed since
#   hako provision examples/provisioned.haco.py --run-only greet    a step again
#   hako start examples/provisioned.haco.py

from hakoniwa import Haconiwa
from hakoniwa.types import Inside


def write_motd(box: Inside) -> None:
    box.run(["/bin/sh", "-c", "echo 'made by a function' >> /etc/motd"])


with Haconiwa.define() as config:
    config.name = "provisioned"
    config.init_command = ["/bin/cat", "/etc/motd"]
    config.bootstrap.strategy = "recipe"
    config.bootstrap.recipe = "busybox"

    with config.provision as p:
        p.run_shell("echo 'made by a shell' > /etc/motd", name="greet")
        p.run_python(write_motd, name="motd")
        p.copy("provisioned.haco.py", "/usr/share/", mode=0o644)

    config.mount_independent("procfs", "sysfs", "devtmpfs")
