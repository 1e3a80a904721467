"""What haconiwa's files say in other words: what to write here. Loaded where a file has such a word."""

from __future__ import annotations

# Of the module `Haconiwa`.
OF_THE_MODULE = {
    "Logger": 'write Haconiwa.log(text, level="info")',
    "current_subcommand": "write Haconiwa.command",
    "Base": "write `with Haconiwa.define() as config:`",
    "Barn": "write `with Haconiwa.define() as config:`",
    "VERSION": "write hakoniwa.__version__",
}
_NOT_NEEDED = "remove it: it is not needed here"
# Of the sections: the word that a message begins with, and its words.
OF_SECTIONS = {
    "config": {
        "guid": "write config.gid",
        "setid": "write config.uid and config.gid",
        "current_subcommand": "write Haconiwa.command",
        "pid_file": "write config.container_pid_file",
        "mount_independent_procfs": 'write config.mount_independent("procfs")',
        "cgroupv2": 'write config.cgroup.v2["..."]',
        "cgroup_name": "write config.cgroup.name; the group is hakoniwa-NAME",
        "seccomp_filter": "write config.seccomp.filter()",
        "apparmor_profile": "write config.apparmor",
        "chroot": "write config.chroot_to()",
        "root": "write config.chroot_to(), which returns the path",
        "unshare": "write config.namespace.unshare()",
        "use_netns": "write config.namespace.use_netns()",
        "mount_point": "write config.add_mount_point()",
        "set_limit": "write config.resource.set_limit()",
        "cancel_daemonize": "remove it: containers run in the foreground unless daemonize() or -D says otherwise, "
        "and with hako start -T in any case",
        "wait_interval": _NOT_NEEDED,
        "use_legacy_watchdog": _NOT_NEEDED,
    },
    "config.rootfs": {
        "root": "write config.chroot_to()",
        "owner_uid": "write config.rootfs_owner(uid=, gid=)",
        "owner_gid": "write config.rootfs_owner(uid=, gid=)",
    },
    "config.filesystem": {
        "skip_make_rslave_on_host_root": _NOT_NEEDED,
        "chroot": "write config.chroot_to()",
        "root_path": "write config.chroot_to(), which returns the path",
        "mount_points": "write config.add_mount_point()",
        "independent_mount_points": "write config.mount_independent()",
        "masked_paths": "write config.filesystem.add_masked_path()",
        "mount_independent": "write config.mount_independent()",
    },
    "config.cgroup": {"assign_only": "write config.cgroup.v2.assign_only"},
    "config.cgroup.v2": {"name": "write config.cgroup.name"},
    "config.command": {
        "init_command": "write config.init_command",
        "session_leader": "write config.acts_as_session_leader()",
        "acts_as_session_leader": "write config.acts_as_session_leader()",
        "daemonize": "write config.daemonize()",
    },
    "config.namespace": {"persist_in": "write config.namespace.unshare(NAME, persist_in=PATH)"},
    "rule": {"trace": 'write rule.trap(...), rule.log(...) or rule.errno(..., "EPERM")'},
}
_NEEDLESS = ("probe", "probe_str", "probe_phase_pass", "current_timer", "PHASE_")

# Of strategies.
STRATEGIES = {
    "mruby": "python",
    "lxc-create": "lxc",
    "git-clone": "git",
    "unarchive": "tarball",
}

_FLAGS = ("nosuid", "nodev", "noexec", "noatime")
_ANY_ADDRESS = "remove it: a port counts on any address"
# Of a word, by the argument; "" is one argument too many.
OF_ARGUMENTS = {
    ("add_mount_point", "data"): 'write options="size=1m"',
    ("add_mount_point", "bind"): "remove it: without fs= it is a bind mount, of all that is mounted below it, too",
    ("add_mount_point", "rec"): "remove it: a bind mount has all that is mounted below it",
    **{("add_mount_point", flag): f'write options="{flag}"' for flag in _FLAGS},
    **{(f"set_{stream}", "container_file"): "write file=" for stream in ("stdin", "stdout", "stderr")},
    ("add_readiness_hook", "readiness_port"): "write port=",
    ("add_readiness_hook", "readiness_ip"): _ANY_ADDRESS,
    ("add_readiness_hook", "readiness_ipv6"): _ANY_ADDRESS,
    ("add_readiness_hook", "nsenter_path"): "remove it: no program is needed to look inside",
    **{("add_readiness_hook", unit): "remove it: the first look is at once" for unit in ("msec", "sec", "min", "hour")},
    ("postprocess", ""): 'decorate a function with @b.postprocess: boot.run(["/bin/sh", "-e", "-c", CODE]) in it',
}


def of_a_section(section: str, name: str) -> str:
    """What to write in the place of a section's word of haconiwa, or nothing where it is not haconiwa's either."""
    return OF_SECTIONS.get(section, {}).get(name, "")


def of_the_module(name: str) -> str:
    """What to write in the place of `Haconiwa.NAME`, or nothing where it is not haconiwa's either."""
    needless = _NOT_NEEDED if name.startswith(_NEEDLESS) else ""
    return OF_THE_MODULE.get(name, needless)
