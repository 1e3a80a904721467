# Hooks beside the container: each in a thread of the supervisor, so that none delays another.
#
#   hako start -b -D --wait examples/ticker.haco.py
#   hako logs -f examples/ticker.haco.py
#   hako kill -s USR1 --supervisor examples/ticker.haco.py      # asks for a report
#   hako reload examples/ticker.haco.py                         # after an edit

from hakoniwa import Haconiwa
from hakoniwa.types import Base

with Haconiwa.define() as config:
    config.name = "ticker"
    config.init_command = ["/bin/sh", "-c", "sleep 0.2; exec httpd -f -p 127.0.0.1:8080"]
    config.bootstrap.strategy = "recipe"
    config.bootstrap.recipe = "busybox"
    config.namespace.unshare("net")
    config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")
    config.resource.set_limit("NOFILE", 256)
    config.support_reload("resource", "hooks")

    @config.add_readiness_hook(port=8080, timeout=10, interval_msec=50)
    def answers(base: Base, ok: bool) -> bool:
        return ok

    @config.add_async_hook(sec=1, interval_msec=1000)
    def tick(base: Base) -> None:
        base.log(f"tick [{base.pid}]")

    @config.add_timer_hook(cron="*/5 * * * *")
    def every_five_minutes(base: Base) -> None:
        base.log("load: " + base.run(["cat", "/proc/loadavg"]).stdout.strip())

    @config.add_signal_handler("USR1")
    def report(base: Base) -> None:
        base.log(f"up since {base.created_at}")
