"""`hako new`: write a commented container file, or the global file; or make a bridge that stays."""

from __future__ import annotations

import os
import shlex

from hakoniwa.errors import HakoError, nearest, printable
from hakoniwa.haco.build import joined_name, name_parts
from hakoniwa.haco.reading import short
from hakoniwa.options import Command, Given, Option, usage_error
from hakoniwa.places import global_file, lib_dir, make_parents
from hakoniwa.spec.networks import BRIDGE, BRIDGE_IP
from hakoniwa.spec.rules import checks
from hakoniwa.spec.strategies import SETTINGS

COMMAND = Command(
    name="new",
    summary="Write a commented container file, which works as it stands. Never overwrites.",
    options=(
        Option(
            flags=("-n", "--name"),
            value="NAME",
            help="the container's name (after the folder and the file if left out)",
        ),
        Option(
            flags=("-r", "--root", "--rootfs"), value="ROOTFS", help="where the rootfs lies (/var/lib/hakoniwa/NAME)"
        ),
        Option(flags=("--strategy",), value="S", help=f"how it is made: {' '.join(SETTINGS)} (host)"),
        Option(flags=("-G", "--global"), help="write the global file instead"),
        Option(flags=("-N", "--bridge"), help="make a bridge that stays, and no file"),
        Option(flags=("-B", "--bridge-name"), value="N", help=f"its name ({BRIDGE})"),
        Option(flags=("-I", "--bridge-ip"), value="IP/MASK", help=f"its address ({BRIDGE_IP})"),
        Option(flags=("--template",), value="T", help="begin with another file", later=True),
    ),
    file="optional",
    undone=True,
)

_FILE = """\
# {title}: a container for hakoniwa.
#
#   hako start -b {file}      build the rootfs where it is missing, and run it
#   hako attach {file}        a shell inside the running container
#   hako kill {file}          end it

from hakoniwa import Haconiwa

with Haconiwa.define() as config:
{name}
{rootfs}
    # What runs inside: a list of arguments, never a shell line. Unset: bash, or sh where there is none.
    # config.init_command = ["/bin/bash", "-l"]
    # config.init = "tini"                  # put a reaping, signal-forwarding init before it
    # config.daemonize()                    # in the background by default, as with `hako start -D`

    with config.bootstrap as b:
{bootstrap}

    # What is done inside once the rootfs is made; each step once, unless its text changes.
    # config.provision.run_shell("apt-get update && apt-get -y install git", name="git")
    # config.provision.copy("motd", "/etc/motd")

    # File systems of the container's own: /proc, a read-only /sys, a private /dev with terminals.
    config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")
    config.add_mount_point("tmpfs", to="/tmp", fs="tmpfs", options="mode=1777")
    config.mount_network_etc()              # resolv.conf and hosts from the host
    # config.add_mount_point(".", to="/work", idmap=True)          # this folder; this file is read-only there
    # config.add_mount_point("/srv/data", to="/data", readonly=True)

    # Namespaces: mount, uts, ipc and pid are the container's own; net is the host's unless asked for.
    # config.namespace.unshare("net")       # only lo inside
    # config.namespace.unshare("user")      # root inside is nobody outside; an ordinary user always has it
    # config.limit(memory="512M", cpus=0.5, pids=200)

    # The environment is PATH, HOME, TERM, container=hakoniwa and this; nothing of the host's.
    # config.environ["LANG"] = "C.UTF-8"
    # config.workdir = "/work"
    # config.uid = "www-data"               # a user of the container, by name or number

    # config.resource.set_limit("NOFILE", 1024)
    # config.capabilities.allow("cap_net_raw")
    # config.no_new_privs = False           # needed for sudo and su inside
    # config.seccomp.filter().kill("ptrace")                       # on top of the default profile
"""

_GLOBAL = """\
# Defaults for all container files of this machine; each file may say otherwise.

from hakoniwa import Haconiwa

Haconiwa.configure(
    log_level="info",
    # environ={"LANG": "C.UTF-8"},
    # no_new_privs=True,
)
"""


def run(given: Given) -> int:
    """Write the one file that is asked for, or make the bridge."""
    about_bridge: list[str] = [word for word in ("bridge", "bridge_name", "bridge_ip") if word in given.options]
    if about_bridge:
        return _make_bridge(given, about_bridge)
    if given.flag("global"):
        others = [word for word in ("name", "rootfs", "strategy") if word in given.options]
        if others or given.file is not None:
            what = given.file if given.file is not None else f"--{others[0]}"
            raise usage_error(f"--global writes the global file, and {what} is about another one", "new")
        path = global_file()
        make_parents(path)
        _write(path, _GLOBAL)
        return 0
    if given.file is None:
        raise usage_error("which file?", "new", "hako new dev.haco.py")
    path = _with_ending(given.file)
    _write(path, _content(given, path))
    return 0


def _make_bridge(given: Given, words: list[str]) -> int:
    """Make the bridge, unless it is there already as it is asked for."""
    from hakoniwa.network import overview
    from hakoniwa.spec.rules import addresses

    if "bridge" not in words:
        raise usage_error(f"--{words[0].replace('_', '-')} goes with --bridge", "new", "hako new --bridge")
    others = [word for word in ("name", "rootfs", "strategy", "global") if word in given.options]
    if others or given.file is not None:
        what = given.file if given.file is not None else f"--{others[0]}"
        raise usage_error(f"--bridge makes a bridge, and {what} is about a file", "new")
    asked = {
        "--bridge-name": given.value("bridge_name") or BRIDGE,
        "--bridge-ip": given.value("bridge_ip") or BRIDGE_IP,
    }
    checked = {}
    for flag, check in (("--bridge-name", addresses.link_name), ("--bridge-ip", addresses.bridge_address)):
        try:
            checked[flag] = check(asked[flag])
        except checks.Wrong as wrong:
            raise usage_error(f"it must be {wrong}, not {short(asked[flag])}", flag, wrong.hint) from None
    print(overview.keep(checked["--bridge-name"], checked["--bridge-ip"]))
    return 0


def _with_ending(path: str) -> str:
    """The path of a file that commands find where none is named: `dev` is `dev.haco.py`."""
    if path.endswith("/") or os.path.isdir(path):
        raise usage_error(f"{path} names a folder", "new", f"hako new {path.rstrip('/')}/dev.haco.py")
    return path if path.endswith(".py") else f"{path.removesuffix('.haco')}.haco.py"


def _content(given: Given, path: str) -> str:
    file = os.path.basename(path)
    folder, stem = name_parts(os.path.realpath(path))
    chosen = given.value("name")
    try:
        name = checks.name(chosen) if chosen is not None else joined_name(folder, checks.name(stem))
    except checks.Wrong as wrong:
        hint = "" if chosen is not None else "choose one with -n NAME"
        wanted = stem if chosen is None else chosen
        raise usage_error(f"a name must be {wrong}, not {short(wanted)}", "new", hint) from None
    strategy = given.value("strategy") or "host"
    if strategy not in SETTINGS:
        raise usage_error(f"strategy {strategy!r} is unknown", "--strategy", nearest(strategy, [*SETTINGS]))
    named = f"    config.name = {name!r}"
    if chosen is None:
        named = f"    # config.name = {name!r}   # this, unless set: after the folder and the file"
    rootfs = given.value("rootfs")
    if rootfs is not None:
        line = f"    config.chroot_to({os.path.abspath(rootfs)!r})"
    else:
        line = f"    # config.chroot_to({os.path.join(lib_dir(), name)!r})   # where the rootfs lies"
    return _FILE.format(
        title=name, file=printable(shlex.quote(file)), name=named, rootfs=line, bootstrap=_example(strategy)
    )


def _example(strategy: str) -> str:
    from importlib import import_module
    from textwrap import indent

    example: str = import_module(f"hakoniwa.rootfs.strategies.{strategy}").EXAMPLE
    return indent(example.rstrip("\n"), " " * 8)


def _write(path: str, content: str) -> None:
    """Write a new file that only its owner may change, whatever the umask is: root would execute it."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise HakoError(
            "the file is there already, and is not overwritten", where=path, hint="choose another name"
        ) from None
    except OSError as error:
        raise HakoError(error.strerror or str(error), where=path) from None
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        stream.write(content)
    print(path)
