"""The mirror that this machine's apt uses."""

from __future__ import annotations

import subprocess

from hakoniwa.rootfs.tools.environment import environment

_USUAL = {"debian": "http://deb.debian.org/debian", "ubuntu": "http://archive.ubuntu.com/ubuntu"}


def mirror_of(distribution: str) -> str:
    """The first repository of apt's sources that is one of `distribution`, "debian" or "ubuntu"; else the usual one."""
    words = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment(),
            timeout=30,
            check=False,
        )
        listed = done.stdout.split()
    except (FileNotFoundError, subprocess.TimeoutExpired):
        listed = []  # no Debian
    for address in listed:
        if address.rstrip("/").rpartition("/")[2] == distribution and address.startswith(("http://", "https://")):
            return address.rstrip("/")
    return _USUAL[distribution]
