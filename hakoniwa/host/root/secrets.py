"""What of the host is not shown in a `host` rootfs, although every user of the host might read it.

What only some users may read is hidden by the root itself (steps/files/root.py), whenever it comes to be there. What is named
here is hidden in the rootfs's upper layer, once, when that is made: so of folders in which anything may appear later it
says what *is* shown. Besides, what programs expect is put in the place of what they could not read: an empty folder, no
file, password files without their hashes.
"""

from __future__ import annotations

import errno
import os
import stat

from hakoniwa import places
from hakoniwa.host.root.shadows import open_upper, password_files
from hakoniwa.host.root.upper import UpperLayer, is_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Shown empty. /run and /tmp are mounts of their own on most systems, which are not included; so they are not shown.
EMPTIED = ("/root", "/home", "/run", "/tmp", "/var/tmp", "/var/backups", "/var/crash", "/var/mail")
_FOLDERS_ALONE = ("/var/log", "/var/spool")  # shown without files: programs do not make the folders in them
_NEVER = (
    "/etc/apt/auth.conf",
    "/etc/apt/auth.conf.d",
    "/etc/machine-id",
    "/etc/nshadow",
    "/etc/security/nopasswd",
    "/etc/security/opasswd",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/var/lib/dbus/machine-id",
)
# Of /var/lib, besides what belongs to another user than root: folders of services that run as root, or hold others'.
_SERVICES = frozenset(
    "AccountsService NetworkManager cloud cni containerd containers dhcp docker etcd incus k3s kubelet letsencrypt"
    " libvirt lxc lxcfs lxd machines portables puppet rancher rkt samba sss tailscale tor".split()
)
_TLS = ("certs", "openssl.cnf")  # of /etc/ssl
_HOST_KEY = "ssh_host_"  # not of /etc/ssh
# What packages install for some users alone, though it is no secret: what cannot be read, dpkg cannot replace.
_PUBLIC = ("/usr/bin/dumpcap", "/usr/sbin/pppd", "/usr/share/polkit-1/rules.d")
_OVERRIDES = "/var/lib/dpkg/statoverride"  # the other part of that. `man 1 dpkg-statoverride`
_LARGE = "/var/lib/dpkg/info"  # everybody may read everything in it

_NAMES = ("/etc/passwd", "/etc/group")


def hide_secrets(root: int) -> None:
    """Hide in a new upper layer what is to be hidden."""
    upper = UpperLayer(root)
    for path in (*EMPTIED, *_own_folders()):
        upper.empty(os.path.realpath(path))
    for path in _FOLDERS_ALONE:
        _keep_folders(upper, path, 3)
    for path in _NEVER:
        upper.remove(path)
    _show_only(upper, "/var/lib", _is_no_service_s)
    _show_only(upper, "/etc/ssl", lambda entry: entry.name in _TLS)
    _show_only(upper, "/etc/ssh", lambda entry: not entry.name.startswith(_HOST_KEY))
    hide_shadows(upper, password_files())
    _replace_unreadable(upper, "/etc", 5)
    _replace_unreadable(upper, "/var/cache", 3)
    for entry in _entries("/var/lib"):
        if entry.is_dir(follow_symlinks=False) and _is_for_all(entry) and _is_no_service_s(entry):
            _replace_unreadable(upper, entry.path, 2)
    if upper.by_root:
        _copy_public(upper)


def hide_new(rootfs: int, names: list[str]) -> None:
    """Hide these password files in a rootfs, a descriptor, that was made before they appeared."""
    upper = open_upper(rootfs)
    try:
        hide_shadows(UpperLayer(upper), names)
    finally:
        os.close(upper)


def hide_shadows(upper: UpperLayer, names: list[str]) -> None:
    """Put copies without hashes in the place of password files, unless something is there already."""
    for name in names:
        path = os.path.join("/etc", name)
        try:
            if not upper.decides_about(path, folder=False):
                _copy_without_hashes(upper, path, name)
        except (NotADirectoryError, FileExistsError):
            return  # the container has something else in the place of /etc, which hides the lower one whole
        except OSError as error:
            if error.errno != errno.ELOOP:  # a symlink, likewise
                raise
            return


def _copy_without_hashes(upper: UpperLayer, path: str, name: str) -> None:
    """Copy a shadow file; each second field becomes `*`, which no password matches. `man 5 shadow`."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            lines = [line.split(b":") for line in file.read().splitlines()]
    except PermissionError:
        status = None  # an ordinary user's layer: the names alone
        with open(_NAMES[name.startswith("gshadow")], "rb") as file:
            lines = [[line.split(b":")[0], *[b""] * (3 if name.startswith("gshadow") else 8)] for line in file]
    except (FileNotFoundError, IsADirectoryError):
        return  # a passing one, of a program that changes passwords at this moment
    for fields in lines:
        if len(fields) > 1:
            fields[1] = b"*"
    upper.write(path, b"".join(b":".join(fields) + b"\n" for fields in lines), status)


def _own_folders() -> list[str]:
    """hakoniwa's own folders, but for those in a folder that is shown empty anyway."""
    own = [places.run_dir(), places.lib_dir(), places.cache_dir(), places.log_dir()]
    return [folder for folder in own if not folder.startswith(tuple(f"{path}/" for path in EMPTIED))]


def _keep_folders(upper: UpperLayer, path: str, depth: int) -> None:
    """Show of a folder nothing but the folders in it, themselves empty."""
    upper.empty(path)
    for entry in _entries(path):
        if entry.is_symlink():
            upper.copy(entry.path)
        elif entry.is_dir() and depth > 1:
            _keep_folders(upper, entry.path, depth - 1)


def _show_only(upper: UpperLayer, path: str, shown: Callable[[os.DirEntry[str]], bool]) -> None:
    """Show of a folder what is there now and `shown` takes, and nothing that comes later.

    An ordinary user's overlay follows no redirects: there what comes later is shown, if that user may read it.
    """
    for entry in _entries(path):
        seen = _is_for_all(entry) and shown(entry)
        if not upper.by_root:
            if not seen:
                upper.empty(entry.path)
        elif seen and entry.is_dir(follow_symlinks=False):
            upper.redirect(entry.path)
        elif seen:
            upper.copy(entry.path)
    if upper.by_root:
        upper.empty(path)


def _replace_unreadable(upper: UpperLayer, path: str, depth: int) -> None:
    """Put what programs can work with in the place of what they would find and could not read."""
    for entry in _entries(path):
        folder = entry.is_dir(follow_symlinks=False)
        if entry.is_symlink() or entry.path == _LARGE or upper.decides_about(entry.path, folder=folder):
            continue
        if not _is_for_all(entry):
            upper.empty(entry.path)
        elif folder and depth > 1:
            _replace_unreadable(upper, entry.path, depth - 1)


def _copy_public(upper: UpperLayer) -> None:
    """Show what packages have installed all the same."""
    try:
        with open(_OVERRIDES, encoding="utf-8", errors="surrogateescape") as file:
            overridden = [line.split(" ", 3)[-1].rstrip("\n") for line in file]
    except OSError:
        overridden = []
    for path in (*_PUBLIC, *(path for path in overridden if path.startswith("/usr/"))):
        if upper.decides_about(path, folder=is_folder(path)):
            continue
        if is_folder(path):
            upper.make_opaque(path)
            for entry in _entries(path):
                upper.copy(entry.path)
        else:
            upper.copy(path)


def _entries(path: str) -> list[os.DirEntry[str]]:
    """What is in a folder, with the status of each; nothing if there is none, or we may not look."""
    found: list[os.DirEntry[str]] = []
    if not is_folder(path):
        return found
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                try:
                    entry.stat(follow_symlinks=False)  # an entry remembers that, whatever becomes of the file
                    found.append(entry)
                except FileNotFoundError:
                    pass
    except (FileNotFoundError, PermissionError):
        pass
    return found


def _is_for_all(entry: os.DirEntry[str]) -> bool:
    """Whether everybody may read it; a folder has to be entered, too."""
    mode = entry.stat(follow_symlinks=False).st_mode
    wanted = 0o005 if stat.S_ISDIR(mode) else 0o004
    return mode & wanted == wanted


def _is_no_service_s(entry: os.DirEntry[str]) -> bool:
    return entry.stat(follow_symlinks=False).st_uid == 0 and entry.name not in _SERVICES
