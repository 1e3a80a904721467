"""`hako revisions`: versions of what is used, and what the kernel offers."""

from __future__ import annotations

import os
import platform
import sys

from hakoniwa import __version__
from hakoniwa.kernel import cgroup
from hakoniwa.kernel.processes import process
from hakoniwa.kernel.security import apparmor
from hakoniwa.options import JSON, Command, Given

COMMAND = Command(
    name="revisions",
    summary="Print the versions of what is used, and what the kernel offers.",
    options=(JSON,),
    file="",
)

_TOOLS = (
    *("tar", "gzip", "pigz", "bzip2", "lbzip2", "xz", "zstd", "git", "debootstrap", "mmdebstrap", "lxc-create"),
    *("tini-static", "catatonit", "busybox", "newuidmap", "newgidmap", "apparmor_parser"),
)


def run(given: Given) -> int:
    """Collect and print."""
    facts = _collect()
    if given.flag("json"):
        import json

        print(json.dumps({"schema": 1, **facts}, indent=2))
        return 0
    for key, value in facts.items():
        shown = " ".join(str(item) for item in value) if isinstance(value, list) else value
        print(f"{key:<18} {shown}")
    return 0


def _collect() -> dict[str, object]:
    import shutil

    return {
        "hakoniwa": __version__,
        "python": platform.python_version(),
        "python-prctl": _package_version("python-prctl"),
        "cgroupspy": _package_version("cgroupspy"),
        "pyseccomp": _package_version("pyseccomp"),
        "pychroot": _package_version("pychroot"),
        "rich": _package_version("rich"),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "namespaces": [
            name for name in process.NAMESPACES if os.path.exists(f"/proc/self/ns/{process.FILES.get(name, name)}")
        ],
        "overlay": "yes" if _file_system("overlay") else "no",
        "cgroups": cgroup.find_hierarchies().described(),
        "seccomp": "yes" if os.path.exists("/proc/sys/kernel/seccomp/actions_avail") else "no",
        "apparmor": "yes" if apparmor.is_enabled() else "no",
        "tools": [tool for tool in _TOOLS if shutil.which(tool)],
        "executable": sys.executable,
    }


def _package_version(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not found"


def _file_system(name: str) -> bool:
    with open("/proc/filesystems") as file:
        return any(line.split()[-1] == name for line in file)
