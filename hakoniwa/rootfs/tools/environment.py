"""The environment of the host's programs that a build runs: of our making, whatever the caller's has in it.

GIT_DIR and its like (`man 1 git`, "ENVIRONMENT VARIABLES") would lead git to another repository, TAR_OPTIONS, XZ_OPT,
APT_CONFIG or BASH_ENV other programs to other deeds.
"""

from __future__ import annotations

import os

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROXIES = tuple(
    word for name in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy") for word in (name, name.upper())
)
# Who the caller is, with what keys and certificates they reach others, and where they want files and times.
_PASSED_ON = (
    *PROXIES,
    "HOME",
    "USER",
    "LOGNAME",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "TMPDIR",
    "SOURCE_DATE_EPOCH",
)


def environment(more: dict[str, str] | None = None) -> dict[str, str]:
    """It, with `more` in it."""
    return {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "DEBIAN_FRONTEND": "noninteractive",  # nobody is there to answer (`man 7 debconf`)
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        **(more or {}),
    }
