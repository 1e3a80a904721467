"""Where hakoniwa keeps things (docs/guide.md, "Places")."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError


def _place(override: str, for_root: str, variable: str, fallback: str) -> str:
    """`override` from the environment, else the place for root, else below the user's own XDG folder."""
    chosen = os.environ.get(override)
    if chosen:
        return os.path.abspath(chosen)
    if os.geteuid() == 0:
        return for_root
    base = os.environ.get(variable) or os.path.join(os.path.expanduser("~"), fallback)
    return os.path.join(base, "hakoniwa")


def run_dir() -> str:
    """State, locks and sockets of what runs; gone at the next boot."""
    return _place("HAKONIWA_RUN_DIR", "/run/hakoniwa", "XDG_RUNTIME_DIR", ".cache/run")


def lib_dir() -> str:
    """Root file systems."""
    return _place("HAKONIWA_LIB_DIR", "/var/lib/hakoniwa", "XDG_DATA_HOME", ".local/share")


def cache_dir() -> str:
    """What can be fetched or computed again."""
    return _place("HAKONIWA_CACHE_DIR", "/var/cache/hakoniwa", "XDG_CACHE_HOME", ".cache")


def log_dir() -> str:
    """A log file per container."""
    return _place("HAKONIWA_LOG_DIR", "/var/log/hakoniwa", "XDG_STATE_HOME", ".local/state")


def global_file() -> str:
    """Defaults for all container files."""
    if os.geteuid() == 0:
        return "/etc/hakoniwa.conf.py"
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(base, "hakoniwa", "conf.py")


def ensure_private(folder: str) -> str:
    """`folder`, made with its parents, closed to others: what lies in it holds set-uid files and control files."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except NotADirectoryError:
        raise NotADirectoryError(20, os.strerror(20), folder) from None
    must_be_private(folder)
    return folder


def must_be_private(folder: str) -> None:
    """Raise HakoError where another user could put something of theirs into a folder of ours."""
    status = os.stat(folder)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise HakoError(
            f"the folder {folder} is not ours alone", hint=f"chown {os.geteuid()} {folder} && chmod go-w {folder}"
        )
