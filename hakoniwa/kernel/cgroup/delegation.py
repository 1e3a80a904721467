"""Which part of the unified hierarchy is ours to make groups in.

systemd is the only writer of its tree but for what it delegates: `Delegate=yes` of a unit, which it marks with an extended
attribute or tells when asked (https://systemd.io/CGROUP_DELEGATION). Below such a group, made for us, we make ours there;
root elsewhere makes them below the root of the hierarchy.
"""

from __future__ import annotations

import os

from hakoniwa.kernel.cgroup import v2
from hakoniwa.kernel.filesystem.files import read_file

_MARKS = ("user.delegate", "trusted.delegate")
_CALLERS = "hakoniwa.callers"
_DELEGATED = "/sys/kernel/cgroup/delegate"


def own_group(root: str) -> str:
    """The v2 group of this process. `man 7 cgroups`, /proc/PID/cgroup."""
    for line in os.fsdecode(read_file("/proc/self/cgroup")).splitlines():
        if line.startswith("0::"):
            return root + line[3:].rstrip("/")
    return root


def parent_of_groups(root: str) -> str | None:
    """The group that containers' groups are made in; None where this user has none."""
    path = own_group(root)
    while path != root and path.startswith(root):
        if os.path.basename(path).startswith("user@"):
            break  # delegated to the user's own systemd, which is the only writer there
        if (_is_marked(path) or _user_manager_says_so(path)) and os.access(f"{path}/cgroup.procs", os.W_OK):
            return path
        path = os.path.dirname(path)
    return root if os.geteuid() == 0 else None


def _is_marked(path: str) -> bool:
    for mark in _MARKS:
        try:
            if os.getxattr(path, mark) == b"1":
                return True
        except OSError:
            continue
    return False


def _user_manager_says_so(path: str) -> bool:
    """Whether a unit of the user's own systemd is delegated: that of Debian 12 marks none of its own."""
    if "/user@" not in path or os.geteuid() == 0:
        return False
    import subprocess

    words = ["systemctl", "--user", "show", "--property=Delegate", "--value", "--", os.path.basename(path)]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == "yes"


def make_room(path: str) -> None:
    """Move the processes of a group into one below it: a group with controllers enabled has none itself.

    Documentation/admin-guide/cgroup-v2.rst, "No Internal Process Constraint". Raises OSError.
    """
    below = f"{path}/{_CALLERS}"
    if not os.path.isdir(below):
        os.mkdir(below, 0o755)
    for pid in v2.read(path, "cgroup.procs").split():
        try:
            v2.write(below, "cgroup.procs", pid)
        except ProcessLookupError:
            continue


def give(path: str, uid: int, gid: int) -> None:
    """Delegate a group to a user: groups can be made in it, and its own limits stay ours. Raises OSError."""
    try:
        names = read_file(_DELEGATED).decode().split()
    except FileNotFoundError:  # before Linux 4.15
        names = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]
    os.chown(path, uid, gid)
    for name in names:
        if os.path.exists(f"{path}/{name}") and name.startswith("cgroup."):
            os.chown(f"{path}/{name}", uid, gid)
