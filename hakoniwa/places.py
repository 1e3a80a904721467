"""Where hakoniwa keeps things (docs/guide.md, "Places")."""

from __future__ import annotations

import os

from hakoniwa.trust import check_folder

_trusted: set[str] = set()  # the folders of this process that were found to be ours


def _place(override: str, for_root: str, variable: str, fallback: str) -> str:
    """`override` from the environment, else the place for root, else below the user's own XDG folder.

    Raises HakoError where that could be somebody else's: what is read there is believed.
    """
    chosen = os.environ.get(override)
    if chosen:
        folder = os.path.abspath(chosen)
    elif os.geteuid() == 0:
        folder = for_root
    else:
        base = os.environ.get(variable) or os.path.join(os.path.expanduser("~"), fallback)
        folder = os.path.join(base, "hakoniwa")
    if folder not in _trusted and check_folder(folder):
        _trusted.add(folder)
    return folder


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
        make_parents(folder)
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    except NotADirectoryError:
        raise NotADirectoryError(20, os.strerror(20), folder) from None
    check_folder(folder)
    return folder


def make_parents(path: str) -> None:
    """Make the folders above `path` that are missing: nobody else may write to them, whatever the umask is."""
    above = os.path.dirname(path)
    if above and not os.path.isdir(above):
        make_parents(above)
        try:
            os.mkdir(above, 0o755)
        except FileExistsError:
            if not os.path.isdir(above):
                raise NotADirectoryError(20, os.strerror(20), above) from None
