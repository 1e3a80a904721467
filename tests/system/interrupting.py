"""Runs `hako` with one moment at which a signal comes: tests choose it.

interrupting.py WHO CALL SIGNAL LAST WORDS...   WHO ("command", or "supervisor": its first child) sends itself SIGNAL just
                                                before its CALLth call of a Python function; at the latest before it calls
                                                the function LAST. The number of that call is written to descriptor 100.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from hakoniwa import cli

TOLD = 100

who, call, number, last, *words = sys.argv[1:]
command = os.getpid()
count = 0
sent = False


def is_meant() -> bool:
    return os.getpid() == command if who == "command" else os.getppid() == command


def look(frame: FrameType, event: str, _argument: object) -> None:
    """Before each call."""
    global count, sent
    if event != "call" or sent or not is_meant():
        return
    count += 1
    if count == int(call) or frame.f_code.co_name == last:
        sent = True
        os.write(TOLD, str(count).encode())
        os.kill(os.getpid(), int(number))


os.set_inheritable(TOLD, False)
sys.argv[1:] = words
signal.signal(signal.SIGINT, signal.SIG_DFL)  # as the launcher does
sys.setprofile(look)
cli.main()
