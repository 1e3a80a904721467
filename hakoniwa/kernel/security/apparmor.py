"""AppArmor: the profile that a process changes to when it executes its next program. `man 2 aa_change_profile`."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError

_OWN = "apparmor/exec"  # since Linux 5.8; before, the file of whichever security module comes first
_SHARED = "exec"
_PROFILES = "/sys/kernel/security/apparmor/profiles"


def attribute() -> str:
    """The file below /proc/PID/attr that a request is written to. Raises HakoError on a kernel without AppArmor."""
    if not os.path.isdir("/sys/module/apparmor") or not is_enabled():
        raise HakoError("this kernel has no AppArmor", hint="remove config.apparmor, or boot with apparmor=1")
    return _OWN if os.path.exists(f"/proc/self/attr/{_OWN}") else _SHARED


def attributes_of(pid: int | str) -> int:
    """The folder /proc/PID/attr of a process as a mount of its own, from which no `..` leads on into the host's /proc.

    A request counts only where the process itself opens the file, in the program that it is then executing. Needs
    cap_sys_admin in the mount namespace. Raises OSError; the descriptor is the caller's.
    """
    from hakoniwa.kernel.filesystem import mount

    return mount.clone_tree(f"/proc/{pid}/attr", recursive=False)


def is_enabled() -> bool:
    """Whether this kernel has it, and was booted with it."""
    try:
        with open("/sys/module/apparmor/parameters/enabled") as file:
            return file.read().strip() == "Y"
    except OSError:
        return False


def on_exec(profile: str) -> str:
    """The request to change to a profile. Raises HakoError where none of that name is loaded, as far as can be seen."""
    known = loaded()
    if known is not None and profile not in (*known, "unconfined"):
        from hakoniwa.errors import nearest

        hint = nearest(profile, known) if known else "apparmor_parser -r FILE loads one"
        raise HakoError(f"the AppArmor profile {profile!r} is not loaded", hint=hint)
    return f"exec {profile}"


def loaded() -> list[str] | None:
    """The profiles that are loaded; None where that cannot be read: securityfs is not mounted, or for root only."""
    try:
        with open(_PROFILES) as file:
            return [line.rpartition(" (")[0] for line in file]
    except OSError:
        return None
