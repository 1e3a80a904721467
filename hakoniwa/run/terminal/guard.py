"""A process that does one thing: when the front process of `hako attach` is killed, it gives the terminal back as it was.

(`hako start` has a supervisor for that.)
"""

from __future__ import annotations

import os

from hakoniwa.kernel.processes import process, signals
from hakoniwa.kernel.processes.pidfd import wait_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.run.terminal.front import UserTerminal


def guard_terminal(front: UserTerminal) -> None:
    """Fork the guard. It ends with this process, whose own restoring comes first where it still can."""
    own = os.pidfd_open(os.getpid())
    if os.fork():
        os.close(own)
        return
    try:
        os.setsid()
        for number in (signals.SIGTERM, signals.SIGINT, signals.SIGHUP, signals.SIGQUIT):
            signals.signal(number, signals.SIG_IGN)
        process.close_all_but({own})
        wait_end(own, None)
        front.restore()
    finally:
        os._exit(0)
