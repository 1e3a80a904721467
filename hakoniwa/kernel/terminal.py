"""Terminals: a container's own pty, and the user's terminal while the container has it. `man 4 tty_ioctl`, `man 7 pty`."""

from __future__ import annotations

import fcntl
import os
import termios

from hakoniwa.kernel.libc import call
from hakoniwa.kernel.processes.signals import SIG_DFL, SIG_IGN, SIGTTOU, signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TIOCSPTLCK, _TIOCGPTPEER = 0x40045431, 0x5441  # asm-generic/ioctls.h
_SIZE = 8  # struct winsize: rows, columns, and two fields that nobody fills in


def open_pty(devpts: int) -> tuple[int, int]:
    """A new pty of the devpts instance that `devpts` (a mount, perhaps attached nowhere) refers to: (master, slave).

    Neither end is opened by a path of the container, which could name another instance (CVE-2025-52565).
    """
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    master = os.open("ptmx", flags, dir_fd=devpts)
    fcntl.ioctl(master, _TIOCSPTLCK, bytes(4))
    slave = call("ioctl", master, _TIOCGPTPEER, flags)
    return master, slave


def copy_size(source: int, target: int) -> None:
    """Give one terminal the size of another."""
    fcntl.ioctl(target, termios.TIOCSWINSZ, fcntl.ioctl(source, termios.TIOCGWINSZ, bytes(_SIZE)))


def settings(terminal: int) -> list[Any]:
    """The settings of a terminal, for `restore`."""
    return termios.tcgetattr(terminal)


def make_raw(terminal: int) -> None:
    """Let every byte through as it is, in both directions. `man 3 termios`, cfmakeraw."""
    mode = termios.tcgetattr(terminal)
    mode[0] &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    mode[1] &= ~termios.OPOST
    mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
    termios.tcsetattr(terminal, termios.TCSANOW, mode)


def leave_output_alone(terminal: int) -> None:
    """Have the pty pass output as it is: the user's terminal, not raw, does the conversion already."""
    mode = termios.tcgetattr(terminal)
    mode[1] &= ~termios.OPOST
    termios.tcsetattr(terminal, termios.TCSANOW, mode)


def restore(terminal: int, saved: list[Any]) -> None:
    """Put the settings back, from the background as well (SIGTTOU would stop us). A vanished terminal is no error."""
    signal(SIGTTOU, SIG_IGN)
    try:
        termios.tcsetattr(terminal, termios.TCSADRAIN, saved)
    except (OSError, termios.error):
        pass
    signal(SIGTTOU, SIG_DFL)


def make_controlling(slave: int) -> None:
    """Make a terminal the controlling one of this session, which this process leads."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
