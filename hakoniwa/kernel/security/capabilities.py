"""Capability sets of this process. `man 7 capabilities`.

By number and not through python-prctl, which refuses capabilities that its own headers do not name: on a newer kernel
those would stay.
"""

from __future__ import annotations

import errno
import os

from hakoniwa.errors import nearest
from hakoniwa.kernel.filesystem.files import read_file
from hakoniwa.kernel.libc import call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# In the order of their numbers (linux/capability.h).
NAMES = [
    "cap_chown",
    "cap_dac_override",
    "cap_dac_read_search",
    "cap_fowner",
    "cap_fsetid",
    "cap_kill",
    "cap_setgid",
    "cap_setuid",
    "cap_setpcap",
    "cap_linux_immutable",
    "cap_net_bind_service",
    "cap_net_broadcast",
    "cap_net_admin",
    "cap_net_raw",
    "cap_ipc_lock",
    "cap_ipc_owner",
    "cap_sys_module",
    "cap_sys_rawio",
    "cap_sys_chroot",
    "cap_sys_ptrace",
    "cap_sys_pacct",
    "cap_sys_admin",
    "cap_sys_boot",
    "cap_sys_nice",
    "cap_sys_resource",
    "cap_sys_time",
    "cap_sys_tty_config",
    "cap_mknod",
    "cap_lease",
    "cap_audit_write",
    "cap_audit_control",
    "cap_setfcap",
    "cap_mac_override",
    "cap_mac_admin",
    "cap_syslog",
    "cap_wake_alarm",
    "cap_block_suspend",
    "cap_audit_read",
    "cap_perfmon",
    "cap_bpf",
    "cap_checkpoint_restore",
]

# What a container has unless its file says otherwise: enough for package managers and ordinary services.
DEFAULT = [
    "cap_audit_write",
    "cap_chown",
    "cap_dac_override",
    "cap_fowner",
    "cap_fsetid",
    "cap_kill",
    "cap_net_bind_service",
    "cap_setfcap",
    "cap_setgid",
    "cap_setpcap",
    "cap_setuid",
    "cap_sys_chroot",
]

READING = 1 << 1 | 1 << 2  # cap_dac_override and cap_dac_read_search: what reads any file, whatever its mode

_VERSION_3 = 0x20080522
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_MOST = 64  # that the sets have room for
_STRANGER = 2**32 - 2  # the last id, which nothing belongs to; the one of "nobody" owns files here and there


def normal(name: str) -> str:
    """`CAP_CHOWN`, `chown` and `cap_chown` are one name. Raises ValueError when there is no such capability."""
    word = _prefixed(name)
    if word not in NAMES:
        raise ValueError(name)
    return word


def suggest(name: str) -> str:
    """The capability that an unknown name may mean, in words."""
    return nearest(_prefixed(name), NAMES)


def _prefixed(name: str) -> str:
    word = name.lower()
    return word if word.startswith("cap_") else f"cap_{word}"


def mask(names: Iterable[str]) -> int:
    """The names as a bit mask."""
    return sum(1 << NAMES.index(name) for name in set(names))


def names(bits: int) -> list[str]:
    """The bits that have a name, as names."""
    return [name for number, name in enumerate(NAMES) if bits >> number & 1]


def held(pid: str = "self") -> int:
    """The bounding set of a process cut down to its permitted set: what it could hand to a child at most."""
    lines = read_file(f"/proc/{pid}/status").splitlines()
    bits = {line[:6]: int(line[7:], 16) for line in lines if line.startswith((b"CapPrm:", b"CapBnd:"))}
    return bits[b"CapPrm"] & bits[b"CapBnd"]


def every() -> int:
    """All that this kernel knows: what the first process of a user namespace has in it. `man 7 user_namespaces`."""
    return (2 << int(read_file("/proc/sys/kernel/cap_last_cap"))) - 1


def limit_bounding(bits: int) -> None:
    """Drop everything but `bits` from the bounding set, numbers unknown to this file included."""
    for number in range(_MOST):
        if bits >> number & 1:
            continue
        try:
            call("prctl", _PR_CAPBSET_DROP, number, 0, 0, 0)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return  # past the last capability of this kernel
            if call("prctl", _PR_CAPBSET_READ, number, 0, 0, 0):
                raise  # to lack what was not there takes no cap_setpcap


def act_on_files_as(uid: int, gid: int) -> None:
    """Own what this process makes from here on as another user, and keep every capability. `man 2 setfsuid`."""
    held_now = held()
    call("setfsgid", gid)
    call("setfsuid", uid)
    set_sets(held_now)  # leaving 0 has taken those on files away


class AsStranger:
    """Until the block ends, look at files as a user that owns none and is in no group; of all capabilities, mount.

    What is mounted meanwhile and keeps the credentials of who has mounted it, an overlay for one, goes on so.
    """

    def __enter__(self) -> None:
        self._held = held()
        self._groups = os.getgroups()
        os.setgroups([])
        call("setfsgid", _STRANGER)
        call("setfsuid", _STRANGER)
        set_sets(self._held, without=~mask(["cap_sys_admin"]))

    def __exit__(self, *failure: object) -> None:
        call("setfsuid", 0)
        call("setfsgid", 0)
        set_sets(self._held)
        os.setgroups(self._groups)


def set_sets(permitted: int, *, without: int = 0) -> None:
    """Set permitted and effective to `permitted`, inheritable to nothing; the kernel then empties ambient. `man 2 capset`.

    `without` is left out of the effective set. For root, the next program has it there again.
    """
    sets = (permitted & ~without, permitted, 0)
    data = b"".join((bits >> shift & 0xFFFFFFFF).to_bytes(4, "little") for shift in (0, 32) for bits in sets)
    call("capset", _VERSION_3.to_bytes(4, "little") + bytes(4), data)
